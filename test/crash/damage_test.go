package crash

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// TestDamagedLayerIsKeptAndTold flips one bit of what a box has written.
func TestDamagedLayerIsKeptAndTold(t *testing.T) {
	rt, home := boxtest.New(t, boxtest.Alpine)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Alpine})
	boxtest.Sh(t, b, "head -c 1000000 /dev/urandom >/file")
	want := boxtest.Sh(t, b, "md5sum /file")
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(home, "boxes", b.ID(), "disk", "segment-*"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("segments of the layer: got %v, %v, want one", segments, err)
	}
	whole, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(whole)
	bad[len(bad)/2] ^= 4
	if err := os.WriteFile(segments[0], bad, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it does not get better by itself, nor worse
		err := b.Start(t.Context())
		for _, part := range []string{"saved layer is damaged", segments[0], "left as they are", "put back a copy", "or remove the box"} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("start: got %v, want %q in it", err, part)
			}
		}
		info, err := b.Info(t.Context())
		if err != nil || info.State != boxlite.StateFailed || !strings.Contains(info.Reason, "damaged") {
			t.Errorf("afterwards: got %s, %q, %v, want failed, and why", info.State, info.Reason, err)
		}
		if now, err := os.ReadFile(segments[0]); err != nil || !bytes.Equal(now, bad) {
			t.Errorf("the file: got %d bytes, %v, want it as it was", len(now), err)
		}
	}
	if err := os.WriteFile(segments[0], whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := boxtest.Sh(t, b, "md5sum /file"); got != want {
		t.Errorf("with the copy back: got %q, want %q", got, want)
	}
}
