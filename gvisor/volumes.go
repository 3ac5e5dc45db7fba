package gvisor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/gvisor/internal/gofer"
	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/hostos"
)

// goferArg0 marks a process that is to serve the volumes of a machine. It is
// followed by the number of descriptors it was given, the first of which is
// its configuration.
const goferArg0 = "boxlite-gofer"

// maxCachedFiles is how many files of a volume the sentry remembers when
// nobody uses them: gVisor's default.
const maxCachedFiles = 1000

// checkReduced refuses what a machine without namespaces cannot have.
func checkReduced(s engine.Spec) error {
	if len(s.Volumes) == 0 || !s.Reduced {
		return nil
	}
	return unsupported(nil, "volumes take namespaces, which a box with reduced isolation does without",
		"drop the volumes, or the reduced isolation")
}

// volumeMounts are the mounts of the volumes, in their order. They name
// nothing of the host.
func volumeMounts(vs []engine.Volume) (ms []specs.Mount) {
	if len(vs) == 0 {
		return nil
	}
	// A file that is remembered may hold three descriptors in the gofer. Half
	// of them are left for files in use, and some for the rest.
	cached := min(max(gofer.Limit()/8/len(vs), 16), maxCachedFiles)
	for _, v := range vs {
		o := []string{"bind", "nosuid", fmt.Sprintf("dcache=%d", cached)}
		if v.ReadOnly {
			o = append(o, "ro")
		}
		ms = append(ms, specs.Mount{Destination: v.Guest, Type: "bind", Source: "/volume", Options: o})
	}
	return ms
}

// volumes are what the machine's gofer is to serve, open. The zero value is
// none.
type volumes struct {
	list   []engine.Volume
	paths  []*os.File // what is mounted
	theirs []*os.File // the gofer's ends of the connections
	sentry []*os.File // the sentry's ends
}

func (v *volumes) close() {
	for _, files := range [][]*os.File{v.paths, v.theirs, v.sentry} {
		for _, f := range files {
			f.Close()
		}
	}
}

// openVolumes opens each host path, once and for all.
func openVolumes(list []engine.Volume) (_ *volumes, err error) {
	v := &volumes{list: list}
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	for _, x := range list {
		f, err := openVolume(x.Host)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", x.Host, err)
		}
		v.paths = append(v.paths, f)
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("socketpair: %w", err)
		}
		v.theirs = append(v.theirs, os.NewFile(uintptr(fds[0]), "gofer"))
		v.sentry = append(v.sentry, os.NewFile(uintptr(fds[1]), "volume"))
	}
	return v, nil
}

