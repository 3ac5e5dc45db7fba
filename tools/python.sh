#!/bin/sh
# python.sh: Python 3.14 below build/cache, for the tests of the package, where
# this machine has none. It is the build that uv installs too, which Debian and
# its kin do not have; it comes as a Go module, whose sum is checked here.
set -eu
module=github.com/kluctl/go-embed-python@v0.0.0-3.14.6-20260610-1
sum=h1:oGUS7++Wm3LgxUfD6AmJgKbKQD2wdQFO9PzyJv6T+E4=
to=build/cache/python3.14

command -v python3.14 >/dev/null && exit
[ ! -x $to/bin/python3.14 ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "setup: fetching Python 3.14"
if ! answer=$(cd "$work" && GO111MODULE=on GOFLAGS=-modcacherw GOMODCACHE=$work/mod go mod download -json $module); then
	echo "setup: no Python 3.14 from here, so no test with it: $answer"
	exit 0
fi
case $answer in
*"\"Sum\": \"$sum\""*) ;;
*)
	echo "setup: $module is not what it was: want $sum, got $answer" >&2
	exit 1
	;;
esac
cp -r "$work/mod/$module/python/internal/data/linux-$(go env GOARCH)" "$work/python"
find "$work/python" -name '*.gz' -exec gunzip {} +
chmod +x "$work/python/bin/"*
mkdir -p build/cache
rm -rf $to
cp -r "$work/python" $to
