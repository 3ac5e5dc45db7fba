#!/bin/sh
# check.sh: what every commit passes. It ends with a clean work tree or fails.
set -eu
tool="go tool -modfile=tools/go.mod"
say() { echo "check: $*"; }

say format
unformatted=$($tool gofumpt -l .)
[ -z "$unformatted" ] || { echo "not formatted, run make fmt:" $unformatted; exit 1; }

say lint
$tool golangci-lint run ./...

say vet
go vet ./...

say "Python: lint and types"
black="/usr/bin/python3 -m black --config sdk/python/pyproject.toml"
case $($black --version) in
*", 23."*) $black -q --check sdk/python examples/python || { echo "not formatted, run make fmt"; exit 1; } ;;
*) say "black is not the 23 of Debian 12, so its format is not judged" ;; # each year's style is another
esac
/usr/bin/python3 -m pyflakes sdk/python/src sdk/python/backend sdk/python/tests/*.py
(cd sdk/python && /usr/bin/python3 -m mypy)
/usr/bin/python3 sdk/python/tests/guide_types.py

say "race tests on the fake engine"
CGO_ENABLED=1 go run ./internal/gotest -race -short -timeout 10m . ./egress ./internal/... ./cmd/...

say "race tests of the API through a server"
BOXLITE_TEST_REMOTE=1 CGO_ENABLED=1 go run ./internal/gotest -race -short -timeout 10m .

say "build for arm64"
GOARCH=arm64 go build -buildvcs=false -o /dev/null ./cmd/boxlite-agent
GOARCH=arm64 go build -buildvcs=false ./...

say "go.mod is tidy"
go mod tidy -diff
git diff --exit-code
