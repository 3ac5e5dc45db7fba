package gvisor

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/boxlite-go/boxlite/internal/hostos"
)

// What a manifest names stays, also when a save was told that it could not write
// one: the error may have come after it was replaced.
func TestWhatTheManifestNamesIsNotRemoved(t *testing.T) {
	l, err := openLayer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, written := range []bool{false, true} {
		n, err := l.next()
		if err != nil {
			t.Fatal(err)
		}
		if written {
			b, err := json.Marshal(n.manifest)
			if err != nil {
				t.Fatal(err)
			}
			if err := hostos.WriteFileAtomic(filepath.Join(l.disk, manifestName), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if n.kept = n.named(); n.kept != written {
			t.Errorf("named by the manifest: got %v, want %v", n.kept, written)
		}
		n.close()
		if _, err := os.Stat(n.dir); (err == nil) != written {
			t.Errorf("directory of a layer that the manifest names (%v): %v", written, err)
		}
	}
}
