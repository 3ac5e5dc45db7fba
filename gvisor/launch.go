package gvisor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/hostos"
	"github.com/boxlite-go/boxlite/internal/undo"
)

// nobody is the user a sentry is on the host when root starts it.
const nobody = 65534

// sentryEnv is all the environment a sentry has. Without the setting, the Go
// runtime keeps two cgroup files of the host open.
var sentryEnv = []string{"GODEBUG=containermaxprocs=0"}

// invocation collects the arguments of a sentry and the files they name.
type invocation struct {
	args  []string
	files []*os.File
}

// fd adds f to what the sentry inherits and returns its number there.
func (v *invocation) fd(f *os.File) int {
	v.files = append(v.files, f)
	return 2 + len(v.files)
}

func (v *invocation) arg(format string, a ...any) {
	v.args = append(v.args, fmt.Sprintf(format, a...))
}

// launch starts a sentry that waits to be told to boot. The machine takes l.
func (e *Engine) launch(s engine.Spec, agent *os.File, l *layer, v *volumes) (*machine, error) {
	var u undo.Stack
	defer u.Run()
	own := func(f *os.File, err error) (*os.File, error) { // a file only the sentry needs
		if err == nil {
			u.Add(func() { f.Close() })
		}
		return f, err
	}

	rootfs, err := own(os.Open(s.Rootfs))
	if err != nil {
		return nil, err
	}
	spec, err := own(specFile(s))
	if err != nil {
		return nil, err
	}
	null, err := own(os.OpenFile(os.DevNull, os.O_RDWR, 0))
	if err != nil {
		return nil, err
	}
	ready, bootedW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	u.Add(func() { bootedW.Close() })
	guest, agentEnd, err := socketpair(unix.SOCK_SEQPACKET)
	if err != nil {
		ready.Close()
		return nil, err
	}
	u.Add(func() { agentEnd.Close() })
	var keep undo.Stack // what the machine will own
	defer keep.Run()
	keep.Add(func() { ready.Close(); guest.Close() })
	ctl, listener, err := newControl(s.Dir)
	if err != nil {
		return nil, err
	}
	u.Add(func() { listener.Close() })
	keep.Add(ctl.close)

	var cli invocation
	debug, err := own(e.debugLog(s.ID))
	if err != nil {
		return nil, err
	}
	logFD := 0
	if debug != nil {
		logFD = cli.fd(debug)
	}
	cli.config(s)
	cli.boot(s, bootFiles{rootfs, agent, l.upper, spec, null, bootedW, listener, agentEnd, v.sentry}, l)

	cgroup, err := hostos.NewCgroup(s.ID, hostLimits(s, l.began))
	if err != nil {
		return nil, err
	}
	keep.Add(func() { _ = cgroup.Remove() })
	files, err := v.serve(cgroup)
	if err != nil {
		return nil, err
	}
	keep.Add(files.kill)
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{sentryArg0, strconv.Itoa(len(cli.files)), strconv.Itoa(logFD)}, cli.args...)
	cmd.Env = sentryEnv
	cmd.ExtraFiles = cli.files
	cmd.SysProcAttr = sysProcAttr(s.Reduced)
	p, err := spawn(cmd, func(start func() error) error { return cgroup.Around(cmd.SysProcAttr, start) })
	if err != nil {
		return nil, diagnoseSpawn(fmt.Errorf("sentry: %w", err), s.Reduced)
	}
	keep.Keep()
	return newMachine(e.log, s, parts{p, files, ctl, guest, ready, cgroup, l}), nil
}

// config adds gVisor's configuration.
func (v *invocation) config(s engine.Spec) {
	v.arg("--root=%s", s.Dir) // required, unused
	v.arg("--platform=systrap")
	v.arg("--network=sandbox")
	v.arg("--net-raw=true") // as Docker; what leaves the box is judged outside
	v.arg("--allow-suid=true")
	v.arg("--in-sandbox-cgroup=v2")
	v.arg("--ignore-cgroups=true")        // the host's are ours to make
	v.arg("--directfs=false")             // and no system calls on host files
	v.arg("--rootless=true")              // else it starts a second process, only to unmount /proc
	v.arg("--control-rpc-stop-timeout=0") // we keep idle connections; do not wait for them to close
	if s.Reduced {
		v.arg("--TESTONLY-unsafe-nonroot=true")
	}
}

