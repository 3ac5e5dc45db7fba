package agent

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// reaper waits for every child and orphan of the agent. It is the only one who
// waits, so no exit status is ever stolen and no zombie stays.
type reaper struct {
	mu      sync.Mutex
	started sync.Cond // broadcast when a child was started, or none is left
	starts  int       // children ever started
	none    bool      // no child or orphan is left
	forking int       // starts under way
	waiting map[int]func(unix.WaitStatus)
	early   map[int]unix.WaitStatus // ended before their start returned
}

func newReaper() *reaper {
	r := &reaper{none: true, waiting: make(map[int]func(unix.WaitStatus)), early: make(map[int]unix.WaitStatus)}
	r.started.L = &r.mu
	return r
}

// start runs fork and arranges that ended is called once, without locks of the
// caller's and before the pid can be used again, with how the process ended.
func (r *reaper) start(fork func() (int, error), ended func(unix.WaitStatus)) (int, error) {
	r.mu.Lock()
	r.forking++
	r.mu.Unlock()

	pid, err := fork()

	r.mu.Lock()
	defer r.mu.Unlock()
	r.forking--
	if err == nil {
		if ws, ok := r.early[pid]; ok {
			ended(ws)
		} else {
			r.waiting[pid] = ended
		}
	}
	if r.forking == 0 {
		clear(r.early)
	}
	r.starts++
	r.none = false
	r.started.Broadcast()
	return pid, err
}

// run reaps for ever.
func (r *reaper) run() {
	for {
		r.mu.Lock()
		seen := r.starts
		r.mu.Unlock()
		// Only look here: the pid must stay taken until reap, under the lock
		// that signal takes.
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil)
		switch err {
		case nil:
			r.reap()
		case unix.ECHILD:
			r.idle(seen)
		}
	}
}

func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if ended, ok := r.waiting[pid]; ok {
			delete(r.waiting, pid)
			ended(ws)
		} else if r.forking > 0 {
			r.early[pid] = ws
		}
	}
}

// idle waits until something was started after seen was read.
func (r *reaper) idle(seen int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.starts == seen {
		if r.forking == 0 {
			r.none = true
			r.started.Broadcast()
		}
		r.started.Wait()
	}
}

// empty reports whether no child or orphan is left.
func (r *reaper) empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.none && r.forking == 0
}

// waitEmpty returns when no child or orphan is left, or stop is closed.
func (r *reaper) waitEmpty(stop <-chan struct{}) {
	done := make(chan struct{})
	defer close(done)
	go func() { // ends with the call
		select {
		case <-stop:
		case <-done:
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.started.Broadcast()
	}()
	r.mu.Lock()
	defer r.mu.Unlock()
	for (!r.none || r.forking > 0) && !closed(stop) {
		r.started.Wait()
	}
}

// signal sends sig to pid if it is a child that has not been reaped.
func (r *reaper) signal(pid int, sig syscall.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.waiting[pid]; !ok {
		return nil
	}
	if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
		return err
	}
	return nil
}
