package real

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// wheel is a Python package of one module, hello, with an answer in it.
func wheel(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	var record strings.Builder
	const info = "hello-1.0.dist-info/"
	for _, f := range [][2]string{
		{"hello.py", "answer = 6 * 7\n"},
		{info + "METADATA", "Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n"},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{info + "RECORD", ""},
	} {
		sum := sha256.Sum256([]byte(f[1]))
		if f[1] == "" {
			fmt.Fprintf(&record, "%s,,\n", f[0])
			f[1] = record.String()
		} else {
			fmt.Fprintf(&record, "%s,sha256=%s,%d\n", f[0], base64.RawURLEncoding.EncodeToString(sum[:]), len(f[1]))
		}
		part, err := w.Create(f[0])
		if err == nil {
			_, err = part.Write([]byte(f[1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPython(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Python)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python, WorkingDir: "/workspace", Security: boxlite.MaximumSecurity()})
	if err := b.WriteFile(t.Context(), "/workspace/hello-1.0-py3-none-any.whl", wheel(t), 0o644); err != nil {
		t.Fatal(err)
	}
	for script, want := range map[string]string{
		`pwd`:                        "/workspace\n",
		`python -c 'print(6*7)'`:     "42\n",
		`echo 'print(1)' | python -`: "1\n",
		`python -c 'import ssl, sqlite3, ctypes, lzma; print("modules")'`:                                                          "modules\n",
		`python -c 'from multiprocessing import Pool; print(sum(Pool(3).map(abs, range(-9, 0))))'`:                                 "45\n",
		`python -c 'import subprocess as s; print(s.run("exit 3", shell=True).returncode)'`:                                        "3\n",
		`python -c 'import asyncio; asyncio.run(asyncio.sleep(0.01)); print("slept")'`:                                             "slept\n",
		`python -c 'import tempfile; f = tempfile.NamedTemporaryFile(); f.write(b"x"); print("file")'`:                             "file\n",
		`python -m venv env && env/bin/pip install -q --no-index ./*.whl && env/bin/python -c 'import hello; print(hello.answer)'`: "42\n",
	} {
		if got := boxtest.Sh(t, b, script); got != want {
			t.Errorf("%s: got %q, want %q", script, got, want)
		}
	}
}

func TestNode(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Node)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Node})
	for script, want := range map[string]string{
		`node -e 'console.log(6 * 7)'`: "42\n",
		`echo 'module.exports = require("os").platform()' >/m.js; node -p 'require("/m.js")'`:                                                                                                                 "linux\n",
		`node -e 'require("child_process").exec("echo child", (e, out) => process.stdout.write(out))'`:                                                                                                        "child\n",
		`node -e 'const s = require("net").createServer(c => c.end("tcp\n")).listen(0, "127.0.0.1", () => require("net").connect(s.address().port).on("data", d => { process.stdout.write(d); s.close() }))'`: "tcp\n",
	} {
		if got := boxtest.Sh(t, b, script); got != want {
			t.Errorf("%s: got %q, want %q", script, got, want)
		}
	}
}

func TestDevelopmentTools(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Dev)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Dev, MemoryMiB: 1024, WorkingDir: "/w"})
	for _, step := range []struct{ name, script, want string }{
		{"git", `
			git init -q origin && cd origin && git config user.email a@b && git config user.name n &&
			for i in 1 2 3; do echo $i >f$i; git add . && git commit -q -m c$i; done &&
			cd .. && git clone -q origin copy && git -C copy log --format=%s | tr '\n' ' ' && git -C copy status --short`, "c3 c2 c1 "},
		{"gcc", `
			printf '#include <stdio.h>\n#include <pthread.h>\nvoid *f(void *a) { puts("thread"); return a; }\nint main(void) { pthread_t t; pthread_create(&t, 0, f, 0); pthread_join(t, 0); puts("compiled"); }\n' >m.c &&
			printf 'm: m.c\n\tcc -O2 -o m m.c -lpthread\n' >Makefile && make -s m && ./m`, "thread\ncompiled\n"},
		{"sqlite", `
			sqlite3 db 'pragma journal_mode=wal; create table t(n); with recursive c(n) as (select 1 union all select n+1 from c where n<1000) insert into t select n from c; select sum(n) from t'`, "wal\n500500\n"},
		{
			"dpkg", `
			mkdir -p pkg/DEBIAN pkg/usr/bin && printf 'Package: hello-box\nVersion: 1.0\nArchitecture: all\nMaintainer: n <a@b>\nDescription: test\n' >pkg/DEBIAN/control &&
			printf '#!/bin/sh\necho installed\n' >pkg/usr/bin/hello-box && chmod 755 pkg/usr/bin/hello-box && printf '#!/bin/sh\ntouch /configured\n' >pkg/DEBIAN/postinst && chmod 755 pkg/DEBIAN/postinst &&
			dpkg-deb --build pkg hello.deb >/dev/null && dpkg -i hello.deb >/dev/null && ls /configured && hello-box && dpkg -s hello-box | grep Status`,
			"/configured\ninstalled\nStatus: install ok installed\n",
		},
		{"apt", `dpkg -r hello-box >/dev/null; rm /configured; DEBIAN_FRONTEND=noninteractive apt-get install -y -q ./hello.deb >log 2>&1 || cat log; ls /configured; hello-box`, "/configured\ninstalled\n"},
		{"user", `useradd -m worker && su worker -c 'cd && touch mine && stat -c %U mine'`, "worker\n"},
		{"sudo", `printf 'worker ALL=(ALL) NOPASSWD: ALL\n' >/etc/sudoers.d/worker && su worker -c 'sudo id -u'`, "0\n"},
	} {
		out, err := b.Command(t.Context(), "sh", "-c", step.script).Output()
		if err != nil || string(out) != step.want {
			t.Errorf("%s: got %q, %v, want %q", step.name, out, err, step.want)
			if exit, ok := err.(*boxlite.ExitError); ok {
				t.Logf("%s", exit.Stderr)
			}
		}
	}
	// All of it is there after a stop and a start.
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := boxtest.Sh(t, b, "hello-box; ./m; git -C copy status --short; sqlite3 db 'select count(*) from t'; stat -c %U ~worker/mine"),
		"installed\nthread\ncompiled\n1000\nworker\n"; got != want {
		t.Errorf("after a restart: got %q, want %q", got, want)
	}
}
