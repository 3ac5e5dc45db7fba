package shim

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite/egress"
)

// seqs returns the numbers of the events in a file.
func seqs(t *testing.T, path string) (all []uint64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var e egress.Event
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			t.Fatalf("%s: %v: %q", path, err, s.Text())
		}
		all = append(all, e.Seq)
	}
	return all
}

// TestNetworkLogIsBounded writes far more than is kept: the last events are
// there, in order, and each is whole.
func TestNetworkLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "network.jsonl")
	l, err := newEventLog(path)
	if err != nil {
		t.Fatal(err)
	}
	const events = 20000
	for i := range uint64(events) {
		l.record(egress.Event{Seq: i, Kind: egress.KindDNS, Name: strings.Repeat("x", 200)})
	}
	l.Close()
	all := append(seqs(t, path+".1"), seqs(t, path)...)
	for i, seq := range all {
		if want := all[0] + uint64(i); seq != want {
			t.Fatalf("event %d in the log: got number %d, want %d", i, seq, want)
		}
	}
	if last := all[len(all)-1]; last != events-1 {
		t.Errorf("last event: got %d, want %d", last, events-1)
	}
	for _, p := range []string{path, path + ".1"} {
		st, err := os.Stat(p)
		if err != nil || st.Size() > maxEvents {
			t.Errorf("%s: got %d bytes, %v, want at most %d", p, st.Size(), err, maxEvents)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 2 {
		t.Errorf("files: got %v, %v, want 2", entries, err)
	}
}

// TestNetworkLogGoesOn starts again after a crash that cut the last line.
func TestNetworkLogGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "network.jsonl")
	for i := range uint64(3) {
		l, err := newEventLog(path)
		if err != nil {
			t.Fatal(err)
		}
		l.record(egress.Event{Seq: i})
		l.Close()
		l.record(egress.Event{Seq: 99}) // too late: lost, and no harm
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"seq":3,"ti`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	l, err := newEventLog(path)
	if err != nil {
		t.Fatal(err)
	}
	l.record(egress.Event{Seq: 4})
	l.Close()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 5 || !strings.Contains(lines[4], `"seq":4`) || lines[3] != `{"seq":3,"ti` {
		t.Errorf("log: got\n%swant three lines, the cut one, and the last", text)
	}
}
