#!/bin/sh
# setup.sh build|test|check: installs the Debian packages that a make target
# needs and this machine lacks, and sees to a Go that is new enough. Silent
# when nothing is missing.
set -eu

missing=
need() { # PROBE PACKAGE: a command or a file, and the package that brings it
	case $1 in
	/*) [ -e "$1" ] && return ;;
	*) command -v "$1" >/dev/null && return ;;
	esac
	missing="$missing $2"
}

module() { # MODULE PACKAGE: of the system's Python, which packages are made for
	/usr/bin/python3 -c "import $1" 2>/dev/null || missing="$missing $2"
}

need go golang-go
need git git
need /etc/ssl/certs/ca-certificates.crt ca-certificates
[ "$1" = build ] || need fsck.erofs erofs-utils
[ "$1" = build ] || need busybox busybox-static
[ "$1" = build ] || need ip iproute2
[ "$1" != test ] || need node nodejs
[ "$1" != test ] || need npm npm
[ "$1" != test ] || need curl curl
[ "$1" = build ] || need /usr/bin/python3 python3
[ "$1" != test ] || module ensurepip python3-venv
[ "$1" = build ] || module pytest python3-pytest
[ "$1" != test ] || module pytest_asyncio python3-pytest-asyncio
[ "$1" != test ] || module uvloop python3-uvloop
[ "$1" != check ] || module mypy python3-mypy
[ "$1" != check ] || module pyflakes python3-pyflakes
[ "$1" != check ] || module black black
[ "$1" != check ] || need gcc gcc
[ "$1" != check ] || need /usr/include/stdio.h libc6-dev

if [ -n "$missing" ]; then
	if ! command -v apt-get >/dev/null; then
		echo "setup: please install what Debian calls$missing, then try again" >&2
		exit 1
	elif [ "$(id -u)" != 0 ]; then
		echo "setup: packages are missing; run: sudo apt-get install -y --no-install-recommends$missing" >&2
		exit 1
	fi
	echo "setup: installing$missing"
	log=$(mktemp)
	if ! { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends $missing; } >"$log" 2>&1 </dev/null; then
		cat "$log" >&2
		rm -f "$log"
		exit 1
	fi
	rm -f "$log"
fi

# Go from 1.21 on fetches the version that go.mod names by itself. An older one
# (Debian 12 has 1.19) can fetch it too, as the module it is delivered in, with
# the checksum database's blessing; only the execute bits are lost that way.
want=$(sed -n 's/^go //p' go.mod)
case $(go env GOVERSION) in
go1.?.* | go1.? | go1.1?.* | go1.1? | go1.20*)
	echo "setup: fetching Go $want with $(go env GOVERSION)"
	mod=golang.org/toolchain@v0.0.1-go$want.$(go env GOOS)-$(go env GOARCH)
	(cd / && GO111MODULE=on go mod download "$mod")
	dir=$(go env GOMODCACHE)/$mod
	chmod -R u+w "$dir"
	find "$dir/bin" "$dir/pkg/tool" -type f -exec chmod +x {} +
	mkdir -p build
	ln -sfn "$dir" build/go
	;;
esac
if ! err=$(go version 2>&1); then
	echo "setup: $err" >&2
	echo "setup: boxlite needs Go $want; see https://go.dev/doc/install" >&2
	exit 1
fi
[ "$1" != test ] || sh tools/python.sh
