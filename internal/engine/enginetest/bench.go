package enginetest

import (
	"archive/tar"
	"io"
	"testing"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/guest"
)

// benchSize is how much a throughput benchmark moves at a time, in bytes.
const benchSize = 256 << 20

// Bench measures what goes through the agent of an engine's machine.
func Bench(b *testing.B, eng engine.Engine, o Options) {
	j := &judge{eng: eng, o: o}
	for _, bench := range []struct {
		name string
		run  func(b *testing.B, x *box)
	}{
		{"Ping", benchPing},
		{"ExecTrue", benchExec},
		{"Stdout", benchStdout},
		{"CopyIn", benchCopyIn},
		{"CopyOut", benchCopyOut},
	} {
		b.Run(bench.name, func(b *testing.B) { bench.run(b, j.start(b)) })
	}
}

func benchPing(b *testing.B, x *box) {
	for b.Loop() {
		if _, err := x.Ping(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func benchExec(b *testing.B, x *box) {
	for b.Loop() {
		if r := x.run(b, guest.Command{Args: []string{"true"}}); r.exit.Code != 0 {
			b.Fatal(r)
		}
	}
}

func benchStdout(b *testing.B, x *box) {
	b.SetBytes(benchSize)
	for b.Loop() {
		p := x.begin(b, guest.Command{Args: []string{"dd", "if=/dev/zero", "bs=256k", "count=" + itoa(benchSize/(256<<10))}})
		if got, err := p.Copy(io.Discard, nil); err != nil || got.StdoutEnd != benchSize {
			b.Fatal(got, err)
		}
		p.Close()
	}
}

// tarStream is one large file that is no holes.
func tarStream() io.Reader {
	r, w := io.Pipe()
	block := noise(1 << 20)
	go func() { // ends with the reader
		tw := tar.NewWriter(w)
		err := tw.WriteHeader(&tar.Header{Name: "big", Typeflag: tar.TypeReg, Mode: 0o644, Size: benchSize})
		for i := 0; i < benchSize/len(block) && err == nil; i++ {
			_, err = tw.Write(block)
		}
		if err == nil {
			err = tw.Close()
		}
		w.CloseWithError(err)
	}()
	return r
}

func benchCopyIn(b *testing.B, x *box) {
	b.SetBytes(benchSize)
	for b.Loop() {
		if err := x.CopyIn(b.Context(), guest.CopyIn{Path: "/bench/"}, tarStream()); err != nil {
			b.Fatal(err)
		}
	}
}

func benchCopyOut(b *testing.B, x *box) {
	if err := x.CopyIn(b.Context(), guest.CopyIn{Path: "/bench/"}, tarStream()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(benchSize)
	for b.Loop() {
		f, err := x.CopyOut(b.Context(), guest.CopyOut{Path: "/bench/big"})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, f); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
