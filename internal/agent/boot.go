package agent

import (
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

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
