package real

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// cycle is the life of one box.
func cycle(t *testing.T, rt *boxlite.Runtime, detach bool) error {
	b, err := rt.Create(t.Context(), boxlite.BoxOptions{Image: boxtest.Alpine, Detach: detach})
	if err != nil {
		return err
	}
	out, err := b.Command(t.Context(), "echo", b.ID()).Output()
	if err == nil && string(out) != b.ID()+"\n" {
		err = fmt.Errorf("echo %s: got %q", b.ID(), out)
	}
	if e := b.Remove(t.Context(), boxlite.RemoveOptions{Force: true}); err == nil {
		err = e
	}
	return err
}

// TestManyCycles is the life of many boxes, one after the other and at once.
// It leaves nothing.
func TestManyCycles(t *testing.T) {
	rt, home := boxtest.New(t, boxtest.Alpine)
	if err := cycle(t, rt, false); err != nil { // which fills the caches
		t.Fatal(err)
	}
	hostBefore, homeBefore := boxtest.Leftovers(), tree(t, home)

	sequential, atOnce := 200, 24
	if boxtest.Long() {
		sequential, atOnce = 2000, 100
	}
	took := make([]time.Duration, 0, sequential)
	for i := range sequential {
		began := time.Now()
		if err := cycle(t, rt, i%2 == 1); err != nil {
			t.Fatalf("cycle %d: %v", i, err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("%d cycles one by one: p50 %v, p99 %v", sequential, took[sequential/2], took[sequential*99/100])

	began := time.Now()
	var wg sync.WaitGroup
	for i := range atOnce {
		wg.Go(func() {
			if err := cycle(t, rt, i%2 == 1); err != nil {
				t.Errorf("one of %d at once: %v", atOnce, err)
			}
		})
	}
	wg.Wait()
	t.Logf("%d at once: %v", atOnce, time.Since(began))

	if diff := hostBefore.Await(5 * time.Second); diff != "" {
		t.Errorf("left on the host:\n%s", diff)
	}
	if got := tree(t, home); got != homeBefore {
		t.Errorf("home: got\n%swant\n%s", got, homeBefore)
	}
}

// tree lists the files below a directory, except those of the open database.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil && !strings.Contains(path, "boxlite.db-") {
			fmt.Fprintln(&b, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
