package agent

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/boxlite-go/boxlite/internal/guest"
)

// Bounds of the box's own user files: whoever is root in it may write them.
const (
	maxUserFile = 4 << 20 // bytes read of each
	maxUserLine = 64 << 10
	maxGroups   = 1024 // supplementary groups of one user
)

// account is who a command runs as.
type account struct {
	name   string // empty for a number without an entry
	uid    uint32
	gid    uint32
	groups []uint32
	home   string
}

func (a *account) credential() *syscall.Credential {
	return &syscall.Credential{Uid: a.uid, Gid: a.gid, Groups: a.groups}
}

// users looks names up in the box's /etc/passwd and /etc/group.
type users struct {
	passwd, group string // paths
}

// lookup resolves name, uid, name:group or uid:gid. Numbers need no entry.
// The error is a *guest.Error of KindNoUser.
func (u users) lookup(spec string) (*account, error) {
	user, group, grouped := strings.Cut(spec, ":")
	if user == "" {
		user = "0"
	}
	a, err := u.user(user)
	if err != nil {
		return nil, err
	}
	if grouped {
		gid, err := u.gid(group)
		if err != nil {
			return nil, err
		}
		a.gid = gid
		return a, nil // as with docker: an explicit group is the only one
	}
	if a.name != "" {
		a.groups = u.groups(a.name, a.gid)
	}
	return a, nil
}

func (u users) user(user string) (*account, error) {
	var found *account
	uid, numeric := parseID(user)
	err := eachLine(u.passwd, 7, func(f []string) bool {
		id, ok := parseID(f[2])
		gid, gok := parseID(f[3])
		if !ok || !gok || (f[0] != user && (!numeric || id != uid)) {
			return true
		}
		found = &account{name: f[0], uid: id, gid: gid, home: f[5]}
		return false
	})
	switch {
	case found != nil:
		return found, nil
	case numeric && uid == 0:
		return &account{home: "/root"}, nil
	case numeric:
		return &account{uid: uid, home: "/"}, nil
	case err != nil && !os.IsNotExist(err):
		return nil, fail(guest.KindNoUser, "user %q: %v", user, err)
	}
	return nil, fail(guest.KindNoUser, "no user %q in the box", user)
}

func (u users) gid(group string) (uint32, error) {
	gid, numeric := parseID(group)
	if numeric {
		return gid, nil
	}
	found := false
	_ = eachLine(u.group, 4, func(f []string) bool {
		id, ok := parseID(f[2])
		if ok && f[0] == group {
			gid, found = id, true
		}
		return !found
	})
	if !found {
		return 0, fail(guest.KindNoUser, "no group %q in the box", group)
	}
	return gid, nil
}

func (u users) groups(name string, primary uint32) []uint32 {
	all := []uint32{primary}
	_ = eachLine(u.group, 4, func(f []string) bool {
		id, ok := parseID(f[2])
		if !ok || id == primary {
			return true
		}
		for member := range strings.SplitSeq(f[3], ",") {
			if member == name {
				all = append(all, id)
				break
			}
		}
		return len(all) < maxGroups
	})
	return all
}

// parseID takes what Linux takes: 0 to 2^32-2, since -1 means "no change".
func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n != 1<<32-1
}

// eachLine calls f with the fields of each line that has exactly want, until f
// returns false. Malformed lines are passed over, as libc does.
func eachLine(path string, want int, f func([]string) bool) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return eachEntry(file, want, f)
}

func eachEntry(r io.Reader, want int, f func([]string) bool) error {
	sc := bufio.NewScanner(io.LimitReader(r, maxUserFile))
	sc.Buffer(make([]byte, 0, 4<<10), maxUserLine)
	for sc.Scan() {
		fields := strings.Split(sc.Text(), ":")
		if len(fields) != want || fields[0] == "" || fields[0][0] == '#' {
			continue
		}
		if !f(fields) {
			return nil
		}
	}
	return sc.Err()
}
