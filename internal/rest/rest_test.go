package rest

import (
	"encoding/json"
	"io/fs"
	"slices"
	"testing"
	"time"
)

// TestEnvKeepsItsOrder: an environment is an object on the wire, and a list
// again on the other side.
func TestEnvKeepsItsOrder(t *testing.T) {
	env := Env{"Z=1", "A=a=b", "EMPTY=", `Q="\`, "Ü=é"}
	text, err := json.Marshal(env)
	if err != nil || string(text) != `{"Z":"1","A":"a=b","EMPTY":"","Q":"\"\\","Ü":"é"}` {
		t.Fatalf("got %s, %v", text, err)
	}
	var back Env
	if err := json.Unmarshal(text, &back); err != nil || !slices.Equal(back, env) {
		t.Errorf("got %q, %v, want %q", back, err, env)
	}
	for _, bad := range []string{`[]`, `"A=b"`, `1`, `{"A":1}`, `{"A":{}}`, `{"A":["b"]}`, `{"A":null}`} {
		if err := json.Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("%s: got %q, want an error", bad, back)
		}
	}
	if err := json.Unmarshal([]byte("null"), &back); err != nil || back != nil {
		t.Errorf("null: got %q, %v, want nothing", back, err)
	}
}

// FuzzEnv: what is read is written as it was, and nothing of it is lost.
func FuzzEnv(f *testing.F) {
	for _, s := range []string{`{}`, `{"A":"b","A":"c"}`, `{"":""}`, `null`, `{"A":1}`, `[`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var env, back Env
		if json.Unmarshal(text, &env) != nil {
			return
		}
		again, err := json.Marshal(env)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(again, &back); err != nil || len(back) != len(env) {
			t.Fatalf("%s became %s, %q, %v", text, again, back, err)
		}
	})
}

// TestFilesAreTheSame: what io/fs says of a file outlasts the wire.
func TestFilesAreTheSame(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for _, mode := range []fs.FileMode{
		0o644, fs.ModeDir | 0o755 | fs.ModeSticky, fs.ModeSymlink | 0o777, fs.ModeNamedPipe, fs.ModeSocket | 0o600,
		fs.ModeDevice | 0o660, fs.ModeDevice | fs.ModeCharDevice | 0o666, 0o4755&^0o4000 | fs.ModeSetuid, fs.ModeSetgid | 0o2755&^0o2000,
	} {
		for _, name := range []string{"plain", "not\xffUTF-8"} {
			st := known{name, mode, at}
			text, err := json.Marshal(FileOf(st))
			if err != nil {
				t.Fatal(err)
			}
			var f File
			if err := json.Unmarshal(text, &f); err != nil {
				t.Fatal(err)
			}
			got := f.Info()
			if got.Name() != st.Name() || got.Mode() != st.Mode() || got.Size() != st.Size() || !got.ModTime().Equal(at) || got.IsDir() != st.IsDir() {
				t.Errorf("%v %q: got %v %q %d", mode, name, got.Mode(), got.Name(), got.Size())
			}
		}
	}
}

// known is what is known of a file.
type known struct {
	name string
	mode fs.FileMode
	at   time.Time
}

func (m known) Name() string       { return m.name }
func (m known) Size() int64        { return 5 }
func (m known) Mode() fs.FileMode  { return m.mode }
func (m known) ModTime() time.Time { return m.at }
func (m known) IsDir() bool        { return m.mode.IsDir() }
func (m known) Sys() any           { return nil }
