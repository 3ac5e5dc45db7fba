package engine

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// Volume is a directory or regular file of the host in a box. Duties of the
// engine:
//   - It opens Host once, early in Start, without following any symbolic link,
//     and what it mounts is what it opened: Start fails when Host is missing,
//     has a link in it, is neither directory nor file, or was replaced.
//   - Guest is made in the box if missing, with its parents. Where that is in
//     another volume, a writable one gets it on the host too.
//   - ReadOnly holds on the host's side, whatever runs in the box or takes its
//     kernel over: no byte and no attribute of a file changes.
//   - Nothing done in the box leads out of Host: no link, no name, no race.
//     Sockets, devices and FIFOs of the host can be neither opened nor made.
//   - In the box all files belong to root; what the box makes belongs to the
//     user who runs boxlite. A change of owner is accepted and ignored, and no
//     file gets a set-user-id or set-group-id bit.
//   - What the host changes, the box sees at its next look, and the reverse.
type Volume struct {
	Host     string // absolute and clean
	Guest    string // absolute and clean; see [CheckVolumes]
	ReadOnly bool
}

// reserved are the directories of a box that engines fill.
var reserved = []string{"/proc", "/sys", "/dev", "/.boxlite"}

// maxPath is what Linux takes: 4096 bytes with the one that ends it.
const maxPath = 4095

// CheckGuest tells whether something of the host may be mounted at that path of
// a box.
func CheckGuest(guest string) error {
	switch {
	case !path.IsAbs(guest):
		return fmt.Errorf("path in the box %q: give an absolute one", guest)
	case strings.ContainsRune(guest, 0), len(guest) > maxPath:
		return fmt.Errorf("path in the box %q: longer than %d bytes, or with a zero byte", guest, maxPath)
	case path.Clean(guest) == "/":
		return errors.New(`path in the box "/": a volume cannot be the root of the box; use a rootfs for that`)
	}
	for _, dir := range reserved {
		if clean := path.Clean(guest); clean == dir || strings.HasPrefix(clean, dir+"/") {
			return fmt.Errorf("path in the box %q: %s is the box's own", guest, dir)
		}
	}
	return nil
}

// CheckVolumes refuses volumes that no engine could mount.
func CheckVolumes(vs []Volume) error {
	at := map[string]string{}
	for _, v := range vs {
		if !path.IsAbs(v.Host) || path.Clean(v.Host) != v.Host || path.Clean(v.Guest) != v.Guest {
			return fmt.Errorf("volume %s on %s: paths that are not absolute and clean", v.Host, v.Guest)
		}
		if err := CheckGuest(v.Guest); err != nil {
			return err
		}
		if other, taken := at[v.Guest]; taken {
			return fmt.Errorf("path in the box %q: both %s and %s are to be there", v.Guest, other, v.Host)
		}
		at[v.Guest] = v.Host
	}
	return nil
}