// bootFiles are what a sentry is given.
type bootFiles struct {
	rootfs, agent, upper, spec, null, booted, listener, agentEnd *os.File
	volumes                                                      []*os.File // connections to the gofer
}

// boot adds the boot command.
func (v *invocation) boot(s engine.Spec, f bootFiles, l *layer) {
	v.arg("boot")
	if !s.Reduced {
		v.arg("--apply-caps=true")
		v.arg("--setup-root")
	}
	v.arg("--attached") // renews the parent death signal
	v.arg("--bundle=/")
	v.arg("--product-name=boxlite")
	v.arg("--cpu-num=%d", s.CPUs)
	v.arg("--total-memory=%d", s.Memory)
	v.arg("--total-host-memory=%d", s.Memory)
	v.arg("--io-fds=%d", v.fd(f.rootfs))
	v.arg("--io-fds=%d", v.fd(f.agent))
	confs := fmt.Sprintf("erofs:anon:size=%d,erofs:none", s.DiskSize)
	for _, c := range f.volumes {
		v.arg("--io-fds=%d", v.fd(c))
		confs += ",lisafs:none"
	}
	v.arg("--gofer-mount-confs=%s", confs)
	v.arg("--gofer-filestore-fds=%d", v.fd(f.upper))
	v.arg("--start-sync-fd=%d", v.fd(f.booted))
	v.arg("--controller-fd=%d", v.fd(f.listener))
	v.arg("--spec-fd=%d", v.fd(f.spec))
	for range 3 {
		v.arg("--stdio-fds=%d", v.fd(f.null))
	}
	v.arg("--pass-fd=%d:3", v.fd(f.agentEnd))
	for _, f := range l.sentry {
		v.arg("--fs-restore-fds=%d", v.fd(f))
	}
	v.arg("%s", s.ID)
}

// sysProcAttr is the jail of the sentry.
func sysProcAttr(reduced bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	root := os.Geteuid() == 0
	if reduced {
		if root {
			a.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		}
		return a
	}
	uid, gid := os.Geteuid(), os.Getegid()
	if root {
		uid, gid = nobody, nobody
	}
	a.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID |
		unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
	a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}}
	// Only root may drop its other groups; anybody else keeps theirs, which
	// the sentry cannot use: its filter lets it open nothing.
	a.GidMappingsEnableSetgroups = root
	a.Credential = &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: !root}
	return a
}

// unlinkedFile makes a file in dir that has no name, and so vanishes with its
// last user.
func unlinkedFile(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), filepath.Join(dir, "(upper)")), nil
	}
	f, err := os.CreateTemp(dir, "upper-*") // file systems without O_TMPFILE
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// specFile is the machine's OCI spec, in memory.
func specFile(s engine.Spec) (*os.File, error) {
	b, err := json.Marshal(ociSpec(s))
	if err != nil {
		return nil, err
	}
	return memFile("spec", b)
}

// memFile is a file in memory, to be read from its start.
func memFile(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.ReadFrom(bytes.NewReader(content)); err != nil {
		f.Close()
		return nil, err
	}
	_, err = f.Seek(0, 0)
	return f, err
}

// debugLog returns nil without a DebugDir.
func (e *Engine) debugLog(id string) (*os.File, error) {
	if e.opts.DebugDir == "" {
		return nil, nil
	}
	return os.OpenFile(filepath.Join(e.opts.DebugDir, id+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// socketpair returns two connected unix sockets: one for us, one to give away.
func socketpair(typ int) (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "stream"), os.NewFile(uintptr(fds[1]), "stream")
	defer ours.Close() // FileConn works on a duplicate
	c, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return c.(*net.UnixConn), theirs, nil
}
