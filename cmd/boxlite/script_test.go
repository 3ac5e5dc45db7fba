package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/engine/enginetest"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs what users type. Beside boxlite a script has the commands
//
//	rootfs FILE   writes a tar of a small root file system
//	image NAME    imports that as an image whose command is sh
//	registry      starts a registry that has tiny:latest; its address is $REGISTRY
//	locked        starts one that wants other credentials; $LOCKED
//	closed        finds an address where nobody listens; $CLOSED, $CLOSED_PORT
//	served        starts the server anew, with the mirrors that are set now
//	dial ADDR TXT connects until somebody there says TXT in a line
func TestScripts(t *testing.T) { on(t, testScripts) }

func testScripts(t *testing.T, engine string) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               func(env *testscript.Env) error { return setup(env, engine) },
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "fake":
				return !realBoxes(engine), nil
			case "gvisor":
				return realBoxes(engine), nil
			case "server":
				return served(engine), nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"rootfs": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), rootfs(engine), 0o600))
			},
			"image": func(ts *testscript.TestScript, _ bool, args []string) {
				file := ts.MkAbs("image.tar")
				ts.Check(os.WriteFile(file, rootfs(engine), 0o600))
				ts.Check(ts.Exec("boxlite", "import", "--cmd", "sh", "-e", "FROM=image", "-e", "PATH="+boxPath(engine), file, args[0]))
			},
			"registry": func(ts *testscript.TestScript, _ bool, _ []string) {
				ts.Setenv("REGISTRY", startRegistry(ts, engine))
			},
			"locked": func(ts *testscript.TestScript, _ bool, _ []string) {
				ts.Setenv("LOCKED", serve(ts, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
					w.WriteHeader(http.StatusUnauthorized)
				})))
			},
			"closed": func(ts *testscript.TestScript, _ bool, _ []string) {
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				ts.Check(err)
				ts.Check(ln.Close())
				ts.Setenv("CLOSED", ln.Addr().String())
				ts.Setenv("CLOSED_PORT", fmt.Sprint(ln.Addr().(*net.TCPAddr).Port))
			},
			"served": func(ts *testscript.TestScript, _ bool, _ []string) {
				if served(engine) {
					ts.Check(ts.Value(serverKey{}).(*server).restart("BOXLITE_MIRRORS=" + ts.Getenv("BOXLITE_MIRRORS")))
				}
			},
			"dial": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(dialUntil(args[0], args[1]))
			},
		},
	})
}

// setup gives a script a home of its own, and sees that no box outlives it.
func setup(env *testscript.Env, engine string) error {
	home := filepath.Join(env.WorkDir, "home")
	env.Setenv("HOME", home)
	env.Setenv("BOXLITE_HOME", filepath.Join(home, "boxlite"))
	env.Setenv(engineEnv, engine)
	env.Setenv(raceEnv, os.Getenv(raceEnv))
	env.Setenv(enginetest.AgentEnv, os.Getenv(enginetest.AgentEnv))
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	if served(engine) {
		x := &server{vars: env.Vars}
		if err := x.start(); err != nil {
			return err
		}
		env.Defer(x.stop)
		env.Values[serverKey{}] = x
		env.Setenv("BOXLITE_REST_URL", x.url)
	}
	env.Defer(func() {
		cmd := exec.Command("boxlite", "rm", "--all", "--force")
		cmd.Env = env.Vars
		if out, err := cmd.CombinedOutput(); err != nil {
			panic(fmt.Sprintf("remove what the script left: %v: %s", err, out))
		}
	})
	return nil
}

// server serves the home of a script on a unix socket, in a process of its own.
type server struct {
	vars []string
	url  string
	dir  string
	cmd  *exec.Cmd
}

// serverKey is where a script finds its server.
type serverKey struct{}

func (x *server) start() (err error) {
	if x.dir, err = os.MkdirTemp("", "boxlite"); err != nil { // the path of a socket is short
		return err
	}
	x.url = "unix://" + filepath.Join(x.dir, "s")
	return x.restart()
}

// restart starts it with more variables, and ends the one before.
func (x *server) restart(vars ...string) error {
	if x.cmd != nil {
		x.end()
	}
	x.cmd = exec.Command("boxlite", "serve", "--socket", strings.TrimPrefix(x.url, "unix://"))
	x.cmd.Env = append(x.vars, vars...)
	said, err := x.cmd.StderrPipe()
	if err == nil {
		err = x.cmd.Start()
	}
	lines := bufio.NewReader(said)
	for line := ""; err == nil; line, err = lines.ReadString('\n') {
		if strings.Contains(line, "listening on") {
			go io.Copy(io.Discard, lines) // ends with the server
			return nil
		}
	}
	return fmt.Errorf("server: %w", err)
}

// end waits until the server has ended in order.
func (x *server) end() {
	_ = x.cmd.Process.Signal(syscall.SIGTERM)
	if err := x.cmd.Wait(); err != nil {
		panic(fmt.Sprintf("server: %v", err))
	}
}

