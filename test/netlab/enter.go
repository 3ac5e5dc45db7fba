// Package netlab is a little internet for tests: servers at public, private and
// metadata addresses that really answer, in a network namespace of their own,
// joined to one in which the test process and its boxes live. Nothing of it
// touches the network of the machine, and it ends with the test process, however
// that ends.
//
// A test that fails to reach a refused address proves nothing if nobody is
// there. Here somebody is: what is refused to a box, the same box reaches once a
// rule allows it, and the servers tell what arrived.
package netlab

import (
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/testenv"
	"golang.org/x/sys/unix"
)

// roleVar is the environment variable that says what a process of the test binary
// is: nothing before it has entered a laboratory.
const (
	roleVar = "BOXLITE_NETLAB"
	inside  = "inside" // the test process, in its namespace
	outside = "world"  // the process with the servers
)

// required is the name under which BOXLITE_TEST_REQUIRE has a laboratory.
const required = "netlab"

// The wire between the namespaces.
const (
	wireHere  = "lab0"
	wireThere = "lab1"
)

// here says what Enter came to: a laboratory, or why there is none.
var here struct {
	lab *Lab
	err error
}

// Enter takes a test process into a new laboratory. It is called in TestMain,
// after RunHelper and before anything else: the process starts itself again in
// a new network namespace. Where that is not possible the process stays where it
// is, and [Need] says why.
func Enter() {
	switch os.Getenv(roleVar) {
	case outside:
		os.Exit(runWorld())
	case inside:
		os.Unsetenv(roleVar)
		here.lab, here.err = build()
	default:
		here.err = reenter()
	}
}

// Need returns the laboratory, or ends the test.
func Need(tb testing.TB) *Lab {
	tb.Helper()
	if here.err != nil {
		testenv.Missing(tb, required, here.err.Error())
	}
	if here.lab == nil {
		tb.Fatal("netlab.Need: TestMain does not call netlab.Enter")
	}
	return here.lab
}

// reenter starts the program again in a new network namespace. It returns only
// if it cannot.
func reenter() error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces are made as root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return fmt.Errorf(`%w; run "apt-get install iproute2"`, err)
	}
	// The thread that calls exec becomes the process, with its namespace.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("make a network namespace: %w", err)
	}
	// A return would leave this thread in an empty network.
	err := syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), roleVar+"="+inside))
	panic(fmt.Sprintf("exec of the test binary: %v", err))
}

// build starts the servers and joins their namespace to this one.
func build() (*Lab, error) {
	ours, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVar+"="+outside)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the servers: %w", err)
	}
	go cmd.Wait() // ends with the servers, and these with ours
	if err := join(cmd.Process.Pid); err != nil {
		ours.Close()
		return nil, err
	}
	lab := &Lab{client: rpc.NewClient(ours)}
	if err := lab.client.Call("World.Start", struct{}{}, &lab.ca); err != nil {
		return nil, fmt.Errorf("start the servers: %w", err)
	}
	return lab, nil
}

// pair makes the connection on which the servers are controlled; when it ends,
// they do.
func pair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fds[0]), "servers")
	defer f.Close()
	theirs = os.NewFile(uintptr(fds[1]), "servers")
	if ours, err = net.FileConn(f); err != nil {
		theirs.Close()
	}
	return ours, theirs, err
}

// join lays the wire from this namespace to that of a process.
func join(pid int) error {
	return ip(
		"link set lo up",
		fmt.Sprintf("link add %s type veth peer name %s netns %d", wireHere, wireThere, pid),
		"addr add "+HostIPv4+"/24 dev "+wireHere,
		"addr add "+HostIPv6+"/64 dev "+wireHere+" nodad",
		"link set "+wireHere+" up",
		"route add default via "+routerIPv4+" dev "+wireHere,
		"-6 route add default via "+routerIPv6+" dev "+wireHere,
	)
}

// ip runs one ip command after another.
func ip(commands ...string) error {
	for _, c := range commands {
		if out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", c, err, out)
		}
	}
	return nil
}

// eventually waits for what another process brings about.
func eventually(limit time.Duration, ok func() error) (err error) {
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if err = ok(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
