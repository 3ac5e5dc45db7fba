package bench

import (
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/hostos"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// places are where the same work is done: in a volume, in the writable layer
// beside it, and on the host, in the directory that is the volume.
func places(b *testing.B) map[string]func(script string) ([]byte, error) {
	b.Helper()
	rt, _ := boxtest.New(b, boxtest.Dev)
	dir := b.TempDir()
	box := boxtest.Box(b, rt, boxlite.BoxOptions{Image: boxtest.Dev, CPUs: 2, MemoryMiB: 1024, Volumes: []boxlite.Volume{{Host: dir, Guest: "/v"}}})
	boxtest.Sh(b, box, "mkdir /layer")
	in := func(dir string) func(string) ([]byte, error) {
		return func(script string) ([]byte, error) {
			return box.Command(b.Context(), "sh", "-c", "cd "+dir+" && "+script).CombinedOutput()
		}
	}
	return map[string]func(string) ([]byte, error){
		"volume": in("/v"),
		"layer":  in("/layer"),
		"host": func(script string) ([]byte, error) {
			cmd := exec.CommandContext(b.Context(), "sh", "-c", script)
			cmd.Dir = dir
			return cmd.CombinedOutput()
		},
	}
}

// BenchmarkVolume is work with files in a volume, beside the same elsewhere.
// The large file stays in the page cache.
func BenchmarkVolume(b *testing.B) {
	const size = 1 << 30
	at := places(b)
	for _, bench := range []struct {
		name, before, script string
		bytes                int64
	}{
		{"read", fmt.Sprintf("[ -e big ] || dd if=/dev/zero of=big bs=1M count=%d", size>>20), "dd if=big of=/dev/null bs=1M", size},
		{"write", "rm -f out", fmt.Sprintf("dd if=/dev/zero of=out bs=1M count=%d", size>>20), size},
		{"create10000", "rm -rf small", "mkdir small && cd small && " + small("open('%d' % i, 'w').write('x')"), 0},
		{"read10000", "true", "cd small && " + small("open('%d' % i).read()"), 0},
		{"stat10000", "true", "cd small && " + small("os.stat('%d' % i)"), 0},
		{"find10000", "true", "find small | wc -l", 0},
		{"remove10000", "[ -e small/0 ] || (mkdir -p small && cd small && " + small("open('%d' % i, 'w').close()") + ")", "rm -rf small", 0},
	} {
		for _, place := range []string{"host", "volume", "layer"} {
			b.Run(bench.name+"/"+place, func(b *testing.B) {
				run := at[place]
				if bench.bytes > 0 {
					b.SetBytes(bench.bytes)
				}
				for b.Loop() {
					b.StopTimer()
					if out, err := run(bench.before); err != nil {
						b.Fatalf("%v\n%s", err, out)
					}
					b.StartTimer()
					if out, err := run(bench.script); err != nil {
						b.Fatalf("%v\n%s", err, out)
					}
				}
			})
		}
	}
}

// small does something for each of 10 000 files.
func small(each string) string {
	return fmt.Sprintf(`python3 -c "import os
for i in range(10000): %s"`, each)
}

// BenchmarkIdleGofer is what a box costs more because it has volumes.
func BenchmarkIdleGofer(b *testing.B) {
	const rest = 5 * time.Second // until it has given back what only its start took
	_, home := boxtest.New(b, boxtest.Alpine)
	rt := product(b, home)
	box := boxtest.Box(b, rt, boxlite.BoxOptions{Volumes: []boxlite.Volume{{Host: b.TempDir(), Guest: "/v"}, {Host: b.TempDir(), Guest: "/w"}}})
	boxtest.Sh(b, box, "ls /v /w")
	pid := boxtest.Gofer(b, box)
	time.Sleep(rest)
	for b.Loop() {
		before := hostos.TreeCPU(pid)
		time.Sleep(rest)
		b.ReportMetric(float64(proportional(b, pid))/(1<<20), "PSS-MiB")
		b.ReportMetric((hostos.TreeCPU(pid)-before).Seconds()/rest.Seconds()*100, "cpu-%")
	}
}

// BenchmarkStartWithVolumes is from Start to the end of the first command that
// looks at all volumes.
func BenchmarkStartWithVolumes(b *testing.B) {
	for _, n := range []int{0, 1, 20} {
		b.Run(fmt.Sprintf("volumes=%d", n), func(b *testing.B) {
			_, home := boxtest.New(b, boxtest.Alpine)
			rt := product(b, home)
			o := boxlite.BoxOptions{}
			for i := range n {
				o.Volumes = append(o.Volumes, boxlite.Volume{Host: b.TempDir(), Guest: fmt.Sprintf("/v/%d", i)})
			}
			var all times
			for b.Loop() {
				b.StopTimer()
				box := boxtest.Box(b, rt, o)
				b.StartTimer()
				began := time.Now()
				boxtest.Sh(b, box, "ls /v /v/* >/dev/null 2>&1 || true")
				all = append(all, time.Since(began))
				b.StopTimer()
				if err := box.Remove(b.Context(), boxlite.RemoveOptions{Force: true}); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			all.report(b)
		})
	}
}
