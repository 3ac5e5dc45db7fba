package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/guest"
)

var execCases = []testCase{
	on("TellsHowItEnded", testExits),
	on("RefusesWhatCannotRun", testRefusals),
	on("RefusesWhatMakesNoSense", testInvalid),
	on("EnvironmentIsExact", testEnvironment),
	on("RunsInItsDirectory", testDirectory),
	on("FindsCommandsLikeAShell", testLookup),
	on("StdinIsExact", testStdin),
	on("StdinUnreadHoldsUpNothing", testStdinUnread),
	on("StdinIsEmptyUnlessAsked", func(t *testing.T, b *box) {
		if r := b.run(t, guest.Command{Args: []string{"cat"}}); r.out != "" || r.exit.Code != 0 {
			t.Errorf("cat without input: got %q, %+v, want nothing, 0", r.out, r.exit)
		}
	}),
	on("InheritsNoDescriptor", testDescriptors),
	on("ManyAtOnce", testManyExecs),
	on("ListsExecutions", testExecutions),
	on("CtxEndsWaitingAlone", testStartContext),
	on("WriterFailureKeepsExit", testWriterFails),
	with(Users, "RunsAsUser", testUsers),
}

func testExits(t *testing.T, b *box) {
	for _, tt := range []struct {
		script string
		want   guest.Exit
	}{
		{"true", guest.Exit{Cause: guest.Exited}},
		{"exit 7", guest.Exit{Code: 7, Cause: guest.Exited}},
		{"exit 255", guest.Exit{Code: 255, Cause: guest.Exited}},
		{"nosuchcommand", guest.Exit{Code: 127, Cause: guest.Exited}},
		{"kill -9 $$", guest.Exit{Code: 137, Signal: 9, Cause: guest.Signaled}},
		{"kill -TERM $$", guest.Exit{Code: 143, Signal: 15, Cause: guest.Signaled}},
		{"kill -SEGV $$", guest.Exit{Code: 139, Signal: 11, Cause: guest.Signaled}},
	} {
		got := b.run(t, sh(tt.script)).exit
		if got.Time.IsZero() {
			t.Errorf("%s: no time of the end", tt.script)
		}
		got.Time, got.StderrEnd, got.StdoutEnd = time.Time{}, 0, 0
		if got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.script, got, tt.want)
		}
	}
}

func testRefusals(t *testing.T, b *box) {
	b.output(t, "true")
	b.write(t, "/work/plain", 0o644, "not a program")
	b.write(t, "/work/lost", 0o755, "#!/no/such/interpreter\n")
	b.write(t, "/work/junk", 0o755, "\x7fELFjunk")
	for _, limits := range []guest.Limits{{}, {OpenFiles: 64}} { // the way through limits is another
		for _, tt := range []struct {
			name string
			cmd  guest.Command
			want guest.Kind
		}{
			{"no such name", guest.Command{Args: []string{"no-such-command-here"}}, guest.KindNotFound},
			{"no such path", guest.Command{Args: []string{"/no/such/command"}}, guest.KindNotFound},
			{"not in the given PATH", guest.Command{Args: []string{"sh"}, Env: []string{"PATH=/nowhere"}}, guest.KindNotFound},
			{"no interpreter", guest.Command{Args: []string{"./lost"}, Dir: "/work"}, guest.KindNotFound},
			{"directory", guest.Command{Args: []string{"/"}}, guest.KindNotExecutable},
			{"no permission", guest.Command{Args: []string{"./plain"}, Dir: "/work"}, guest.KindNotExecutable},
			{"no program", guest.Command{Args: []string{"./junk"}, Dir: "/work"}, guest.KindNotExecutable},
			{"no such directory", guest.Command{Args: []string{"sh"}, Dir: "/no/such/dir"}, guest.KindNotDir},
			{"directory is a file", guest.Command{Args: []string{"sh"}, Dir: "/work/plain"}, guest.KindNotDir},
			{"no such user", guest.Command{Args: []string{"sh"}, User: "nobody-like-this"}, guest.KindNoUser},
		} {
			tt.cmd.Limits = limits
			p, err := b.Start(t.Context(), tt.cmd)
			wantKind(t, fmt.Sprintf("%s (%+v)", tt.name, limits), err, tt.want)
			if err == nil {
				p.Close()
			}
		}
	}
	if all, err := b.Executions(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("executions after refusals: got %d, %v, want the one that ran", len(all), err)
	}
}

func testInvalid(t *testing.T, b *box) {
	for name, cmd := range map[string]guest.Command{
		"no arguments":      {},
		"empty command":     {Args: []string{""}},
		"zero byte":         {Args: []string{"echo", "a\x00b"}},
		"not UTF-8":         {Args: []string{"echo", "\xff"}},
		"malformed env":     {Args: []string{"env"}, Env: []string{"=x"}},
		"malformed id":      {Args: []string{"true"}, ID: "../x"},
		"negative timeout":  {Args: []string{"true"}, Timeout: -1},
		"too many args":     {Args: make([]string, guest.MaxArgs+1)},
		"user with a slash": {Args: []string{"true"}, User: "../root"},
	} {
		if name == "too many args" {
			cmd.Args[0] = "true"
		}
		_, err := b.Start(t.Context(), cmd)
		wantKind(t, name, err, guest.KindInvalid)
	}
}

