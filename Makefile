# boxlite: `make help` lists the targets. T bounds each fuzz test, N is how
# often each benchmark runs.
T ?= 30s
N ?= 5

export CGO_ENABLED := 0
export GOTOOLCHAIN ?= auto
export PATH        := $(CURDIR)/build/go/bin:$(PATH)

VERSION = $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOBUILD = go build -trimpath -buildvcs=false
TOOL    = go tool -modfile=tools/go.mod

.DEFAULT_GOAL := build
.PHONY: help quickstart build wheel agent images test check fmt lint bench fuzz doctor vuln clean setup-build setup-test setup-check

help: ## print this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 14

quickstart: build ## install what is missing, build, get an image, run Python in a box
	@sh tools/quickstart.sh

build: agent ## bin/boxlite, one static file with the agent in it
	@echo "build: bin/boxlite $(VERSION)"
	@$(GOBUILD) -ldflags '-s -w -X github.com/boxlite-go/boxlite.version=$(VERSION)' -o bin/boxlite ./cmd/boxlite

wheel: build ## build/python: the Python package, with the binary in it, and its sources
	@rm -rf build/python
	@BOXLITE_BINARY=bin/boxlite BOXLITE_VERSION=$(VERSION) python3 sdk/python/backend/boxlite_build.py build/python

agent: setup-build ## the program that is PID 1 in a box, where the build embeds it
	@echo "build: agent"
	@$(GOBUILD) -ldflags '-s -w' -o internal/agentbin/agent-linux-$$(go env GOARCH) ./cmd/boxlite-agent

images: setup-build ## build/images: stand-ins made from Debian packages, for machines without a registry
	@go run ./internal/mkimage -o build/images

test: setup-test build images ## everything this machine can run, real boxes included
	@sh tools/test.sh

check: setup-check agent ## format, lint, vet, race tests on the fake engine, cross-build; Python's lint and types
	@sh tools/check.sh

fmt: setup-check ## format the tree
	@$(TOOL) gofumpt -w .
	@/usr/bin/python3 -m black --config sdk/python/pyproject.toml -q sdk/python examples/python

lint: ## golangci-lint
	@$(TOOL) golangci-lint run ./...

bench: build images ## benchmarks, N times each, into build/bench.txt
	@go test -run '^$$' -bench . -benchmem -count $(N) -timeout 60m ./... | tee build/bench.txt | grep -v 'no test files'
	@$(TOOL) benchstat build/bench.txt

fuzz: ## every fuzz test for T (30s)
	@sh tools/fuzz.sh $(T)

doctor: build ## what this machine can run
	@bin/boxlite doctor

vuln: ## known vulnerabilities in what we call
	@$(TOOL) govulncheck ./...

clean: ## remove what was built; downloads stay in build/cache
	@rm -rf bin build/images build/go build/python build/*.txt build/*.json internal/agentbin/agent-linux-*

setup-build setup-test setup-check:
	@sh tools/setup.sh $(@:setup-%=%)
