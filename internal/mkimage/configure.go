package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strings"
)

// md5Hex is the digest that dpkg's database uses.
func md5Hex(b []byte) string {
	sum := md5.Sum(b)
	return hex.EncodeToString(sum[:])
}

// defaults are files that maintainer scripts copy from where the package has
// them. A destination that ends in a slash is a directory.
var defaults = [][2]string{
	{"usr/share/base-files/profile", "etc/profile"},
	{"usr/share/base-files/dot.bashrc", "root/.bashrc"},
	{"usr/share/base-files/dot.profile", "root/.profile"},
	{"usr/share/base-files/nsswitch.conf", "etc/nsswitch.conf"},
	{"usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf"},
	{"usr/share/base-passwd/passwd.master", "etc/passwd"},
	{"usr/share/base-passwd/group.master", "etc/group"},
	{"usr/share/pam/common-account", "etc/pam.d/common-account"},
	{"usr/share/pam/common-auth", "etc/pam.d/common-auth"},
	{"usr/share/pam/common-password", "etc/pam.d/common-password"},
	{"usr/share/pam/common-session", "etc/pam.d/common-session"},
	{"usr/share/pam/common-session-noninteractive", "etc/pam.d/common-session-noninteractive"},
}

// pam replaces the variables in the templates of libpam-runtime by the one
// module that a fresh system has.
var pam = strings.NewReplacer(
	"$account_primary", "account\t[success=1 new_authtok_reqd=done default=ignore]\tpam_unix.so",
	"$auth_primary", "auth\t[success=1 default=ignore]\tpam_unix.so nullok",
	"$password_primary", "password\t[success=1 default=ignore]\tpam_unix.so obscure yescrypt",
	"$session_primary", "session\t[default=1]\tpam_permit.so",
	"$session_nonint_primary", "session\t[default=1]\tpam_permit.so",
	"$account_additional", "", "$auth_additional", "", "$password_additional", "",
	"$session_additional", "session\trequired\tpam_unix.so", "$session_nonint_additional", "",
)

// configure does the small part of maintainer scripts that a container needs.
func configure(_ context.Context, t *tree) error {
	for _, d := range defaults {
		b, err := t.content(d[0])
		if err != nil {
			return err
		}
		if b != nil {
			t.file(d[1], pam.Replace(string(b)))
		}
	}
	for _, l := range [][3]string{ // link, target, only where there is
		{"usr/bin/sh", "dash", "usr/bin/dash"},
		{"usr/bin/awk", "mawk", "usr/bin/mawk"},
		{"usr/bin/which", "which.debianutils", "usr/bin/which.debianutils"},
	} {
		if t.has(l[2]) && !t.has(l[0]) {
			t.symlink(l[0], l[1])
		}
	}
	t.file("etc/hostname", "")
	t.file("etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n")
	if t.has("etc/host.conf") && !t.has("etc/environment") {
		t.file("etc/environment", "")
	}
	return nil
}

// accounts makes sure that there are users, and shadow files for them.
func accounts(_ context.Context, t *tree) error {
	if !t.has("etc/passwd") {
		t.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n")
		t.file("etc/group", "root:x:0:\ntty:x:5:\nshadow:x:42:\nnogroup:x:65534:\n")
	}
	b, err := t.content("etc/passwd")
	if err != nil {
		return err
	}
	passwd := strings.ReplaceAll(string(b), ":*:", ":x:")
	if t.has("usr/bin/apt") {
		passwd += "_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n"
	}
	if b, err = t.content("etc/group"); err != nil {
		return err
	}
	group := strings.ReplaceAll(string(b), ":*:", ":x:")
	t.file("etc/passwd", passwd)
	t.file("etc/group", group)
	t.fileMode("etc/shadow", locked(passwd, "*:18262:0:99999:7:::"), 0o640, 42)
	t.fileMode("etc/gshadow", locked(group, "*::"), 0o640, 42)
	return nil
}

// locked gives each name of a colon-separated list a password that none matches.
func locked(list, rest string) string {
	var b strings.Builder
	for line := range strings.Lines(list) {
		name, _, _ := strings.Cut(line, ":")
		fmt.Fprintf(&b, "%s:%s\n", name, rest)
	}
	return b.String()
}

// certificates bundles what ca-certificates trusts, where OpenSSL looks for a
// bundle. The directory of hashed names, which only a script can make, is not
// needed then.
func certificates(_ context.Context, t *tree) error {
	var bundle bytes.Buffer
	for _, name := range t.names() {
		if !strings.HasPrefix(name, "usr/share/ca-certificates/") || path.Ext(name) != ".crt" {
			continue
		}
		b, err := t.content(name)
		if err != nil {
			return err
		}
		bundle.Write(bytes.TrimSpace(b))
		bundle.WriteByte('\n')
	}
	if bundle.Len() == 0 {
		return nil
	}
	const file = "etc/ssl/certs/ca-certificates.crt"
	t.file(file, bundle.String())
	t.dir("usr/lib/ssl", 0o755)
	t.symlink("usr/lib/ssl/cert.pem", "/"+file)
	return nil
}

// busybox links the programs that the busybox in the tree can be, unless a
// package brought one.
func busybox(ctx context.Context, t *tree) error {
	b, err := t.content("usr/bin/busybox")
	if b == nil || err != nil || t.has("usr/bin/dash") {
		return err
	}
	applets, err := applets(ctx, b)
	if err != nil {
		return err
	}
	for _, name := range applets {
		if !t.has(name) {
			t.symlink(name, "/usr/bin/busybox")
		}
	}
	return nil
}

// applets asks the program itself for its list.
func applets(ctx context.Context, program []byte) ([]string, error) {
	f, err := os.CreateTemp("", "busybox")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(program)
	if err = cmp.Or(err, f.Chmod(0o700), f.Close()); err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, f.Name(), "--list-full").Output()
	if err != nil {
		return nil, fmt.Errorf("busybox --list-full: %w", err)
	}
	return strings.Fields(string(out)), nil
}

// describe says in the image what it is, where no package does.
func (r recipe) describe(t *tree) error {
	if t.has("usr/lib/os-release") {
		return nil
	}
	t.file("etc/os-release", fmt.Sprintf("ID=boxlite\nNAME=\"boxlite stand-in\"\nPRETTY_NAME=\"boxlite stand-in for %s\"\n", r.ref))
	return nil
}
