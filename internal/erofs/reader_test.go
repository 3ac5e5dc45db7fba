package erofs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strings"
	"testing"

	gverofs "gvisor.dev/gvisor/pkg/erofs"
)

// file is what a reader sees at one path.
type file struct {
	mode     uint16
	uid, gid uint32
	mtime    int64
	nsec     uint32
	nlink    uint32
	content  string // or target
	first    string // the first path with the same inode
}

// read lists an image with gVisor's reader, which is the one that counts.
func read(t *testing.T, name string) map[string]file {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	img, err := gverofs.OpenImage(f)
	if err != nil {
		t.Fatalf("open image: %v", err)
	}
	defer img.Close()
	r := imageReader{t: t, img: img, files: make(map[string]file), first: make(map[uint64]string)}
	r.walk("/", img.RootNid(), img.RootNid())
	return r.files
}

type imageReader struct {
	t     *testing.T
	img   *gverofs.Image
	files map[string]file
	first map[uint64]string
}

func (r *imageReader) walk(name string, nid, parent uint64) {
	r.t.Helper()
	n, err := r.img.Inode(nid)
	if err != nil {
		r.t.Fatalf("inode of %s: %v", name, err)
	}
	if nid == 0 {
		r.t.Errorf("inode number of %s: got 0", name)
	}
	if _, seen := r.first[nid]; !seen {
		r.first[nid] = name
	}
	r.files[name] = file{
		mode: n.Mode(), uid: n.UID(), gid: n.GID(), mtime: int64(n.Mtime()), nsec: n.MtimeNsec(),
		nlink: n.Nlink(), content: r.content(name, &n), first: r.first[nid],
	}
	if n.IsDir() {
		r.walkDir(name, &n, parent)
	}
}

func (r *imageReader) walkDir(name string, n *gverofs.Inode, parent uint64) {
	r.t.Helper()
	last := ""
	err := n.IterDirents(func(base string, typ uint8, nid uint64) error {
		if base <= last {
			return fmt.Errorf("%q follows %q", base, last)
		}
		last = base
		if found, err := n.Lookup(base); err != nil || found != nid {
			return fmt.Errorf("lookup of %q: got %d, %v, want %d", base, found, err, nid)
		}
		switch base {
		case ".":
			if nid != n.Nid() {
				return errors.New(`"." is another directory`)
			}
		case "..":
			if nid != parent {
				return errors.New(`".." is not the parent`)
			}
		default:
			r.walk(path.Join(name, base), nid, n.Nid())
			if want := fileType(r.files[path.Join(name, base)].mode); typ != want {
				return fmt.Errorf("type of %q: got %d, want %d", base, typ, want)
			}
		}
		return nil
	})
	if err != nil {
		r.t.Errorf("directory %s: %v", name, err)
	}
}

func (r *imageReader) content(name string, n *gverofs.Inode) string {
	r.t.Helper()
	switch {
	case n.IsSymlink():
		target, err := n.Readlink()
		if err != nil {
			r.t.Errorf("readlink %s: %v", name, err)
		}
		return target
	case n.IsRegular():
		if _, err := n.DataOffset(); err != nil {
			r.t.Errorf("data of %s: %v", name, err)
		}
		ranges, err := n.DataRanges()
		if err != nil {
			r.t.Errorf("data of %s: %v", name, err)
		}
		return string(ranges[0].Bytes) + string(ranges[1].Bytes)
	}
	return ""
}

// needFsck skips a test that needs erofs-utils, unless they are required.
func needFsck(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("fsck.erofs"); err != nil {
		if strings.Contains(os.Getenv("BOXLITE_TEST_REQUIRE"), "erofs") {
			t.Fatal("needs fsck.erofs of erofs-utils, which is required")
		}
		t.Skip("needs fsck.erofs: install erofs-utils")
	}
}

// fsck has erofs-utils judge an image.
func fsck(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.Command("fsck.erofs", args...).CombinedOutput()
	if err != nil {
		t.Errorf("fsck.erofs: %v\n%s", err, out)
	}
}
