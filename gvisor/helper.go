package gvisor

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"github.com/google/subcommands"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/refs"
	"gvisor.dev/gvisor/runsc/cmd/sentry/sentrycmd"
	"gvisor.dev/gvisor/runsc/config"

	"github.com/boxlite-go/boxlite/internal/hostos"
)

// sentryArg0 marks a process that is to become a sentry. It is followed by the
// number of descriptors it was given, that of its log (0: none), gVisor's
// configuration flags, the word "boot", its boot flags and the machine's id.
const sentryArg0 = "boxlite-sentry"

// RunHelper implements engine.Helper.
func (*Engine) RunHelper() {
	var code int
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[0] == goferArg0:
		code, err = runGofer(os.Args[1])
	case len(os.Args) >= 4 && os.Args[0] == sentryArg0:
		code, err = runSentry(os.Args[1:])
	default:
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code) //nolint:forbidigo // this process is a helper; main goes no further
}

const (
	// settled is when a sentry has surely booted and its first commands are
	// over.
	settled = 3 * time.Second
	// leanPeriod is how often a sentry gives back what it has not used since.
	// A busy one maps again what it needs: some hundred faults, a millisecond.
	leanPeriod = 10 * time.Second
)

// stayLean gives back the heap and the program that only the start needed, and
// later what an idle box's sign of life needed.
func stayLean(text hostos.Text) {
	time.Sleep(settled)
	debug.FreeOSMemory()
	for {
		text.Trim()
		time.Sleep(leanPeriod)
	}
}

// exitFailed is what no guest's exit code can be mistaken for.
const exitFailed = 128

// runSentry does what runsc's main does around its boot command, without
// touching the flags of the program we live in.
func runSentry(args []string) (code int, err error) {
	nfds, err1 := strconv.Atoi(args[0])
	logFD, err2 := strconv.Atoi(args[1])
	if err1 != nil || err2 != nil {
		return exitFailed, fmt.Errorf("sentry: bad arguments %q", args[:2])
	}
	if err := closeStrays(3 + nfds); err != nil {
		return exitFailed, fmt.Errorf("sentry: close inherited descriptors: %w", err)
	}
	dropSetPCap()                 // while there are few threads to drop it in
	go stayLean(hostos.OwnText()) // as long as the process
	if err := registerSeccomp(); err != nil {
		return exitFailed, err
	}
	if err := guardFileCapabilities(); err != nil {
		return exitFailed, err
	}
	setLog(logFD)

	confFlags := flag.NewFlagSet(sentryArg0, flag.ContinueOnError)
	config.RegisterFlags(confFlags)
	if err := confFlags.Parse(args[2:]); err != nil {
		return exitFailed, err
	}
	conf, err := config.NewFromFlags(confFlags)
	if err != nil {
		return exitFailed, err
	}
	boot := &sentrycmd.Boot{}
	bootFlags := flag.NewFlagSet(boot.Name(), flag.ContinueOnError)
	boot.SetFlags(bootFlags)
	if err := bootFlags.Parse(confFlags.Args()[1:]); err != nil {
		return exitFailed, err
	}
	refs.SetLeakMode(conf.ReferenceLeak)
	var ws unix.WaitStatus
	if st := boot.Execute(context.Background(), bootFlags, conf, &ws); st != subcommands.ExitSuccess {
		return exitFailed, fmt.Errorf("sentry: boot ended with status %d", st)
	}
	if ws.Signaled() {
		return exitFailed + int(ws.Signal()), nil
	}
	return ws.ExitStatus(), nil
}

// setLog sends gVisor's log to fd, or nowhere when it is 0. Panics always go
// to the standard error, which the starter reads.
func setLog(fd int) {
	w := io.Discard
	if fd > 0 {
		w = os.NewFile(uintptr(fd), "sentry.log")
		log.SetLevel(log.Debug)
	}
	log.SetTarget(log.GoogleEmitter{Writer: &log.Writer{Next: w}})
}

// closeStrays closes every descriptor from first up: what a careless program
// above us left open without close-on-exec must not reach the sentry. It spares
// those by which the Go runtime polls, which are there before main, and with
// them any other that nothing can be read from.
func closeStrays(first int) error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < first {
			continue
		}
		switch to, _ := os.Readlink("/proc/self/fd/" + e.Name()); to {
		case "anon_inode:[eventpoll]", "anon_inode:[eventfd]":
		default:
			_ = unix.Close(fd) // may be the one that read this directory
		}
	}
	return nil
}

// dropSetPCap gives up CAP_SETPCAP in all threads. Without it gVisor leaves
// the capability bounding set as it is, which saves 36 rounds of a system call
// on all threads, 4 to 13 ms. The set bounds only what an execve may gain, and
// the sentry runs with no_new_privs under a filter that has no execve.
func dropSetPCap() {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&hdr, &data[0]) != nil {
		return
	}
	data[0].Effective &^= 1 << unix.CAP_SETPCAP
	data[0].Permitted &^= 1 << unix.CAP_SETPCAP
	// If it fails, the start is slower and nothing else changes.
	_, _, _ = syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data[0])), 0)
}
