package gvisor_test

import (
	"context"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/gvisor"
	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/testenv"
)

// layers are what BenchmarkSave and BenchmarkStartLayer have in the box.
var layers = []struct{ name, fill string }{
	{"fresh", "true"},
	{"100MB", "for i in $(seq 10); do head -c 10000000 /dev/urandom > /root/$i; done"},
	{"1GB", "for i in $(seq 100); do head -c 10000000 /dev/urandom > /root/$i; done"},
	{"10000files", "cd /root; for i in $(seq 100); do mkdir $i; for j in $(seq 100); do echo $j > $i/$j; done; done"},
}

// filled is a box with a saved layer.
func filled(b *testing.B, fill string) engine.Spec {
	b.Helper()
	s := spec(b)
	s.DiskSize, s.Memory = 4e9, 512<<20
	m := start(b, s)
	sh(b, m, fill)
	save(b, m)
	stop(b, m)
	return s
}

// BenchmarkSave is a save after a change of 10 MB, with how long the box stood
// still; first is the first save after a start.
func BenchmarkSave(b *testing.B) {
	testenv.NeedGVisor(b)
	for _, l := range layers {
		b.Run(l.name, func(b *testing.B) {
			m := start(b, filled(b, l.fill))
			first := saveIt(b, m).Paused
			var paused time.Duration
			for b.Loop() {
				b.StopTimer()
				sh(b, m, "head -c 10000000 /dev/urandom > /root/new; chmod 600 /root/new")
				b.StartTimer()
				paused += saveIt(b, m).Paused
			}
			b.ReportMetric(paused.Seconds()*1000/float64(b.N), "paused-ms/op")
			b.ReportMetric(first.Seconds()*1000, "first-ms")
		})
	}
}

// BenchmarkStartLayer is BenchmarkStart with a saved layer.
func BenchmarkStartLayer(b *testing.B) {
	testenv.NeedGVisor(b)
	e := gvisor.New(gvisor.Options{CacheDir: b.TempDir()})
	for _, l := range layers {
		b.Run(l.name, func(b *testing.B) {
			s := filled(b, l.fill)
			var ready time.Duration
			for b.Loop() {
				began := time.Now()
				m, err := e.Start(b.Context(), s)
				if err != nil {
					b.Fatal(err)
				}
				ready += time.Since(began)
				hi(b, guest.NewClient(m.Dial))
				b.StopTimer()
				now, cancel := context.WithCancel(b.Context())
				cancel()
				if err := m.Stop(now); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(ready.Seconds()*1000/float64(b.N), "ready-ms/op")
		})
	}
}
