package boxlite

import "time"

// ForgetEnded has a runtime of this host forget boxes that ended by themselves, as
// at that time, and returns how many it remembers.
func ForgetEnded(rt *Runtime, at time.Time) int {
	r := rt.on.(*local)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetEndedLocked(at)
	return len(r.shims)
}
