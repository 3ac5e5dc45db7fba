package enginetest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/guest"
)

var outputCases = []testCase{
	on("BothStreamsAreExact", testBothStreams),
	on("LargeOutputIsExact", testLargeOutput),
	on("SlowReaderHoldsUpTheCommand", testBackPressure),
	on("ReattachGoesOnAtOffset", testReattach),
	on("DetachedCommandGoesOn", testDetached),
	on("LateReaderIsToldOfTheGap", testGap),
	on("LossyReaderHoldsUpNothing", testLossy),
	on("SeveralReadersSeeTheSame", testManyReaders),
	on("BackgroundChildDelaysNoExit", testBackground),
	on("OutputAfterTheExitIsKept", testLateOutput),
	on("EndedAreKeptUpToABound", testRetention),
}

// noise is reproducible bytes that nothing compresses or repeats.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func lines(prefix string, n int) string {
	var s strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&s, "%s%d\n", prefix, i)
	}
	return s.String()
}

func testBothStreams(t *testing.T, b *box) {
	r := b.run(t, sh(`i=1; while [ $i -le 10000 ]; do echo out$i; echo err$i >&2; i=$((i+1)); done`))
	if want := lines("out", 10000); r.out != want {
		t.Errorf("stdout: got %d bytes, want %d, or others", len(r.out), len(want))
	}
	if want := lines("err", 10000); r.errs != want {
		t.Errorf("stderr: got %d bytes, want %d, or others", len(r.errs), len(want))
	}
	if r.exit.StdoutEnd != int64(len(r.out)) || r.exit.StderrEnd != int64(len(r.errs)) {
		t.Errorf("exit: got ends %d, %d, want %d, %d", r.exit.StdoutEnd, r.exit.StderrEnd, len(r.out), len(r.errs))
	}
}

// counter is a writer that hashes and counts.
type counter struct {
	n    int64
	hash hash.Hash
}

func newCounter() *counter { return &counter{hash: sha256.New()} }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.hash.Write(p)
}

func testLargeOutput(t *testing.T, b *box) {
	block, times := noise(8<<20), 16
	b.write(t, "/work/block", 0o644, string(block))
	want := newCounter()
	for range times {
		want.Write(block)
	}
	c := sh(fmt.Sprintf("i=0; while [ $i -lt %d ]; do cat block; i=$((i+1)); done", times))
	c.Dir = "/work"
	p := b.begin(t, c)
	got := newCounter()
	x, err := p.Copy(got, nil)
	if err != nil || x.Code != 0 {
		t.Fatalf("Copy: %+v, %v", x, err)
	}
	if got.n != want.n || !bytes.Equal(got.hash.Sum(nil), want.hash.Sum(nil)) {
		t.Errorf("output: got %d bytes, want %d, or others", got.n, want.n)
	}
}

// heldUp is how much a command may write before it waits for its reader: ring,
// pipe, what is on the way, and the sockets' own buffers.
const heldUp = 8 << 20

func testBackPressure(t *testing.T, b *box) {
	b.write(t, "/work/count", 0o644, "0")
	c := sh(`i=0; while [ $i -lt 48 ]; do head -c 1048576 /dev/zero; i=$((i+1)); echo $i > count; done`)
	c.Dir = "/work"
	p := b.begin(t, c)
	var count int64
	settles(t, "a command whose reader does not read", func() int64 {
		count, _ = strconv.ParseInt(strings.TrimSpace(b.read(t, "/work/count")), 10, 64)
		return count
	})
	if count<<20 > heldUp {
		t.Errorf("command without a reader wrote %d MiB, want at most %d", count, heldUp>>20)
	}
	got := newCounter()
	if x, err := p.Copy(got, nil); err != nil || x.Code != 0 || got.n != 48<<20 {
		t.Errorf("then: got %d bytes, %+v, %v, want %d, 0", got.n, x, err, 48<<20)
	}
}

// settles waits until a number that grows at first stays the same for long.
func settles(t *testing.T, what string, number func() int64) {
	t.Helper()
	last, same := int64(0), 0
	eventually(t, what+" stops", func() bool {
		now := number()
		if now != last || now == 0 {
			last, same = now, 0
			return false
		}
		same++
		return same > 60
	})
}

func testReattach(t *testing.T, b *box) {
	c := sh("seq 1 20000; echo err >&2; read x; seq 20001 40000")
	c.Stdin = true
	p := b.begin(t, c)
	head := &limited{n: 5000, p: p}
	if _, err := p.Copy(head, nil); err == nil {
		t.Fatal("Copy of a stream that was closed: got nil, want an error")
	}
	q, err := b.Attach(t.Context(), p.ID(), guest.AttachOptions{StdoutFrom: head.took, Stdin: true})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	io.WriteString(q.Stdin(), "go\n")
	r := finish(t, q)
	if got, want := head.buf.String()+r.out, lines("", 40000); got != want {
		t.Errorf("output in two parts: got %d bytes, want %d, or others", len(got), len(want))
	}
	if r.errs != "err\n" {
		t.Errorf("stderr after reattaching: got %q, want err", r.errs)
	}
	if x, _ := b.Attach(t.Context(), p.ID(), guest.AttachOptions{}); x != nil {
		if again := finish(t, x); again.out != lines("", 40000) || again.exit != r.exit {
			t.Errorf("attach after the end: got %d bytes, %+v", len(again.out), again.exit)
		}
		x.Close()
	}
}

