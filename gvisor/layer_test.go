package gvisor_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite/gvisor"
	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/testenv"
)

func TestDamagedDiskIsRefused(t *testing.T) {
	m, s := boot(t)
	sh(t, m, "dd if=/dev/urandom of=/root/f bs=1M count=3 2>/dev/null")
	saveAndStop(t, m)
	var man struct{ Dir string }
	b, err := os.ReadFile(filepath.Join(s.Disk, "layer.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &man); err != nil {
		t.Fatal(err)
	}
	e := gvisor.New(gvisor.Options{CacheDir: t.TempDir()})
	for _, name := range []string{"segment-00000000", man.Dir + "/blocks", man.Dir + "/tree.tar", man.Dir + "/pages.meta", man.Dir + "/checkpoint", "layer.json"} {
		path := filepath.Join(s.Disk, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		flipped := append([]byte(nil), whole...)
		flipped[len(flipped)/2] ^= 0x40
		for what, content := range map[string][]byte{"cut": whole[:len(whole)/2], "flipped": flipped} {
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			m, err := e.Start(t.Context(), s)
			if err == nil {
				stop(t, m)
			}
			// A flipped bit in the manifest may still be valid, of another layer.
			if !errors.Is(err, gvisor.ErrDamaged) && name != "layer.json" || err == nil {
				t.Errorf("start with %s %s: got %v, want %v", name, what, err, gvisor.ErrDamaged)
			}
			if now, err := os.ReadFile(path); err != nil || string(now) != string(content) {
				t.Errorf("%s was changed by a refused start (%v)", name, err)
			}
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := sh(t, start(t, s), "wc -c < /root/f"), "3145728\n"; got != want {
		t.Errorf("mended disk: got %q, want %q", got, want)
	}
}

// TestDamageUnderARunningBoxIsMended: the box has what its saved layer has lost.
func TestDamageUnderARunningBoxIsMended(t *testing.T) {
	m, s := boot(t)
	sh(t, m, "dd if=/dev/urandom of=/root/f bs=1M count=4 2>/dev/null")
	save(t, m)
	path := filepath.Join(s.Disk, "segment-00000000")
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, st.Size()), 0o600); err != nil {
		t.Fatal(err)
	}
	// So much is new that the rest of the segment is copied.
	want := sh(t, m, "dd if=/dev/urandom of=/root/f bs=1M count=3 conv=notrunc 2>/dev/null; md5sum /root/f")
	if got := saveIt(t, m); got.Unchanged || !errors.Is(got.Mended, gvisor.ErrDamaged) {
		t.Errorf("save that copies what is damaged: got %+v, want it to tell", got)
	}
	if got := saveIt(t, m); !got.Unchanged || got.Mended != nil {
		t.Errorf("save after it: got %+v, want no change", got)
	}
	stop(t, m)
	if got := sh(t, start(t, s), "md5sum /root/f"); got != want {
		t.Errorf("after a restart: got %q, want %q", got, want)
	}
}

// TestDeletedFilesAreNotKept has a box whose commands hold open what they have
// deleted, saved and killed again and again: it keeps no more than its disk holds.
func TestDeletedFilesAreNotKept(t *testing.T) {
	testenv.NeedGVisor(t)
	s := spec(t)
	s.DiskSize = 16 << 20
	m := start(t, s)
	sh(t, m, "head -c 1000000 /dev/urandom >/root/kept")
	want := sh(t, m, "md5sum /root/kept")
	for range 4 {
		sh(t, m, `head -c 10000000 /dev/urandom >/root/f
			setsid sh -c 'exec 3</root/f; echo >/tmp/open; sleep 1000' >/dev/null 2>&1 &
			while ! rm /tmp/open 2>/dev/null; do usleep 1000; done; rm /root/f`)
		saveAndStop(t, m)
		m = start(t, s)
		if got := sh(t, m, "md5sum /root/kept"); got != want {
			t.Fatalf("after a restart: got %q, want %q", got, want)
		}
	}
	var size int64
	for _, name := range names(t, s.Disk) {
		if st, err := os.Stat(filepath.Join(s.Disk, name)); err == nil && strings.HasPrefix(name, "segment-") {
			size += st.Size()
		}
	}
	if size > 4_000_000 {
		t.Errorf("kept of a file of 1 MB and others that were deleted: got %d bytes, want little more than that", size)
	}
}

func TestLeftoversOfASaveAreRemoved(t *testing.T) {
	testenv.NeedGVisor(t)
	s := spec(t)
	if err := os.MkdirAll(filepath.Join(s.Disk, "layer-123/sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	stop(t, start(t, s))
	if got := names(t, s.Disk); len(got) != 0 {
		t.Errorf("disk after start and stop: got %q, want nothing", got)
	}
}

var updateLayer = flag.Bool("update-layer", false, "save testdata/layer-format2 with the gVisor linked here")

// A disk that was saved by an older version must load in every later one: if
// this fails after a change of gVisor's version, old layers need a conversion.
// The first format was saved by v0.0.0-20260905035102-160fafc42237.
func TestOldLayerLoads(t *testing.T) {
	testenv.NeedGVisor(t)
	const newest = "testdata/layer-format2"
	if *updateLayer {
		s := spec(t)
		m := start(t, s)
		sh(t, m, "cd /root; echo text > file; chmod 640 file; chown 3:4 file; ln file hard; ln -s file sym; rm /lower/deleted")
		saveAndStop(t, m)
		if err := errors.Join(os.RemoveAll(newest), os.CopyFS(newest, os.DirFS(s.Disk))); err != nil {
			t.Fatal(err)
		}
	}
	for _, golden := range []string{"testdata/layer-format1", newest} {
		t.Run(filepath.Base(golden), func(t *testing.T) {
			s := spec(t)
			if err := os.CopyFS(s.Disk, os.DirFS(golden)); err != nil {
				t.Fatal(err)
			}
			look := func(m engine.Machine) {
				t.Helper()
				got := sh(t, m, "cd /root; cat hard sym; stat -c '%a %u %g %h' file; ls /lower")
				if want := "text\ntext\n640 3 4 2\nchanged\ndir\ngone\nkept\n"; got != want {
					t.Errorf("box with an old layer: got %q, want %q", got, want)
				}
			}
			m := start(t, s)
			look(m)
			saveAndStop(t, m)
			look(start(t, s)) // saved again, in today's format
		})
	}
}

// TestLayerOfAnotherVersion shows what is looked at and what is said.
func TestLayerOfAnotherVersion(t *testing.T) {
	testenv.NeedGVisor(t)
	for _, tt := range []struct{ name, from, to, says string }{
		{"another gVisor, same format", `"engine":"unknown"`, `"engine":"v0.0.0-20200101000000-000000000000"`, ""},
		{"newer format", `"format":2`, `"format":9`, "has format 9, this version reads 1 and 2: run the version of boxlite that saved it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := spec(t)
			if err := os.CopyFS(s.Disk, os.DirFS("testdata/layer-format2")); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(s.Disk, "layer.json")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(string(b), tt.from, tt.to, 1)
			if changed == string(b) {
				t.Fatalf("%s has no %s", b, tt.from)
			}
			if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
				t.Fatal(err)
			}
			before := disk(t, s.Disk)
			m, err := gvisor.New(gvisor.Options{CacheDir: t.TempDir()}).Start(t.Context(), s)
			if err == nil {
				stop(t, m)
			}
			if said := fmt.Sprint(err); (err == nil) != (tt.says == "") || !strings.Contains(said, tt.says) {
				t.Errorf("start: got %v, want %q", err, tt.says)
			}
			if after := disk(t, s.Disk); after != before {
				t.Errorf("disk after the start: got\n%s\nwant\n%s", after, before)
			}
		})
	}
}
