package restapi

import "testing"

// TestDropSparesASuccessor: who forgets the main command of the last run does
// not forget that of the next one, which has the same id.
func TestDropSparesASuccessor(t *testing.T) {
	ss := newSessions(nil)
	old, next := newSession("box", mainID), newSession("box", mainID)
	ss.byID[[2]string{"box", mainID}] = next
	ss.drop(old)
	if got := ss.get("box", mainID); got != next {
		t.Errorf("got %p, want the successor %p", got, next)
	}
	ss.drop(next)
	if got := ss.get("box", mainID); got != nil {
		t.Errorf("dropped: got %p, want none", got)
	}
}
