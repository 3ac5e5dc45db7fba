package agent

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// keepCapabilities makes this process the only one in the box with all its
// capabilities: an exec by root gives those that are inheritable or in the
// bounding set, and the machine has put only those of commands into the latter.
func keepCapabilities() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data[0])), 0)
	if errno != 0 {
		return fmt.Errorf("capabilities: %w", errno)
	}
	return nil
}

// prepareBox makes the box what images expect. Every step is a nicety: a box
// without it still works, so nothing here is an error.
func prepareBox() {
	// A sandbox may lay a file system of its own over /tmp, which would not
	// be saved with the box's disk.
	var st unix.Statfs_t
	if unix.Statfs("/tmp", &st) == nil && st.Type == unix.TMPFS_MAGIC {
		_ = unix.Unmount("/tmp", 0) // where it is refused, /tmp is not kept, no more
	}
	if err := os.Mkdir("/tmp", 0o777); err == nil {
		_ = os.Chmod("/tmp", 0o777|os.ModeSticky)
	}
}

// maxHosts is the largest hosts file that is added to.
const maxHosts = 64 << 10

// nameBox lets programs find the box's own name, as in a container of Docker.
func nameBox() {
	name, err := os.Hostname()
	if err != nil {
		return
	}
	// An image may have anything there, such as a pipe that nobody reads.
	if st, err := os.Stat("/etc/hostname"); err != nil || st.Mode().IsRegular() && st.Size() == 0 {
		_ = os.WriteFile("/etc/hostname", []byte(name+"\n"), 0o644)
	}
	const path = "/etc/hosts"
	st, err := os.Stat(path)
	if err == nil && (!st.Mode().IsRegular() || st.Size() > maxHosts) {
		return
	}
	hosts, err := os.ReadFile(path)
	if err != nil || len(hosts) == 0 {
		hosts = []byte("127.0.0.1 localhost\n::1 localhost ip6-localhost\n")
	}
	if !slices.Contains(strings.Fields(string(hosts)), name) {
		hosts = append(hosts, "127.0.1.1 "+name+"\n"...)
		_ = os.WriteFile(path, hosts, 0o644)
	}
}
