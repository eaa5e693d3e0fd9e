# The commands of this repository. `make` alone lists them.

# Everything is built by the toolchain that go.mod pins, whichever Go is installed: an older or newer one fetches it. This
# is the one place that says so; scripts/check-go.sh explains what to do where that can't work. A distributor who must
# build with another Go says so on the command line: make build GOTOOLCHAIN=local.
export GOTOOLCHAIN := $(shell sed -n 's/^toolchain //p' go.mod)

VERSION   := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS   := -s -w -X main.version=$(VERSION)
FUZZTIME  ?= 20s
COUNT     ?= 5
IMAGE     ?= pgmtls-proxy:$(VERSION)
# An end for tests that hang: go prints every goroutine then. The whole run takes a few minutes.
TIMEOUT   ?= 15m
ENGINE    ?= $(shell command -v docker || command -v podman)

.DEFAULT_GOAL := help
.PHONY: help check-go setup build demo test lint vuln fuzz bench bench-control microbench soak image clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install PostgreSQL, openssl, BIND, Prometheus and a C compiler from the distribution, if they are missing
	@scripts/setup.sh

check-go:
	@scripts/check-go.sh

build: check-go ## bin/pgmtls-proxy and bin/pgmtls, static
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/pgmtls-proxy ./cmd/pgmtls

demo: setup ## a tour of both programs with real psql and PostgreSQL; ONCE=1 ends by itself
	@go build -buildvcs=false -o .demo/demo ./demo
	@.demo/demo

test: setup ## every test, with the race detector
	@scripts/fetch-postgres.sh
	@scripts/fetch-drivers.sh
	go test -race -timeout $(TIMEOUT) ./...

lint: check-go ## gofmt, go vet, staticcheck, errcheck, go.mod, shellcheck
	@scripts/lint.sh

vuln: check-go ## govulncheck: fails on a known vulnerability that the code reaches; VULNDB=latest asks a newer database
	@scripts/vuln.sh $(VULNDB)

fuzz: check-go ## every fuzz target for FUZZTIME (20s) each
	@scripts/fuzz.sh $(FUZZTIME)

bench: setup ## the proxy beside its peers, into bench/results; QUICK=1 takes three minutes
	@QUICK='$(QUICK)' scripts/bench.sh

bench-control: check-go ## the control plane with a thousand databases, into bench/results; QUICK=1 takes half a minute
	@QUICK='$(QUICK)' scripts/bench-control.sh

microbench: setup ## the Go benchmarks, COUNT (5) times
	@scripts/bench-micro.sh $(COUNT)

soak: setup ## the long proofs, which make test leaves out
	go test -race -tags soak -count 1 -timeout 60m ./...

image: build ## a container image, IMAGE=pgmtls-proxy:VERSION
	@scripts/check-static.sh bin/pgmtls-proxy
	@test -n '$(ENGINE)' || { echo 'make image: neither docker nor podman is in PATH' >&2; exit 1; }
	@'$(ENGINE)' info >/dev/null 2>&1 || { echo 'make image: $(ENGINE) does not work here: is its daemon running, and may you use it?' >&2; exit 1; }
	'$(ENGINE)' build --build-arg VERSION='$(VERSION)' --tag '$(IMAGE)' .

clean: ## remove what these commands made (.cache, .demo, bin)
	rm -rf bin dist .demo .cache
