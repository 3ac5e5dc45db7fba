package bench

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/testenv"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// python is the interpreter that Debian's packages are for.
const python = "/usr/bin/python3"

// drive runs in a box what each line of standard input asks for, and answers
// with the seconds that took.
const drive = `
import asyncio, sys, time
import boxlite

async def main():
    box = await boxlite.Boxlite.default().get(sys.argv[1])
    print("ready", flush=True)
    for line in sys.stdin:
        begun = time.perf_counter()
        execution = await box.exec(line.strip())
        result = await execution.wait()
        took = time.perf_counter() - begun
        print(took if result.exit_code == 0 else result, flush=True)

asyncio.run(main())
`

func pythonCommand(b *testing.B, home string, args ...string) *exec.Cmd {
	b.Helper()
	if _, err := os.Stat(python); err != nil {
		testenv.Missing(b, "python", err.Error())
	}
	cmd := exec.CommandContext(b.Context(), python, args...)
	cmd.Env = append(os.Environ(), "BOXLITE_HOME="+home, "BOXLITE_BINARY="+boxtest.CLI(b),
		"PYTHONPATH="+filepath.Join(boxtest.Root(), "sdk", "python", "src"))
	cmd.Stderr = os.Stderr
	return cmd
}

// BenchmarkExecBy is a command that does nothing in the same running box: from
// Go, from Python, and by the program, which is started each time.
func BenchmarkExecBy(b *testing.B) {
	rt, home := boxtest.New(b, boxtest.Alpine)
	box := boxtest.Box(b, rt, boxlite.BoxOptions{Image: boxtest.Alpine})
	boxtest.Sh(b, box, "true")
	b.Run("go", func(b *testing.B) {
		measure(b, func() error { return box.Command(b.Context(), "true").Run() })
	})
	b.Run("python", func(b *testing.B) { execByPython(b, home, box.ID()) })
	b.Run("cli", func(b *testing.B) {
		cli := boxtest.CLI(b)
		measure(b, func() error {
			return exec.CommandContext(b.Context(), cli, "--home", home, "exec", box.ID(), "true").Run()
		})
	})
}

// execByPython measures as Python does: the talk with the driver is not part of
// the times.
func execByPython(b *testing.B, home, box string) {
	b.Helper()
	cmd := pythonCommand(b, home, "-c", drive, box)
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	r := bufio.NewReader(out)
	if line, err := r.ReadString('\n'); err != nil || line != "ready\n" {
		b.Fatalf("python: said %q, %v", line, err)
	}
	var all times
	for b.Loop() {
		if _, err := io.WriteString(in, "true\n"); err != nil {
			b.Fatal(err)
		}
		line, err := r.ReadString('\n')
		if err != nil {
			b.Fatal(err)
		}
		took, err := time.ParseDuration(strings.TrimSpace(line) + "s")
		if err != nil {
			b.Fatalf("python: said %q", line)
		}
		all = append(all, took)
	}
	all.report(b)
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkPythonImport is the import of the package: alone, and with the first
// use of a name, which loads what is behind it. "asyncio" is what every program
// of that kind loads.
func BenchmarkPythonImport(b *testing.B) {
	for name, code := range map[string]string{
		"asyncio": "import asyncio",
		"package": "import boxlite",
		"runtime": "import boxlite; boxlite.Boxlite",
	} {
		b.Run(name, func(b *testing.B) {
			timed := fmt.Sprintf("import time; t = time.perf_counter(); %s; print(time.perf_counter() - t)", code)
			home := b.TempDir()
			var all times
			for b.Loop() {
				line, err := pythonCommand(b, home, "-c", timed).Output()
				if err != nil {
					b.Fatal(err)
				}
				took, err := time.ParseDuration(strings.TrimSpace(string(line)) + "s")
				if err != nil {
					b.Fatal(err)
				}
				all = append(all, took)
			}
			all.report(b)
		})
	}
}
