package hostos

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// hierarchy is a mounted tree of cgroups, seen from this process.
type hierarchy struct {
	unified     bool     // cgroup v2
	controllers []string // of those we want, the ones it has
	mount       string   // where it is mounted
	own         string   // directory of the cgroup this process is in
}

func (h hierarchy) has(controller string) bool { return slices.Contains(h.controllers, controller) }

// hierarchies reads which there are, from files like /proc/self/cgroup and
// /proc/self/mountinfo.
func hierarchies(cgroups, mountinfo string) ([]hierarchy, error) {
	paths, err := ownCgroups(cgroups)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(mountinfo)
	if err != nil {
		return nil, err
	}
	var hs []hierarchy
	for line := range strings.Lines(string(b)) {
		root, point, fstype, options, ok := parseMount(line)
		if !ok {
			continue
		}
		h := hierarchy{unified: fstype == "cgroup2", mount: point}
		key := ""
		if !h.unified {
			for _, o := range strings.Split(options, ",") {
				if slices.Contains(wanted, o) {
					h.controllers = append(h.controllers, o)
					key = o
				}
			}
			if key == "" {
				continue
			}
		}
		path, ok := paths[key]
		if !ok {
			continue
		}
		rel, err := filepath.Rel(root, path)
		if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			continue // mounted elsewhere in the tree than where we are
		}
		h.own = filepath.Join(point, rel)
		hs = append(hs, h)
	}
	return hs, nil
}

// ownCgroups maps controllers to paths; that of the unified hierarchy is "".
func ownCgroups(file string) (map[string]string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	paths := map[string]string{}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			return nil, fmt.Errorf("%s: unknown line %q", file, line)
		}
		for _, c := range strings.Split(f[1], ",") {
			paths[c] = f[2]
		}
	}
	return paths, nil
}

// parseMount reads a line of mountinfo, if it is of a cgroup file system.
func parseMount(line string) (root, point, fstype, options string, ok bool) {
	before, after, ok := strings.Cut(line, " - ")
	if !ok {
		return "", "", "", "", false
	}
	f, g := strings.Fields(before), strings.Fields(after)
	if len(f) < 6 || len(g) < 3 || !strings.HasPrefix(g[0], "cgroup") {
		return "", "", "", "", false
	}
	return f[3], f[4], g[0], g[2], true
}

// parent returns the cgroup below which one of ours may be made, or "".
func (h *hierarchy) parent() string {
	if !h.unified {
		return h.own
	}
	// Processes may live in leaves alone, so the nearest cgroup above ours
	// that hands out the memory controller is the one.
	for dir := h.own; ; dir = filepath.Dir(dir) {
		if cs := h.handsOut(dir); slices.Contains(cs, "memory") && writable(dir) {
			h.controllers = cs
			return dir
		}
		if dir == h.mount || len(dir) <= len(h.mount) {
			return ""
		}
	}
}

// handsOut tells which of the wanted controllers children of dir have.
func (h *hierarchy) handsOut(dir string) []string {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return nil
	}
	var cs []string
	for _, c := range strings.Fields(string(b)) {
		if slices.Contains(wanted, c) {
			cs = append(cs, c)
		}
	}
	return cs
}

// writable tells whether we may make cgroups in dir and put processes there.
func writable(dir string) bool {
	return unix.Access(dir, unix.W_OK|unix.X_OK) == nil &&
		unix.Access(filepath.Join(dir, "cgroup.procs"), unix.W_OK) == nil
}

// RemoveCgroups removes the cgroups of the box id, wherever its machine made
// them, and kills what is in them. It is for what a crash left behind; with
// nothing there it does nothing.
func RemoveCgroups(id string) error {
	hs, err := hierarchies("/proc/self/cgroup", "/proc/self/mountinfo")
	if err != nil {
		return nil // no /proc: no cgroups
	}
	return removeCgroups(hs, cgroupPrefix+id)
}

// maxWalk bounds the search of a host with very many cgroups.
const maxWalk = 100_000

func removeCgroups(hs []hierarchy, name string) error {
	c := &Cgroup{}
	for _, h := range hs {
		seen := 0
		_ = filepath.WalkDir(h.mount, func(path string, d fs.DirEntry, err error) error {
			if seen++; seen > maxWalk {
				return fs.SkipAll
			}
			if err != nil || !d.IsDir() {
				return nil
			}
			if d.Name() == name {
				c.dirs = append(c.dirs, cgroupDir{h, path})
				return fs.SkipDir
			}
			return nil
		})
	}
	return c.Remove()
}
