package hostos

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Descendants lists the processes below pid, parents first. Those that start
// or end meanwhile may be missing or gone.
func Descendants(pid int) []int {
	tree := []int{pid}
	for i := 0; i < len(tree); i++ { // grows as it goes
		ofThreads(tree[i], "children", func(_ string, text []byte, _ error) {
			for child := range bytes.FieldsSeq(text) {
				// A child that moves while we look could be seen twice.
				if n, err := strconv.Atoi(string(child)); err == nil && !slices.Contains(tree, n) {
					tree = append(tree, n)
				}
			}
		})
	}
	return tree[1:]
}

// Activity is a number that is another one when any thread of the processes
// below pid has run meanwhile, or the threads are others. It is 0 where the
// kernel does not keep account of that.
func Activity(pid int) uint64 {
	h := fnv.New64a()
	known := true
	for _, child := range Descendants(pid) {
		threads := 0
		// Per thread: time it ran in nanoseconds, time it waited, times it was
		// put on a processor.
		ofThreads(child, "schedstat", func(path string, text []byte, err error) {
			threads++
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
				known = false
			}
			_, _ = h.Write(append([]byte(path), text...))
		})
		known = known && threads > 0
	}
	if !known {
		return 0
	}
	return h.Sum64()
}

// ofThreads hands look the file name of each thread of pid, as it is now. A
// thread may end meanwhile; what look is given is valid until it returns. Boxes
// at rest are looked at for as long as they live, so this takes no more calls
// of the kernel than it must.
func ofThreads(pid int, name string, look func(path string, text []byte, err error)) {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	defer d.Close()
	threads, _ := d.Readdirnames(-1) // of a process that may have just ended
	var text []byte
	for _, t := range threads {
		path := dir + "/" + t + "/" + name
		text, err = readProc(path, text[:0])
		look(path, text, err)
	}
}

// readProc appends what a file of /proc says to buf.
func readProc(path string, buf []byte) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return buf, err
	}
	defer unix.Close(fd)
	for {
		buf = slices.Grow(buf, 512)
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		if err != nil || n == 0 {
			return buf, err
		}
		buf = buf[:len(buf)+n]
	}
}

// TreeCPU is the processor time that pid, what is below it and what ended
// there have used.
func TreeCPU(pid int) time.Duration {
	used := processCPU(pid)
	for _, child := range Descendants(pid) {
		used += processCPU(child)
	}
	return used
}

// clockTick is the kernel's unit of times in /proc: the same wherever Linux
// shows them to programs.
const clockTick = 10 * time.Millisecond

func processCPU(pid int) time.Duration {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// The name, in parentheses, may hold anything; the fields after it are
	// numbered from 3. utime is 14, then stime, cutime, cstime.
	i := strings.LastIndexByte(string(b), ')')
	if i < 0 {
		return 0
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) < 15 {
		return 0
	}
	var ticks int64
	for _, v := range f[11:15] {
		n, _ := strconv.ParseInt(v, 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * clockTick
}
