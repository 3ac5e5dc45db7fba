package erofs

import (
	"path"
	"strings"
)

// File types and permission bits as Linux has them in st_mode.
const (
	modeType = 0o170000
	modeDir  = 0o040000
	modeReg  = 0o100000
	modeLink = 0o120000
	modeFIFO = 0o010000
)

const (
	maxName   = 255  // NAME_MAX, also of EROFS
	maxPath   = 4095 // PATH_MAX without the NUL; bounds symlink targets too
	maxDepth  = 255  // directories below the root
	maxFollow = 40   // symlinks on one path, as Linux has it
	maxWalk   = 1024 // names looked at for one path, symlinks included
)

// node is an inode. A file with several hard links is one node.
type node struct {
	children map[string]child // of a directory; nil otherwise
	sorted   []dirent         // replaces children when the image is laid out
	target   string           // of a symlink
	size     uint64
	nid      uint64
	mtime    int64 // seconds
	nsec     uint32
	uid, gid uint32
	nlink    uint32
	block    uint32 // where data begins
	mode     uint16
	inline   bool // the tail of the data follows the inode
}

// child is a name in a directory. The layer is the last that named it, which
// is what whiteouts go by; it may be above the layer of a linked node.
type child struct {
	node  *node
	layer uint32
}

func (n *node) dir() bool { return n.mode&modeType == modeDir }

// split checks a name of a layer and returns its elements; none for the root.
func (w *Writer) split(entry, name string) ([]string, error) {
	switch {
	case len(name) > maxPath:
		return nil, refuse(entry, "path is longer than %d bytes", maxPath)
	case strings.IndexByte(name, 0) >= 0:
		return nil, refuse(entry, "path has a NUL byte")
	case path.IsAbs(name) && !w.o.AllowAbsolute:
		return nil, refuse(entry, "path %q is absolute; if you trust the image, set allow_absolute_names", name)
	}
	parts := make([]string, 0, strings.Count(name, "/")+1)
	for p := range strings.SplitSeq(name, "/") {
		switch {
		case p == "" || p == ".":
			continue
		case p == "..":
			return nil, refuse(entry, "path %q has a %q element", name, "..")
		case len(p) > maxName:
			return nil, refuse(entry, "name is longer than %d bytes", maxName)
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// resolver walks to a directory as a process that has chrooted into the image
// would: symlinks count from the image's root, whatever they say.
type resolver struct {
	w      *Writer
	entry  string  // for messages
	create bool    // make what is missing
	stack  []*node // from the root to where we are
	steps  int
	links  int
}

// resolve returns the directory that parts name. Without create it returns nil
// when there is none.
func (w *Writer) resolve(entry string, parts []string, create bool) (*node, error) {
	r := resolver{w: w, entry: entry, create: create, stack: append(w.stack[:0], w.root)}
	ok, err := r.walk(parts)
	w.stack = r.stack
	if err != nil || !ok {
		return nil, err
	}
	return r.top(), nil
}

func (r *resolver) top() *node { return r.stack[len(r.stack)-1] }

func (r *resolver) walk(parts []string) (bool, error) {
	for _, p := range parts {
		if ok, err := r.step(p); err != nil || !ok {
			return ok, err
		}
	}
	return true, nil
}

func (r *resolver) step(p string) (bool, error) {
	if r.steps++; r.steps > maxWalk {
		return false, refuse(r.entry, "path has more than %d elements with its symlinks", maxWalk)
	}
	switch p {
	case "", ".":
		return true, nil
	case "..":
		if len(r.stack) == 1 {
			return false, refuse(r.entry, "a symlink on its path leaves the image")
		}
		r.stack = r.stack[:len(r.stack)-1]
		return true, nil
	}
	d := r.top()
	c, found := d.children[p]
	switch {
	case found && c.node.dir():
		return true, r.push(c.node)
	case found && c.node.mode&modeType == modeLink:
		return r.follow(c.node.target)
	case !r.create:
		return false, nil
	case found && c.layer == r.w.layer:
		return false, refuse(r.entry, "parent %q is not a directory", p)
	}
	n, err := r.w.newNode(r.entry, p, modeDir|0o755)
	if err != nil {
		return false, err
	}
	r.w.put(d, p, n)
	return true, r.push(n)
}

func (r *resolver) push(n *node) error {
	if len(r.stack) > maxDepth {
		return refuse(r.entry, "path is deeper than %d directories", maxDepth)
	}
	r.stack = append(r.stack, n)
	return nil
}

func (r *resolver) follow(target string) (bool, error) {
	if r.links++; r.links > maxFollow {
		return false, refuse(r.entry, "path goes through more than %d symlinks", maxFollow)
	}
	if path.IsAbs(target) {
		r.stack = r.stack[:1]
	}
	return r.walk(strings.Split(target, "/"))
}

// newNode counts a node against the limits. The caller puts it in the tree.
func (w *Writer) newNode(entry, name string, mode uint16) (*node, error) {
	if err := w.count(entry, name); err != nil {
		return nil, err
	}
	n := &node{mode: mode}
	if n.dir() {
		n.children = make(map[string]child)
	}
	return n, nil
}

// put gives n the name in d, in place of what had it. A directory over a
// directory is not put: it is the same node.
func (w *Writer) put(d *node, name string, n *node) {
	n.nlink++ // first: n may be linked from below what goes
	if old, found := d.children[name]; found {
		w.unlink(old.node)
	}
	// The clone lets go of the whole path the name is a part of.
	d.children[strings.Clone(name)] = child{n, w.layer}
}

// unlink takes one name from n. The data of a file without names is dead.
func (w *Writer) unlink(n *node) {
	for _, c := range n.children {
		w.unlink(c.node)
	}
	if n.nlink--; n.nlink == 0 && n.mode&modeType == modeReg && n.size > 0 {
		w.dead = append(w.dead, extent{n.block, blocks(n.size)})
	}
}

// hideLower takes away what lower layers put at a name, and keeps what this
// layer put there or below it.
func (w *Writer) hideLower(d *node, name string) {
	c, found := d.children[name]
	if !found {
		return
	}
	kept := c.layer == w.layer
	if c.node.dir() {
		w.hideAllLower(c.node)
		kept = kept || len(c.node.children) > 0
	}
	if !kept {
		w.unlink(c.node)
		delete(d.children, name)
	}
}

func (w *Writer) hideAllLower(d *node) {
	for name := range d.children {
		w.hideLower(d, name)
	}
}
