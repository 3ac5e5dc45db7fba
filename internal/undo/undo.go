// Package undo keeps what a constructor must take back if it fails halfway.
package undo

// Stack is a list of functions to run backwards. The zero value is empty and
// ready. It is not safe for concurrent use: it belongs to one constructor.
//
//	var u undo.Stack
//	defer u.Run()
//	f, err := open()
//	u.Add(func() { f.Close() })
//	...
//	u.Keep()
type Stack struct {
	fns []func()
}

// Add puts f on top of the stack.
func (s *Stack) Add(f func()) { s.fns = append(s.fns, f) }

// Run calls what was added, last first, and empties the stack.
func (s *Stack) Run() {
	for i := len(s.fns) - 1; i >= 0; i-- {
		s.fns[i]()
	}
	s.fns = nil
}

// Keep empties the stack without running it: the work succeeded.
func (s *Stack) Keep() { s.fns = nil }
