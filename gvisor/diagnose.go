package gvisor

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/runsc/config"

	"github.com/boxlite-go/boxlite/internal/engine"
)

// unsupported names what the host lacks and the step that mends it.
func unsupported(err error, reason, fix string) error {
	return &engine.Unsupported{Engine: Name, Reason: reason, Fix: fix, Err: err}
}

// checkHost finds what no start can succeed without, before one is tried.
func checkHost() error {
	switch {
	case runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64":
		return unsupported(nil, "no gVisor for "+runtime.GOARCH, "use a machine with amd64 or arm64")
	case config.CgoEnabled:
		return unsupported(nil, "this program was built with cgo", "build it with CGO_ENABLED=0")
	}
	if _, err := os.Stat("/proc/self/exe"); err != nil {
		return unsupported(err, "/proc is not mounted", `run "mount -t proc proc /proc"`)
	}
	return nil
}

// Settings that keep users from making namespaces; each is missing on most
// hosts.
const (
	sysctlMaxUser  = "/proc/sys/user/max_user_namespaces"
	sysctlClone    = "/proc/sys/kernel/unprivileged_userns_clone"
	sysctlAppArmor = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
)

// setting reads a file of one line; "" where there is none.
func setting(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}

// diagnoseSpawn turns the error of starting the sentry's process into an
// *engine.Unsupported where the cause is known.
func diagnoseSpawn(err error, reduced bool) error {
	switch {
	case errors.Is(err, unix.EACCES):
		return unsupported(err, "this program may not be started again from where it lies",
			"put it on a file system that is not mounted noexec, readable by this user")
	case errors.Is(err, fs.ErrNotExist):
		return unsupported(err, "/proc does not show this program", `run "mount -t proc proc /proc"`)
	case reduced:
		return err
	case setting(sysctlMaxUser) == "0":
		return unsupported(err, "user namespaces are off", `run "sysctl user.max_user_namespaces=15000" as root`)
	case errors.Is(err, unix.ENOSPC):
		return unsupported(err, "too many user namespaces are in use", `raise the sysctl "user.max_user_namespaces"`)
	case errors.Is(err, unix.EINVAL):
		return unsupported(err, "the kernel has no user namespaces", "use a kernel built with CONFIG_USER_NS and CONFIG_PID_NS")
	case !errors.Is(err, unix.EPERM):
		return err
	case setting(sysctlClone) == "0" && os.Geteuid() != 0:
		return unsupported(err, "user namespaces are off for ordinary users", `run "sysctl kernel.unprivileged_userns_clone=1" as root`)
	case appArmor():
		return appArmorError(err)
	case inChroot():
		return unsupported(err, "user namespaces cannot be made in a chroot", "run outside of it, or enter it by pivot_root")
	}
	return unsupported(err, "a container or security policy around this program forbids user namespaces",
		`in Docker, run the container with "--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined"`)
}

func appArmor() bool { return setting(sysctlAppArmor) == "1" && os.Geteuid() != 0 }

func appArmorError(err error) error {
	return unsupported(err, "AppArmor denies user namespaces to ordinary programs",
		`run "sysctl kernel.apparmor_restrict_unprivileged_userns=0" as root, or give this program an AppArmor profile with "userns,"`)
}

// diagnoseBoot does the same for a sentry that ended early with these words.
func diagnoseBoot(err error, words string) error {
	if !strings.Contains(words, "permission denied") && !strings.Contains(words, "operation not permitted") {
		return err
	}
	switch {
	case appArmor():
		return appArmorError(err)
	case strings.Contains(words, "chroot"), strings.Contains(words, "mount"):
		return unsupported(err, "a container or security policy around this program forbids mounts in its own namespace",
			`in Docker, run the container with "--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined"`)
	}
	return err
}

// inChroot tells whether this process has another root than its mount
// namespace: then nothing is mounted at its root, or the first process it can
// see has another one. Where it may not look, it has not.
func inChroot() bool {
	if b, err := os.ReadFile("/proc/self/mountinfo"); err == nil && !mountedRoot(string(b)) {
		return true
	}
	ours, err := os.Stat("/")
	if err != nil {
		return false
	}
	first, err := os.Stat("/proc/1/root/")
	return err == nil && !os.SameFile(ours, first)
}

// mountedRoot tells whether a list of mounts has one at the root. The fifth
// field of a line is the mount point; see proc_pid_mountinfo(5).
func mountedRoot(mountinfo string) bool {
	for line := range strings.Lines(mountinfo) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == "/" {
			return true
		}
	}
	return false
}
