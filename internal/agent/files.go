package agent

import "github.com/boxlite-go/boxlite/internal/guest"

// files serves the operations on files.
func (s *stream) files(r *guest.Request) error {
	return fail(guest.KindInvalid, "unknown operation %q", r.Op)
}