func testEnvironment(t *testing.T, b *box) {
	r := b.run(t, guest.Command{Args: []string{"env"}, Env: []string{"A=1", "B=x=y z", "A=2", "HOME=/h", "USER=u"}})
	var got []string
	for line := range strings.Lines(r.out) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, markPrefix) {
			got = append(got, line)
		}
	}
	slices.Sort(got)
	want := []string{
		"A=2", "B=x=y z", "HOME=/h",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "USER=u",
	}
	if !slices.Equal(got, want) {
		t.Errorf("environment: got %q, want %q", got, want)
	}
	if got := b.run(t, guest.Command{Args: []string{"sh", "-c", "echo $TERM"}, TTY: &guest.Size{}, Env: nil}).out; got != "xterm-256color\r\n" {
		t.Errorf("TERM on a terminal: got %q, want xterm-256color", got)
	}
}

// markPrefix is what the fake engine's agent adds to find a command's tree.
const markPrefix = "BOXLITE_EXECUTION="

func testDirectory(t *testing.T, b *box) {
	if got := b.run(t, guest.Command{Args: []string{"sh", "-c", "pwd"}, Dir: "/made/for/this", MakeDir: true}).out; !strings.HasSuffix(got, "/made/for/this\n") {
		t.Errorf("pwd: got %q, want /made/for/this", got)
	}
	if st, err := b.Stat(t.Context(), "/made/for/this"); err != nil || !st.IsDir() {
		t.Errorf("made directory: got %v, %v", st, err)
	}
	if got := b.run(t, sh("pwd")).out; b.isolated() && got != "/\n" {
		t.Errorf("pwd without Dir: got %q, want /", got)
	}
}

// isolated reports whether paths in the box are what commands see.
func (b *box) isolated() bool { _, lacks := b.judge.o.Lacks[Isolation]; return !lacks }

func testLookup(t *testing.T, b *box) {
	b.write(t, "/work/first/tool", 0o644, "not executable: passed over")
	b.write(t, "/work/second/tool", 0o755, "#!/bin/sh\necho second $1\n")
	for _, tt := range []struct {
		name string
		cmd  guest.Command
	}{
		{"relative path", guest.Command{Args: []string{"second/tool", "x"}, Dir: "/work"}},
		{"dot path", guest.Command{Args: []string{"./tool", "x"}, Dir: "/work/second"}},
		{"relative PATH", guest.Command{Args: []string{"tool", "x"}, Dir: "/work", Env: []string{"PATH=first:second:/bin:/usr/bin"}}},
		{"absolute path", guest.Command{Args: []string{"/work/second/tool", "x"}}},
	} {
		if got := b.run(t, tt.cmd).out; got != "second x\n" {
			t.Errorf("%s: got %q, want second x", tt.name, got)
		}
	}
}

func testStdin(t *testing.T, b *box) {
	want := noise(4 << 20)
	r := b.feed(t, guest.Command{Args: []string{"cat"}}, bytes.NewReader(want))
	if r.out != string(want) {
		t.Errorf("cat of %d bytes: got %d bytes back, or others", len(want), len(r.out))
	}
	p := b.begin(t, guest.Command{Args: []string{"sh", "-c", "read x; echo got $x"}, Stdin: true})
	io.WriteString(p.Stdin(), "line\n")
	if r := finish(t, p); r.out != "got line\n" {
		t.Errorf("read: got %q, want got line", r.out)
	}
	eventually(t, "write after the end gives io.ErrClosedPipe", func() bool {
		_, err := p.Stdin().Write([]byte("late"))
		return errors.Is(err, io.ErrClosedPipe)
	})
}

