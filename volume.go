package boxlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/boxlite-go/boxlite/internal/engine"
)

// Volume is a directory or regular file of the host, or a named volume, that a
// box sees and, unless ReadOnly is set, changes. Give Host or Name.
//
// The path of Host is resolved, symbolic links included, when the box starts;
// what the box does afterwards leads nowhere else. In the box all files of a
// volume belong to root, and on the host what the box makes belongs to the user
// who runs boxlite; a change of owner is accepted and ignored. Sockets, devices
// and FIFOs of the host cannot be used. File locks hold within a box only. What
// a box writes to a volume does not count against its disk size.
type Volume struct {
	// Host is an absolute path. It must exist when the box is created, and
	// when it starts.
	Host string `json:"host,omitempty"`
	// Name is that of a volume made by [Volumes.Create].
	Name string `json:"name,omitempty"`
	// Guest is where it is in the box: an absolute path, made if missing, with
	// nothing else of the host there. Of two volumes that overlap the one with
	// the longer path lies on top.
	Guest string `json:"guest"`
	// ReadOnly is enforced on the host's side: not even one who takes over the
	// kernel of the box can change anything.
	ReadOnly bool `json:"read_only,omitempty"`
}

// ParseVolume reads HOST:GUEST or HOST:GUEST:MODE, where MODE is "ro" or "rw".
// HOST is a path of the host if it begins with a slash or a dot, relative ones
// from the current directory, and otherwise the name of a volume. The error is
// [ErrInvalid].
func ParseVolume(s string) (Volume, error) {
	fail := func(format string, a ...any) (Volume, error) {
		return Volume{}, fmt.Errorf("%w: volume %q: %s", ErrInvalid, s, fmt.Sprintf(format, a...))
	}
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return fail("want HOST:GUEST or HOST:GUEST:ro")
	}
	v := Volume{Guest: parts[1]}
	if len(parts) == 3 {
		switch parts[2] {
		case "ro":
			v.ReadOnly = true
		case "rw":
		default:
			return fail("mode %q: want ro or rw", parts[2])
		}
	}
	switch host := parts[0]; {
	case host[0] == '/' || host == "." || host == ".." || strings.HasPrefix(host, "./") || strings.HasPrefix(host, "../"):
		abs, err := filepath.Abs(host)
		if err != nil {
			return fail("%v", err)
		}
		if strings.HasSuffix(host, "/") && abs != "/" {
			abs += "/" // says that it must be a directory
		}
		v.Host = abs
	case strings.Contains(host, "/"):
		return fail("relative path %q: write ./%s", host, host)
	default:
		v.Name = host
	}
	if err := v.check(); err != nil {
		return Volume{}, err
	}
	return v, nil
}

// String is what ParseVolume reads.
func (v Volume) String() string {
	s := v.source() + ":" + v.Guest
	if v.ReadOnly {
		s += ":ro"
	}
	return s
}

func (v Volume) source() string {
	if v.Name != "" {
		return v.Name
	}
	return v.Host
}

// check finds what is wrong whatever the host looks like.
func (v Volume) check() error {
	var why string
	switch {
	case v.Host == "" && v.Name == "":
		why = "neither a path of the host nor a name"
	case v.Host != "" && v.Name != "":
		why = fmt.Sprintf("both a path of the host, %s, and a name, %s: give one", v.Host, v.Name)
	case v.Name != "" && !nameRE.MatchString(v.Name):
		why = fmt.Sprintf("name %q: %s", v.Name, nameRule)
	case v.Host != "" && !filepath.IsAbs(v.Host):
		why = fmt.Sprintf("path of the host %q: give an absolute one", v.Host)
	}
	if why != "" {
		return fmt.Errorf("%w: volume %q: %s", ErrInvalid, v, why)
	}
	if err := checkText(v.Host, v.Guest); err != nil {
		return fmt.Errorf("volume: %w", err)
	}
	if err := engine.CheckGuest(v.Guest); err != nil {
		return fmt.Errorf("%w: volume %q: %w", ErrInvalid, v, err)
	}
	return nil
}

// maxVolumes bounds the mounts of a box: each takes a connection and some
// threads of two processes.
const maxVolumes = 64

// checkVolumes checks each volume, and that they do not lie on each other.
func checkVolumes(vs []Volume) error {
	if len(vs) > maxVolumes {
		return fmt.Errorf("%w: %d volumes: give at most %d, or one directory that holds several", ErrInvalid, len(vs), maxVolumes)
	}
	at := map[string]Volume{}
	for _, v := range vs {
		if err := v.check(); err != nil {
			return err
		}
		guest := path.Clean(v.Guest)
		if other, taken := at[guest]; taken {
			return fmt.Errorf("%w: volumes %q and %q: both on %s in the box", ErrInvalid, other, v, guest)
		}
		at[guest] = v
	}
	return nil
}

// resolveVolumes finds what of the host the volumes are now.
func (r *local) resolveVolumes(vs []Volume) ([]engine.Volume, error) {
	var out []engine.Volume
	for _, v := range vs {
		host := v.Host
		if v.Name != "" {
			host = r.volumeDir(v.Name)
		}
		resolved, err := resolveHost(host)
		switch {
		case errors.Is(err, fs.ErrNotExist) && v.Name != "":
			return nil, fmt.Errorf("%w: volume %q: no volume has that name; create it first, or begin a path with ./", ErrNotFound, v)
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("%w: volume %q: %w; make it first", ErrNotFound, v, err)
		case err != nil:
			return nil, fmt.Errorf("%w: volume %q: %w", ErrInvalid, v, err)
		}
		out = append(out, engine.Volume{Host: resolved, Guest: path.Clean(v.Guest), ReadOnly: v.ReadOnly})
	}
	slices.SortStableFunc(out, func(a, b engine.Volume) int { return len(a.Guest) - len(b.Guest) })
	return out, nil
}

// holdVolumes checks that the volumes are there, and keeps the named ones from
// being removed until release is called.
func (r *local) holdVolumes(vs []Volume) (release func(), err error) {
	release = func() {}
	if slices.ContainsFunc(vs, func(v Volume) bool { return v.Name != "" }) {
		lock, err := r.lockVolumes()
		if err != nil {
			return nil, err
		}
		release = lock.Unlock
	}
	if _, err := r.resolveVolumes(vs); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// resolveHost follows the symbolic links of a path, once.
func resolveHost(host string) (string, error) {
	resolved, err := filepath.EvalSymlinks(host)
	if err == nil {
		err = checkText(resolved)
	}
	if err != nil {
		return "", err
	}
	st, err := os.Stat(resolved)
	switch {
	case err != nil:
		return "", err
	case strings.HasSuffix(host, "/") && !st.IsDir():
		return "", fmt.Errorf("%s is a file; leave out the slash at the end", resolved)
	case !st.IsDir() && !st.Mode().IsRegular():
		return "", fmt.Errorf("%s is neither a directory nor a regular file", resolved)
	}
	return resolved, nil
}

// mounted says what volumes were at the last start: vs, as the options have
// them, with the host paths that were found.
func mounted(vs []Volume, found []engine.Volume) []Volume {
	var out []Volume
	for _, f := range found {
		v := Volume{Host: f.Host, Guest: f.Guest, ReadOnly: f.ReadOnly}
		for _, o := range vs {
			if path.Clean(o.Guest) == f.Guest {
				v.Name = o.Name
			}
		}
		out = append(out, v)
	}
	return out
}
