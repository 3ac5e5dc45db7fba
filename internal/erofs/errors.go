package erofs

import (
	"errors"
	"fmt"
)

// EntryError says which entry of a layer was refused, and why. The layer is
// malformed or hostile; trying again will not help.
type EntryError struct {
	Entry  string // name as the layer spells it
	Reason string
}

// maxShown bounds how much of a name from a layer goes into a message.
const maxShown = 256

func (e *EntryError) Error() string {
	name := e.Entry
	if len(name) > maxShown {
		name = name[:maxShown] + "..."
	}
	return fmt.Sprintf("layer entry %q: %s", name, e.Reason)
}

func refuse(entry, format string, args ...any) error {
	return &EntryError{Entry: entry, Reason: fmt.Sprintf(format, args...)}
}

var errClosed = errors.New("erofs: the image is already written")

// errStream ends the reading of a layer that is longer than all it could hold.
var errStream = errors.New("layer stream is longer than the limit of the image")
