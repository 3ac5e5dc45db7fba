package agent

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// In a box that lacks capabilities commands may not make user namespaces: in
// one that maps all users, which needs no more than CAP_SETUID and CAP_SETGID,
// a process has every capability over every file of the box. A filter of
// system calls keeps them from it. It is put in place by the agent's helper
// and not by the agent, which itself needs clone3, of which a filter cannot
// see the flags.

// confineWord tells the helper to confine itself.
const confineWord = "confine"

// keptForHelpers is what the agent of a box without user namespaces hands down
// to its helpers: without it, a filter cannot be put in place for programs
// that may change users. It is not in the bounding set, so a helper that
// has let go of it is the last to have it.
const keptForHelpers = unix.CAP_SYS_ADMIN

// confine keeps this thread, and what it becomes, from user namespaces, and
// lets go of what it was given for that. The caller has locked the thread.
func confine() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	filter := noUserNamespaces()
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		return err
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return err
	}
	data[0].Permitted &^= 1 << keptForHelpers
	data[0].Effective &^= 1 << keptForHelpers
	data[0].Inheritable, data[1].Inheritable = 0, 0
	return unix.Capset(&hdr, &data[0])
}

// auditArch is what filters call the architectures we build for.
var auditArch = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// noUserNamespaces is a filter that refuses to make one. That there is no
// clone3 makes libraries use clone.
func noUserNamespaces() []unix.SockFilter {
	const ( // offsets in struct seccomp_data; flags are the lower half of the first argument
		number, arch, flags = 0, 4, 16

		load, equal, anyBit = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		ret                 = unix.BPF_RET | unix.BPF_K
	)
	return []unix.SockFilter{
		0:  {Code: load, K: arch},
		1:  {Code: equal, K: auditArch[runtime.GOARCH], Jf: 8}, // to 10
		2:  {Code: load, K: number},
		3:  {Code: equal, K: unix.SYS_CLONE3, Jt: 6}, // to 10
		4:  {Code: equal, K: unix.SYS_CLONE, Jt: 1},  // to 6
		5:  {Code: equal, K: unix.SYS_UNSHARE, Jf: 2},
		6:  {Code: load, K: flags},
		7:  {Code: anyBit, K: unix.CLONE_NEWUSER, Jt: 1}, // to 9
		8:  {Code: ret, K: unix.SECCOMP_RET_ALLOW},
		9:  {Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		10: {Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
	}
}

// keepCapabilities makes this process the only one in the box with all its
// capabilities: an exec by root gives those that are inheritable or in the
// bounding set, and the machine has put only those of commands into the latter.
func keepCapabilities(confined bool) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	if confined {
		data[0].Inheritable = 1 << keptForHelpers
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data[0])), 0)
	if errno != 0 {
		return fmt.Errorf("capabilities: %w", errno)
	}
	return nil
}