// openVolume opens a directory or file of the host to be mounted. Its path has
// been resolved: a link in it was put there since.
func openVolume(path string) (*os.File, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	if errors.Is(err, unix.ELOOP) {
		return nil, errors.New("has a symbolic link in it, put there while the box started")
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	var fs unix.Statfs_t
	err = errors.Join(unix.Fstat(fd, &st), unix.Fstatfs(fd, &fs))
	switch kind := st.Mode & unix.S_IFMT; {
	case err != nil:
	case kind == unix.S_IFLNK:
		err = errors.New("is a symbolic link, put there while the box started")
	case kind != unix.S_IFDIR && kind != unix.S_IFREG:
		err = errors.New("is neither a directory nor a regular file")
	case gofer.Kernel(fs.Type):
		err = errors.New("shows the state of the kernel, which no box may have")
	default:
		return f, nil
	}
	f.Close()
	return nil, err
}

// goferProcess serves the volumes of a machine. Nil is none: its methods do
// nothing.
type goferProcess struct{ *process }

// serve starts the gofer, if there is anything to serve.
func (v *volumes) serve(cgroup *hostos.Cgroup) (*goferProcess, error) {
	if len(v.list) == 0 {
		return nil, nil
	}
	var cli invocation
	config := gofer.Config{}
	first := 4 // after the standard streams and the configuration
	for i, x := range v.list {
		config.Volumes = append(config.Volumes, gofer.Volume{
			Host: x.Host, ReadOnly: x.ReadOnly, Path: first + 2*i, Socket: first + 2*i + 1,
		})
	}
	b, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	f, err := memFile("volumes", b)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cli.fd(f)
	for i := range v.list {
		cli.fd(v.paths[i])
		cli.fd(v.theirs[i])
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{goferArg0, strconv.Itoa(len(cli.files))}
	cmd.Env = sentryEnv
	cmd.ExtraFiles = cli.files
	if cmd.SysProcAttr, err = goferAttr(); err != nil {
		return nil, err
	}
	p, err := spawn(cmd, func(start func() error) error { return cgroup.Around(cmd.SysProcAttr, start) })
	if err != nil {
		return nil, diagnoseSpawn(fmt.Errorf("gofer: %w", err), false)
	}
	return &goferProcess{p}, nil
}

// goferAttr is the jail of the gofer, in which it locks itself further. On the
// host it is the user who runs boxlite: what the box writes is that user's.
func goferAttr() (*syscall.SysProcAttr, error) {
	a := sysProcAttr(false)
	if os.Geteuid() != 0 {
		return a, nil
	}
	// Root keeps its right to the files of others, which are all users it has.
	var err error
	if a.UidMappings, err = sameIDs("/proc/self/uid_map"); err != nil {
		return nil, err
	}
	a.GidMappings, err = sameIDs("/proc/self/gid_map")
	return a, err
}

// sameIDs maps each id that this process knows to itself.
func sameIDs(path string) (same []syscall.SysProcIDMap, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(b) {
		var id, outside, n int
		if _, err := fmt.Sscan(string(line), &id, &outside, &n); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", path, line, err)
		}
		same = append(same, syscall.SysProcIDMap{ContainerID: id, HostID: id, Size: n})
	}
	return same, nil
}

// kill ends the gofer and waits for it.
func (g *goferProcess) kill() {
	if g != nil {
		g.cmd.Process.Kill()
		<-g.exited
	}
}

// pids are the processes of the gofer: it has one.
func (g *goferProcess) pids() []int {
	if g == nil {
		return nil
	}
	return []int{g.cmd.Process.Pid}
}

// failure says why a gofer that has ended did so, if not because we killed it
// or nobody was left to serve.
func (g *goferProcess) failure() error {
	if g == nil {
		return nil
	}
	if w := g.words.String(); w != "" {
		return errors.New(w)
	}
	return nil
}

// watchFiles ends the machine when its gofer ends: with it the volumes are
// gone, and what is written to them would be lost.
func (m *machine) watchFiles() {
	if m.files == nil {
		return
	}
	select {
	case <-m.proc.exited:
		return
	case <-m.files.exited:
	}
	// A gofer that nobody speaks to any more goes in good order, and a sentry
	// that was killed lets go of it before it is gone itself.
	if m.files.cmd.ProcessState.Success() {
		select {
		case <-m.proc.exited:
			return
		case <-time.After(lastBreath):
		}
	}
	if m.oomKilled() {
		m.fail(engine.ErrOutOfMemory)
		return
	}
	err := fmt.Errorf("the process that serves its volumes ended: %s", m.files.cmd.ProcessState)
	if why := m.files.failure(); why != nil {
		err = fmt.Errorf("%w: %w", err, why)
	}
	m.fail(err)
}

// mountError says which volume could not be mounted where.
type mountError struct {
	volume engine.Volume
	reason string
}

func (e *mountError) Error() string {
	return fmt.Sprintf("volume %s on %s: %s; choose another path in the box", e.volume.Host, e.volume.Guest, e.reason)
}

// diagnoseMounts finds the volume that a failed boot is about. The sentry has
// only text for us.
func diagnoseMounts(err error, vs []engine.Volume) error {
	text := err.Error()
	for _, v := range vs {
		_, why, found := strings.Cut(text, fmt.Sprintf("creating mount point %q: ", v.Guest))
		switch {
		case !found:
		case strings.Contains(why, "isn't not a file"):
			return &mountError{v, "it is a file, and the box has a directory there"}
		case strings.Contains(why, "isn't a directory"):
			return &mountError{v, "it is a directory, and the box has a file there"}
		default:
			return &mountError{v, strings.TrimSpace(why[strings.LastIndex(why, ":")+1:])}
		}
	}
	return err
}

// runGofer is what a gofer does.
func runGofer(files string) (code int, err error) {
	n, err := strconv.Atoi(files)
	if err == nil {
		err = closeStrays(3 + n)
	}
	if err == nil {
		err = gofer.Serve(3)
	}
	if err != nil {
		return exitFailed, err
	}
	return 0, nil
}
