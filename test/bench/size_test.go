package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/hostos"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// BenchmarkIdle is what boxes cost that have run a command and now do nothing:
// the memory of their owner, machine and all below, pages that are shared
// counted in parts, and processor time.
func BenchmarkIdle(b *testing.B) {
	const rest = 2 * time.Second
	for _, boxes := range []int{1, 10} {
		b.Run(fmt.Sprintf("boxes=%d", boxes), func(b *testing.B) {
			_, home := boxtest.New(b, boxtest.Alpine)
			rt := product(b, home)
			var owners, pids []int
			for range boxes {
				box := boxtest.Box(b, rt, boxlite.BoxOptions{Image: boxtest.Alpine})
				boxtest.Sh(b, box, "true")
				info, err := box.Info(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				owners = append(owners, info.PID)
				pids = append(append(pids, info.PID), hostos.Descendants(info.PID)...)
			}
			time.Sleep(2 * rest) // let them come to rest
			pids = memories(pids)
			var all []int64
			began, before := time.Now(), cpu(owners)
			for b.Loop() {
				time.Sleep(rest)
				var pss int64
				for _, pid := range pids {
					pss += proportional(b, pid)
				}
				all = append(all, pss)
			}
			used := cpu(owners) - before
			slices.Sort(all) // a box is saved once meanwhile, which takes memory for a moment
			b.ReportMetric(float64(all[len(all)/2])/float64(boxes)/(1<<20), "PSS-MiB/box")
			b.ReportMetric(used.Seconds()/time.Since(began).Seconds()*100/float64(boxes), "cpu-%/box")
		})
	}
}

// BenchmarkIdleSaved is a box at rest that has been saved while it ran and goes
// on being looked at, each second.
func BenchmarkIdleSaved(b *testing.B) {
	const rest = 5 * time.Second
	_, home := boxtest.New(b, boxtest.Alpine)
	box := boxtest.Box(b, product(b, home), boxlite.BoxOptions{Image: boxtest.Alpine, SaveInterval: time.Second})
	boxtest.Sh(b, box, "true")
	boxtest.Eventually(b, time.Minute, "the box is saved", func() bool {
		info, err := box.Info(b.Context())
		return err == nil && !info.Saved.IsZero() && !info.Unsaved
	})
	info, err := box.Info(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	pids := append([]int{info.PID}, hostos.Descendants(info.PID)...)
	time.Sleep(time.Second)
	pids = memories(pids)
	for b.Loop() {
		before := cpu(pids[:1])
		time.Sleep(rest)
		var pss int64
		for _, pid := range pids {
			pss += proportional(b, pid)
		}
		b.ReportMetric(float64(pss)/(1<<20), "PSS-MiB")
		b.ReportMetric((cpu(pids[:1])-before).Seconds()/rest.Seconds()*100, "cpu-%")
	}
}

// product opens the runtime in home with the program that users have as owner
// of boxes, which is smaller than a test.
func product(b *testing.B, home string) *boxlite.Runtime {
	b.Helper()
	rt, err := boxlite.Open(b.Context(), boxlite.Config{Home: home, Engine: boxtest.Engine, Helper: boxtest.CLI(b)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := rt.Close(); err != nil {
			b.Error(err)
		}
	})
	return rt
}

func cpu(owners []int) (used time.Duration) {
	for _, pid := range owners {
		used += hostos.TreeCPU(pid)
	}
	return used
}

// memories leaves one process of those that share an address space, as the
// machine's for one process of the box do: the kernel tells the size of the
// whole of it for each.
func memories(pids []int) (distinct []int) {
	const vm = 1 // KCMP_VM of linux/kcmp.h
	for _, pid := range pids {
		if !slices.ContainsFunc(distinct, func(other int) bool {
			differ, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(pid), uintptr(other), vm, 0, 0, 0)
			return errno == 0 && differ == 0
		}) {
			distinct = append(distinct, pid)
		}
	}
	return distinct
}

// proportional is the proportional set size of a process, in bytes.
func proportional(b *testing.B, pid int) int64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0 // has ended
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "Pss:"); ok {
			n, err := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n << 10
		}
	}
	return 0
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// BenchmarkStdout is the output of a command that writes as much as it can.
func BenchmarkStdout(b *testing.B) {
	const size = 256 << 20
	rt, _ := boxtest.New(b, boxtest.Alpine)
	box := boxtest.Box(b, rt, boxlite.BoxOptions{Image: boxtest.Alpine})
	boxtest.Sh(b, box, "true")
	b.SetBytes(size)
	for b.Loop() {
		var n counter
		c := box.Command(b.Context(), "dd", "if=/dev/zero", "bs=1M", fmt.Sprintf("count=%d", size>>20))
		c.Stdout = &n
		if err := c.Run(); err != nil || n != size {
			b.Fatalf("got %d bytes, %v, want %d", n, err, size)
		}
	}
}

// BenchmarkCopy moves 1 GB in one file, and 10000 small files, both ways.
func BenchmarkCopy(b *testing.B) {
	const size = 1e9
	for _, tt := range []struct {
		name  string
		bytes int64
		make  func(b *testing.B, dir string)
	}{
		{"1GB", size, func(b *testing.B, dir string) {
			data := make([]byte, 1e6)
			for i := range data {
				data[i] = byte(i * i >> 5)
			}
			f, err := os.Create(filepath.Join(dir, "big"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			for range int(size / 1e6) {
				if _, err := f.Write(data); err != nil {
					b.Fatal(err)
				}
			}
		}},
		{"10000files", 0, func(b *testing.B, dir string) {
			for i := range 10000 {
				sub := filepath.Join(dir, strconv.Itoa(i/100))
				if err := os.MkdirAll(sub, 0o755); err != nil {
					b.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(sub, strconv.Itoa(i)), []byte(strings.Repeat("x", 100+i%1000)), 0o644); err != nil {
					b.Fatal(err)
				}
			}
		}},
	} {
		src := b.TempDir()
		tt.make(b, src)
		b.Run(tt.name+"/in", func(b *testing.B) {
			rt, _ := boxtest.New(b, boxtest.Alpine)
			b.SetBytes(tt.bytes)
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				box := boxtest.Box(b, rt, boxlite.BoxOptions{Image: boxtest.Alpine})
				boxtest.Sh(b, box, "true")
				b.StartTimer()
				if err := box.CopyIn(b.Context(), src, "/data"); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := box.Remove(b.Context(), boxlite.RemoveOptions{Force: true}); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
		b.Run(tt.name+"/out", func(b *testing.B) {
			rt, _ := boxtest.New(b, boxtest.Alpine)
			box := boxtest.Box(b, rt, boxlite.BoxOptions{Image: boxtest.Alpine})
			if err := box.CopyIn(b.Context(), src, "/data"); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(tt.bytes)
			for b.Loop() {
				b.StopTimer()
				dst := filepath.Join(b.TempDir(), "out")
				b.StartTimer()
				if err := box.CopyOut(b.Context(), "/data", dst); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := os.RemoveAll(dst); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
