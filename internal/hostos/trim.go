package hostos

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Text is the part of this process's memory that is a file's, unchanged and
// not to be changed: its program. The zero value is empty.
type Text struct {
	ranges [][2]uintptr
}

// OwnText finds it. It must be called while /proc is there.
func OwnText() Text {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return Text{}
	}
	defer f.Close()
	var t Text
	var at [2]uintptr
	var fixed bool
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Text()
		var from, to uintptr // a field's name may look like half an address
		var perms string
		if n, _ := fmt.Sscanf(line, "%x-%x %4s", &from, &to, &perms); n == 3 {
			at, fixed = [2]uintptr{from, to}, !strings.Contains(perms, "w") && strings.Contains(line, " /")
			continue
		}
		// A mapping that was written before it was made read-only, as dynamic
		// linkers do, has pages of its own, which no file could give back.
		if fixed && strings.Join(strings.Fields(line), " ") == "Anonymous: 0 kB" {
			t.ranges = append(t.ranges, at)
		}
	}
	return t
}

// Trim gives the pages back to the kernel, which maps them again one by one
// when they are next used. Most of a program is touched once, when it starts;
// a process that then mostly waits need not hold on to it.
func (t Text) Trim() {
	for _, r := range t.ranges {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, r[0], r[1]-r[0], unix.MADV_DONTNEED)
	}
}