// limited takes n bytes, then closes the process it reads from.
type limited struct {
	n    int
	took int64
	buf  bytes.Buffer
	p    *guest.Process
}

func (w *limited) Write(p []byte) (int, error) {
	p = p[:min(len(p), w.n-w.buf.Len())]
	w.took += int64(len(p))
	w.buf.Write(p)
	if w.buf.Len() == w.n && w.p != nil {
		w.p.Close()
	}
	return len(p), nil
}

func testDetached(t *testing.T, b *box) {
	p, err := b.Start(t.Context(), sh("head -c 20000000 /dev/zero"))
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	eventually(t, "a command whose reader left goes on", func() bool {
		x, err := b.Execution(t.Context(), p.ID())
		if err != nil {
			t.Fatal(err)
		}
		return x.Exit != nil && x.Exit.StdoutEnd == 20000000
	})
}

func testGap(t *testing.T, b *box) {
	c := sh("seq 1 500000")
	c.Keep = 100 << 10
	p, err := b.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	eventually(t, "the command ends", func() bool {
		x, err := b.Execution(t.Context(), p.ID())
		return err == nil && x.Exit != nil
	})
	q, err := b.Attach(t.Context(), p.ID(), guest.AttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	r := finish(t, q)
	all := lines("", 500000)
	lost, _ := q.Lost()
	if len(r.out) != 100<<10 || lost+int64(len(r.out)) != int64(len(all)) || !strings.HasSuffix(all, r.out) {
		t.Errorf("replay: got %d bytes after a gap of %d, want the last %d of %d", len(r.out), lost, 100<<10, len(all))
	}
}

func testLossy(t *testing.T, b *box) {
	c := sh("read x; seq 1 700000; echo end >&2")
	c.Stdin = true
	p, err := b.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	q, err := b.Attach(t.Context(), p.ID(), guest.AttachOptions{Lossy: true})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	io.WriteString(p.Stdin(), "go\n")
	p.Close()
	eventually(t, "a command with a lossy reader that does not read ends", func() bool {
		x, err := b.Execution(t.Context(), p.ID())
		return err == nil && x.Exit != nil
	})
	r := finish(t, q)
	lost, _ := q.Lost()
	if lost == 0 || lost+int64(len(r.out)) != r.exit.StdoutEnd || !strings.HasSuffix(r.out, "700000\n") {
		t.Errorf("lossy reader: got %d bytes and a gap of %d of %d, want a gap and the end", len(r.out), lost, r.exit.StdoutEnd)
	}
}

func testManyReaders(t *testing.T, b *box) {
	c := sh("read x; seq 1 100000")
	c.Stdin = true
	p := b.begin(t, c)
	var wg sync.WaitGroup
	for range 4 {
		q, err := b.Attach(t.Context(), p.ID(), guest.AttachOptions{})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer q.Close()
			var out bytes.Buffer
			if _, err := q.Copy(&out, nil); err != nil || out.String() != lines("", 100000) {
				t.Errorf("reader: got %d bytes, %v", out.Len(), err)
			}
		})
	}
	io.WriteString(p.Stdin(), "go\n")
	if r := finish(t, p); r.out != lines("", 100000) {
		t.Errorf("first reader: got %d bytes", len(r.out))
	}
	wg.Wait()
}

func testBackground(t *testing.T, b *box) {
	began := time.Now()
	r := b.run(t, guest.Command{Args: []string{"sh", "-c", "sleep 1000 & echo hi"}})
	if r.out != "hi\n" || r.exit.Code != 0 {
		t.Errorf("command with a child in the background: got %q, %+v, want hi, 0", r.out, r.exit)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("exit came after %v, want at once", d)
	}
}

func testLateOutput(t *testing.T, b *box) {
	b.mkdir(t, "/work")
	c := sh("(while [ ! -e go ]; do sleep 0.01; done; echo late) & echo early")
	c.Dir = "/work"
	p := b.begin(t, c)
	if r := finish(t, p); r.out != "early\n" {
		t.Errorf("output till the exit: got %q, want early", r.out)
	}
	b.write(t, "/work/go", 0o644, "")
	eventually(t, "output of the child comes after the exit", func() bool {
		q, err := b.Attach(t.Context(), p.ID(), guest.AttachOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		return finish(t, q).out == "early\nlate\n"
	})
}

func testRetention(t *testing.T, b *box) {
	first := b.begin(t, guest.Command{Args: []string{"echo", "first"}})
	finish(t, first)
	for range 70 {
		b.run(t, guest.Command{Args: []string{"true"}})
	}
	all, err := b.Executions(t.Context())
	if err != nil || len(all) > 64 {
		t.Errorf("executions kept: got %d, %v, want at most 64", len(all), err)
	}
	_, err = b.Attach(t.Context(), first.ID(), guest.AttachOptions{})
	wantKind(t, "attach to one long ended", err, guest.KindNoExecution)

	for range 12 { // 2 MiB each
		c := sh("head -c 2097152 /dev/zero")
		c.Keep = 2 << 20
		b.run(t, c)
	}
	all, err = b.Executions(t.Context())
	if err != nil || len(all) > 9 {
		t.Errorf("executions of 2 MiB kept: got %d, %v, want few: 16 MiB in all", len(all), err)
	}
}
