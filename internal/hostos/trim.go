package hostos

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Text is this process's program in memory: what is mapped of its executable,
// unchanged and not to be changed. The zero value is empty.
type Text struct {
	ranges [][2]uintptr
}

// OwnText finds it, once: the first call must be made while /proc is there.
var OwnText = sync.OnceValue(findText)

func findText() Text {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return Text{}
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return Text{}
	}
	defer f.Close()
	var t Text
	var at [2]uintptr
	var fixed bool
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Bytes()
		if from, to, perms, ok := mapping(line); ok {
			at, fixed = [2]uintptr{from, to}, !bytes.ContainsRune(perms, 'w') && bytes.HasSuffix(line, []byte(" "+self))
			continue
		}
		// A mapping that was written before it was made read-only, as dynamic
		// linkers do, has pages of its own, which no file could give back.
		if n, ok := bytes.CutPrefix(line, []byte("Anonymous:")); ok && fixed && string(bytes.TrimSpace(n)) == "0 kB" {
			t.ranges = append(t.ranges, at)
		}
	}
	return t
}

// mapping reads the line that begins a mapping. A field's name, which ends in a
// colon, may look like half an address.
func mapping(line []byte) (from, to uintptr, perms []byte, ok bool) {
	dash, space := bytes.IndexByte(line, '-'), bytes.IndexByte(line, ' ')
	if dash < 0 || space < dash {
		return 0, 0, nil, false
	}
	first, err1 := strconv.ParseUint(string(line[:dash]), 16, 64)
	last, err2 := strconv.ParseUint(string(line[dash+1:space]), 16, 64)
	perms, _, ok = bytes.Cut(line[space+1:], []byte(" "))
	return uintptr(first), uintptr(last), perms, ok && err1 == nil && err2 == nil
}

// Trim gives the pages back to the kernel, which maps them again one by one
// when they are next used. Most of a program is touched once, when it starts;
// a process that then mostly waits need not hold on to it.
func (t Text) Trim() {
	for _, r := range t.ranges {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, r[0], r[1]-r[0], unix.MADV_DONTNEED)
	}
}
