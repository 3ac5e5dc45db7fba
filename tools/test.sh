#!/bin/sh
# test.sh: every test this machine can run. What it can run is probed here with
# the system's own tools, so that a broken engine cannot turn into a skip.
set -eu
require=erofs
if unshare -Urmpnf true 2>/dev/null; then
	require=gvisor,$require
else
	echo "test: no user namespaces here, so no tests with real boxes"
fi
if unshare -n ip link add test0 type veth peer name test1 2>/dev/null; then
	require=netlab,$require
else
	echo "test: not root, or no veth here, so no tests in a laboratory of networks"
fi
# BoxLite's npm client drives our server, where npm and its registry are.
if [ -d build/npm/node_modules ] || npm view @boxlite-ai/boxlite@0.10.0 version >/dev/null 2>&1; then
	require=npm,$require
else
	echo "test: no npm registry here, so no test with BoxLite's npm client"
fi
if command -v python3.14 >/dev/null || [ -x build/cache/python3.14/bin/python3.14 ]; then
	require=python3.14,$require
fi
echo "test: required: $require"
BOXLITE_TEST_REQUIRE=$require BOXLITE_TEST_IMAGES=$PWD/build/images \
	go run ./internal/gotest -count 1 -timeout 20m ./...

case $require in *gvisor*)
	echo "test: the API's tests once more, on gVisor"
	BOXLITE_TEST_REQUIRE=$require BOXLITE_TEST_ENGINE=gvisor go run ./internal/gotest -count 1 -timeout 20m .
	echo "test: and through a server"
	BOXLITE_TEST_REQUIRE=$require BOXLITE_TEST_ENGINE=gvisor BOXLITE_TEST_REMOTE=1 go run ./internal/gotest -count 1 -timeout 20m .
	;;
esac

echo "test: the Python package"
BOXLITE_TEST_REQUIRE=program,images,$require BOXLITE_TEST_IMAGES=$PWD/build/images \
	timeout -k 10 1800 /usr/bin/python3 -m pytest -q -rs sdk/python