func testStdinUnread(t *testing.T, b *box) {
	b.mkdir(t, "/work")
	c := sh("seq 1 100000 | tail -n 1; while [ ! -e go ]; do sleep 0.01; done; exit 5")
	c.Dir, c.Stdin = "/work", true
	p := b.begin(t, c)
	var taken atomic.Int64
	fed := make(chan struct{})
	go func() { // ends with the command
		defer close(fed)
		for {
			n, err := p.Stdin().Write(make([]byte, 32<<10))
			taken.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	settles(t, "input that nobody reads", taken.Load)
	if n := taken.Load(); n > heldUp {
		t.Errorf("input that nobody reads: took %d bytes, want at most %d", n, heldUp)
	}
	b.write(t, "/work/go", 0o644, "")
	if r := finish(t, p); r.out != "100000\n" || r.exit.Code != 5 {
		t.Errorf("command that never reads: got %q, %+v, want 100000, 5", r.out, r.exit)
	}
	p.Close()
	await(t, "the writer ends", fed)
}

func testDescriptors(t *testing.T, b *box) {
	b.begin(t, guest.Command{Args: []string{"cat"}, Stdin: true}) // others have some
	b.begin(t, guest.Command{Args: []string{"cat"}, Stdin: true, TTY: &guest.Size{}})
	for _, limits := range []guest.Limits{{}, {OpenFiles: 64}} {
		got := b.run(t, guest.Command{Args: []string{"ls", "/proc/self/fd"}, Limits: limits}).out
		if want := "0\n1\n2\n3\n"; got != want { // the last is the directory itself
			t.Errorf("descriptors of a command: got %q, want %q", got, want)
		}
	}
}

func testManyExecs(t *testing.T, b *box) {
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			p, err := b.Start(t.Context(), guest.Command{Args: []string{"sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i)}})
			if err != nil {
				t.Errorf("start %d: %v", i, err)
				return
			}
			defer p.Close()
			var out bytes.Buffer
			x, err := p.Copy(&out, nil)
			if err != nil || x.Code != i || out.String() != fmt.Sprintln(i) {
				t.Errorf("command %d: got %q, %+v, %v", i, out.String(), x, err)
			}
		})
	}
	wg.Wait()
}

func testExecutions(t *testing.T, b *box) {
	p := b.begin(t, guest.Command{ID: "chosen-1", Args: []string{"sleep", "1000"}})
	if p.ID() != "chosen-1" || p.PID() <= 1 {
		t.Errorf("process: got id %q, pid %d, want chosen-1 and a pid", p.ID(), p.PID())
	}
	_, err := b.Start(t.Context(), guest.Command{ID: "chosen-1", Args: []string{"true"}})
	wantKind(t, "start with an id in use", err, guest.KindExists)
	b.run(t, sh("exit 4"))

	all, err := b.Executions(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("executions: got %+v, %v, want two", all, err)
	}
	if all[0].ID != "chosen-1" || all[0].Exit != nil || all[0].Args[1] != "1000" || all[0].Started.IsZero() {
		t.Errorf("running execution: got %+v", all[0])
	}
	if all[1].Exit == nil || all[1].Exit.Code != 4 {
		t.Errorf("ended execution: got %+v, want exit 4", all[1])
	}
	_, err = b.Execution(t.Context(), "unknown")
	wantKind(t, "unknown execution", err, guest.KindNoExecution)
	_, err = b.Attach(t.Context(), "unknown", guest.AttachOptions{})
	wantKind(t, "attach to an unknown execution", err, guest.KindNoExecution)
	wantKind(t, "kill of an unknown execution", b.Kill(t.Context(), "unknown"), guest.KindNoExecution)
}

func testStartContext(t *testing.T, b *box) {
	ctx, cancel := context.WithCancel(t.Context())
	p, err := b.Start(ctx, sh("sleep 0.2; echo done"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	cancel()
	if r := finish(t, p); r.out != "done\n" || r.exit.Code != 0 {
		t.Errorf("command after its start's ctx ended: got %q, %+v, want done, 0", r.out, r.exit)
	}
	cause := errors.New("enough")
	ctx, stop := context.WithCancelCause(t.Context())
	stop(cause)
	if _, err := b.Start(ctx, sh("true")); !errors.Is(err, cause) {
		t.Errorf("start with an ended ctx: got %v, want its cause", err)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func testWriterFails(t *testing.T, b *box) {
	p := b.begin(t, sh("seq 1 200000; exit 9"))
	full := errors.New("the reader's disk is full")
	if x, err := p.Copy(brokenWriter{full}, nil); !errors.Is(err, full) || x.Code != 9 {
		t.Errorf("Copy to a broken writer: got %+v, %v, want code 9 and its error", x, err)
	}
}

func testUsers(t *testing.T, b *box) {
	b.write(t, "/etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nann:x:1001:1002:Ann:/home/ann:/bin/sh\n")
	b.write(t, "/etc/group", 0o644, "root:x:0:\nann:x:1002:\nstaff:x:50:ann,bob\nwheel:x:60:bob,ann\n")
	for _, tt := range []struct{ user, want string }{
		{"", "0 0 0 /root root"},
		{"root", "0 0 0 /root root"},
		{"ann", "1001 1002 1002 50 60 /home/ann ann"},
		{"1001", "1001 1002 1002 50 60 /home/ann ann"},
		{"ann:staff", "1001 50 50 /home/ann ann"},
		{"4242", "4242 0 0 / "},
		{"4242:77", "4242 77 77 / "},
	} {
		c := sh("echo $(id -u) $(id -g) $(id -G) $HOME $USER")
		c.User = tt.user
		if got := strings.TrimSpace(b.run(t, c).out); got != strings.TrimSpace(tt.want) {
			t.Errorf("user %q: got %q, want %q", tt.user, got, tt.want)
		}
	}
	_, err := b.Start(t.Context(), guest.Command{Args: []string{"true"}, User: "ann:nogroup"})
	wantKind(t, "unknown group", err, guest.KindNoUser)
	c := sh("touch f; stat -c %u:%g . f")
	c.Dir, c.MakeDir, c.User = "/srv/ann", true, "ann"
	if got := b.run(t, c).out; got != "1001:1002\n1001:1002\n" {
		t.Errorf("made directory and file of ann: got %q, want hers", got)
	}
}
