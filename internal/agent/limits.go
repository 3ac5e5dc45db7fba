package agent

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/internal/guest"
)

// limitsName is argv[0] of an agent that only bounds itself and becomes the
// command: fork leaves no place to set them between the switch of user and the
// exec, and to set them later would race with the command.
const limitsName = "boxlite-limits"

// reportFD is where it writes why the command cannot run; a command that runs
// closes it.
const reportFD = 3

// rlimit is one bound, hard and soft.
type rlimit struct {
	resource int
	value    uint64
}

// rlimits lists what l asks of the kernel. The address space is last: once it
// is set this process itself may get no more memory.
func rlimits(l guest.Limits) []rlimit {
	var all []rlimit
	add := func(resource int, value uint64) {
		if value > 0 {
			all = append(all, rlimit{resource, value})
		}
	}
	add(unix.RLIMIT_NOFILE, l.OpenFiles)
	add(unix.RLIMIT_FSIZE, l.FileSize)
	add(unix.RLIMIT_CPU, uint64((l.CPUTime+time.Second-1)/time.Second))
	add(unix.RLIMIT_AS, l.AddressSpace)
	return all
}

// limitWords is what l asks of the helper.
func limitWords(l guest.Limits) []string {
	var words []string
	for _, r := range rlimits(l) {
		words = append(words, strconv.Itoa(r.resource)+"="+strconv.FormatUint(r.value, 10))
	}
	return words
}

// limitsArgs is the command line of the agent that becomes path.
func limitsArgs(words []string, path string, args []string) []string {
	return append([]string{limitsName, strings.Join(words, ","), path}, args...)
}

// RunHelper is called first in main. It returns at once unless this process
// is the agent's helper that sets limits; then it never returns.
func RunHelper() {
	if len(os.Args) < 4 || os.Args[0] != limitsName {
		return
	}
	err := becomeLimited(os.Args[1], os.Args[2], os.Args[3:])
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		errno = syscall.EINVAL
	}
	_, _ = syscall.Write(reportFD, []byte(strconv.Itoa(int(errno))))
	os.Exit(127) //nolint:forbidigo // this process is a helper; main goes no further
}

func becomeLimited(words, path string, args []string) error {
	runtime.LockOSThread() // the one that becomes the command
	syscall.CloseOnExec(reportFD)
	env := syscall.Environ()
	for word := range strings.SplitSeq(words, ",") {
		if err := obey(word); err != nil {
			return err
		}
	}
	return syscall.Exec(path, args, env)
}

func obey(word string) error {
	if word == confineWord {
		return confine()
	}
	r, v, _ := strings.Cut(word, "=")
	resource, err := strconv.Atoi(r)
	if err != nil {
		return err
	}
	value, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return err
	}
	return lower(resource, value)
}

// lower sets both limits to value, or to the hard limit where that is less.
func lower(resource int, value uint64) error {
	var now syscall.Rlimit
	if err := syscall.Getrlimit(resource, &now); err != nil {
		return err
	}
	value = min(value, now.Max)
	return syscall.Setrlimit(resource, &syscall.Rlimit{Cur: value, Max: value})
}

// reported reads the verdict of the helper: nil when it became the command.
func reported(r *os.File) error {
	buf := make([]byte, 16)
	n, _ := r.Read(buf)
	if n == 0 {
		return nil
	}
	errno, err := strconv.Atoi(string(buf[:n]))
	if err != nil {
		return fmt.Errorf("report of the helper: %w", err)
	}
	return syscall.Errno(errno)
}
