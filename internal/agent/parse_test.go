package agent

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite/internal/guest"
)

func TestUsersAreThoseOfTheBox(t *testing.T) {
	dir := t.TempDir()
	u := users{passwd: filepath.Join(dir, "passwd"), group: filepath.Join(dir, "group")}
	write := func(path, s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(u.passwd, "# comment\n\nmalformed:x:1\nbad:x:-1:5::/:/\nroot:x:0:0:root:/root:/bin/sh\n"+
		"ann:x:1001:1002:Ann:/home/ann:/bin/sh\nann:x:5:5:twice:/:/\n42:x:77:77:a name of digits:/n:/\n")
	write(u.group, "root:x:0:\nann:x:1002:\nstaff:x:50:bob,ann\nbroken:x:y:ann\nannex:x:51:annabel\n")
	for _, tt := range []struct {
		spec   string
		want   account
		groups []uint32
	}{
		{"", account{name: "root", home: "/root"}, []uint32{0}},
		{"0", account{name: "root", home: "/root"}, []uint32{0}},
		{"ann", account{name: "ann", uid: 1001, gid: 1002, home: "/home/ann"}, []uint32{1002, 50}},
		{"ann:staff", account{name: "ann", uid: 1001, gid: 50, home: "/home/ann"}, nil},
		{"ann:7", account{name: "ann", uid: 1001, gid: 7, home: "/home/ann"}, nil},
		{"42", account{name: "42", uid: 77, gid: 77, home: "/n"}, []uint32{77}},
		{"4000000000", account{uid: 4000000000, home: "/"}, nil},
		{"9:staff", account{uid: 9, gid: 50, home: "/"}, nil},
	} {
		got, err := u.lookup(tt.spec)
		if err != nil {
			t.Errorf("%q: %v", tt.spec, err)
			continue
		}
		if got.name != tt.want.name || got.uid != tt.want.uid || got.gid != tt.want.gid || got.home != tt.want.home ||
			!slices.Equal(got.groups, tt.groups) {
			t.Errorf("%q: got %+v, want %+v %v", tt.spec, *got, tt.want, tt.groups)
		}
	}
	for _, spec := range []string{"bob", "bad", "malformed", "ann:nogroup", "4294967295", "4294967296", "-1", ":", "ann:", "#"} {
		if spec == ":" {
			continue // root, with a missing group
		}
		if got, err := u.lookup(spec); err == nil || remote(err).Kind != guest.KindNoUser {
			t.Errorf("%q: got %+v, %v, want KindNoUser", spec, got, err)
		}
	}
	none := users{passwd: dir + "/none", group: dir + "/none"}
	if got, err := none.lookup(""); err != nil || got.uid != 0 || got.home != "/root" {
		t.Errorf("root of a box without users: got %+v, %v", got, err)
	}
}

func TestUserFilesAreBounded(t *testing.T) {
	seen := 0
	endless := io.MultiReader(strings.NewReader("a:b:c\n"), rep{"x:y:z\n"})
	if err := eachEntry(endless, 3, func([]string) bool { seen++; return true }); err != nil {
		t.Errorf("endless file: got %v, want it cut", err)
	}
	if seen == 0 || seen > maxUserFile {
		t.Errorf("endless file: %d entries", seen)
	}
	if err := eachEntry(rep{"x"}, 3, func([]string) bool { return true }); err == nil {
		t.Error("endless line: got nil, want an error")
	}
}

// rep is a text for ever.
type rep struct{ s string }

func (r rep) Read(p []byte) (int, error) { return copy(p, strings.Repeat(r.s, len(p)/len(r.s)+1)), nil }

// FuzzUsers parses any user files and looks anybody up.
func FuzzUsers(f *testing.F) {
	f.Add("root:x:0:0:root:/root:/bin/sh\n", "root:x:0:\n", "root")
	f.Add("a:x:1:2:::\n", "g:x:3:a,b\n", "a:g")
	f.Add("::::::\n", ":::\n", "0:0")
	f.Fuzz(func(t *testing.T, passwd, group, spec string) {
		dir := t.TempDir()
		u := users{passwd: filepath.Join(dir, "p"), group: filepath.Join(dir, "g")}
		os.WriteFile(u.passwd, []byte(passwd), 0o600)
		os.WriteFile(u.group, []byte(group), 0o600)
		who, err := u.lookup(spec)
		switch {
		case err != nil && remote(err).Kind != guest.KindNoUser:
			t.Errorf("%q: got %v, want KindNoUser", spec, err)
		case err == nil && (who.uid == 1<<32-1 || len(who.groups) > maxGroups):
			t.Errorf("%q: got %+v", spec, who)
		}
	})
}

func TestEntryNamesStayInside(t *testing.T) {
	for name, want := range map[string]string{
		"a": "a", "a/": "a", "./a": "a", "a//b/./c": "a/b/c", ".": ".", "./": ".", "..a": "..a", "a..": "a..",
		"": "", "/": "", "/a": "", "..": "", "../a": "", "a/..": "", "a/../b": "", "a/../../b": "", "a\x00": "",
		strings.Repeat("x", 5000): "",
	} {
		got, err := entryName(name)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%.20q: got %q, %v, want %q", name, got, err, want)
		}
	}
}

// TestCopierKeepsContent copies runs of zeros and data of random lengths.
func TestCopierKeepsContent(t *testing.T) {
	var c copier
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 2))
		var want []byte
		for range r.IntN(12) {
			run := make([]byte, r.IntN(400000))
			if r.IntN(2) == 0 {
				copy(run, random(r, len(run)))
			}
			want = append(want, run...)
		}
		path := filepath.Join(t.TempDir(), "f")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		n, err := c.copy(f, iotestHalf{bytes.NewReader(want)})
		f.Close()
		got, rerr := os.ReadFile(path)
		if err != nil || rerr != nil || n != int64(len(want)) || !bytes.Equal(got, want) {
			t.Errorf("seed %d: got %d bytes, %v, want %d", seed, len(got), err, len(want))
		}
	}
	if _, err := c.copy(nil, iotestErr{}); err != io.ErrUnexpectedEOF {
		t.Errorf("source cut: got %v, want io.ErrUnexpectedEOF", err)
	}
}

type iotestHalf struct{ r io.Reader }

func (h iotestHalf) Read(p []byte) (int, error) { return h.r.Read(p[:(len(p)+1)/2]) }

type iotestErr struct{}

func (iotestErr) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestRlimitsPutTheAddressSpaceLast(t *testing.T) {
	all := rlimits(guest.Limits{OpenFiles: 1, FileSize: 2, AddressSpace: 3, CPUTime: 1})
	if len(all) != 4 || all[3].value != 3 {
		t.Errorf("limits: got %v, want four, the address space last", all)
	}
	if args := limitsArgs(limitWords(guest.Limits{OpenFiles: 1}), "/bin/x", []string{"x", "y"}); strings.Join(args, " ") != "boxlite-limits 7=1 /bin/x x y" {
		t.Errorf("command line of the helper: got %q", args)
	}
	if got := rlimits(guest.Limits{Processes: 5}); len(got) != 0 {
		t.Errorf("a bound on processes alone: got %v, want none: it is the cgroup's", got)
	}
}