func (x *server) stop() {
	x.end()
	os.RemoveAll(x.dir)
}

// boxPath is where commands are in a box: on the fake engine they are the
// host's.
func boxPath(engine string) string {
	if !realBoxes(engine) {
		return os.Getenv("PATH")
	}
	return "/bin"
}

// applets are the commands of busybox that scripts use.
const applets = "sh cat echo ls sleep true false env pwd kill mkdir rm stty nc head seq yes trap id printf touch chmod"

// rootfs is a tar with busybox, where the engine does not take the host's
// commands, and a file.
func rootfs(engine string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h *tar.Header, data []byte) {
		h.Size = int64(len(data))
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if _, err := w.Write(data); err != nil {
			panic(err)
		}
	}
	for _, dir := range []string{"bin/", "etc/", "root/", "tmp/"} {
		add(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, nil)
	}
	add(&tar.Header{Name: "etc/hello", Mode: 0o644}, []byte("hello\n"))
	if realBoxes(engine) {
		busybox, err := os.ReadFile("/bin/busybox")
		if err != nil {
			panic(fmt.Sprintf("%v; install busybox-static", err))
		}
		add(&tar.Header{Name: "bin/busybox", Mode: 0o755}, busybox)
		for name := range strings.FieldsSeq(applets) {
			add(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"}, nil)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// dialUntil connects to whoever begins to listen at addr, until one says text.
func dialUntil(addr, text string) (err error) {
	said := make([]byte, len(text)+1)
	for range 500 { // ten seconds
		var c net.Conn
		if c, err = net.Dial("tcp", addr); err == nil {
			_, err = io.ReadFull(c, said)
			c.Close()
		}
		if err == nil && string(said) == text+"\n" {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("%s said %q, %w, want %q", addr, said, err, text)
}

// serve serves until the script ends and returns the address.
func serve(ts *testscript.TestScript, h http.Handler) string {
	s := httptest.NewServer(h)
	ts.Defer(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// startRegistry starts a real registry with an image in it.
func startRegistry(ts *testscript.TestScript, engine string) string {
	addr := serve(ts, registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(rootfs(engine))), nil
	})
	ts.Check(err)
	img, err := mutate.AppendLayers(empty.Image, layer)
	ts.Check(err)
	file, err := img.ConfigFile()
	ts.Check(err)
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config = v1.Config{Cmd: []string{"sh"}, Env: []string{"FROM=registry", "PATH=" + boxPath(engine)}}
	img, err = mutate.ConfigFile(img, file)
	ts.Check(err)
	for _, repo := range []string{"library/tiny", "tiny"} {
		ref, err := name.NewTag(addr + "/" + repo + ":latest")
		ts.Check(err)
		ts.Check(remote.Write(ref, img))
	}
	return addr
}

// TestUnits has sizes and times as users write them.
func TestUnits(t *testing.T) {
	for _, tt := range []struct {
		in   string
		unit int64
		want int64
		bad  bool
	}{
		{"512", 1 << 20, 512 << 20, false},
		{"512m", 1 << 20, 512 << 20, false},
		{"2G", 1 << 20, 2 << 30, false},
		{"1.5GiB", 1, 3 << 29, false},
		{"100b", 1 << 20, 100, false},
		{"7kb", 1, 7 << 10, false},
		{"", 1, 0, true},
		{"m", 1, 0, true},
		{"-1", 1, 0, true},
		{"1e3", 1, 0, true},
		{"99999999999t", 1, 0, true},
		{"2x", 1, 0, true},
	} {
		got, err := parseBytes(tt.in, tt.unit)
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("parseBytes(%q, %d): got %d, %v, want %d, bad %v", tt.in, tt.unit, got, err, tt.want, tt.bad)
		}
	}
	for in, want := range map[string]string{"90": "1m30s", "1.5s": "1.5s", "2h": "2h0m0s", "-1s": "bad", "x": "bad", "": "bad"} {
		d, err := parseSeconds(in)
		got := d.String()
		if err != nil {
			got = "bad"
		}
		if got != want {
			t.Errorf("parseSeconds(%q): got %s, want %s", in, got, want)
		}
	}
	for in, want := range map[int64]string{0: "0B", 999: "999B", 1000: "1kB", 48_200_000: "48.2MB", 999_900: "1MB", 1 << 40: "1.1TB"} {
		if got := humanSize(in); got != want {
			t.Errorf("humanSize(%d): got %s, want %s", in, got, want)
		}
	}
}

// TestErrorsAreOneLine keeps what a box says from driving the terminal.
func TestErrorsAreOneLine(t *testing.T) {
	var b bytes.Buffer
	a := &app{stderr: &b}
	a.printError(errors.Join(errors.New("a\x1b[2Jb"), errors.New("c\rd")))
	if got, want := b.String(), "Error: a [2Jb; c d\n"; got != want {
		t.Errorf("printError: got %q, want %q", got, want)
	}
}
