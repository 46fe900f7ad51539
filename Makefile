# Ringfence. "make" alone tells what there is.

export CGO_ENABLED = 0
FUZZTIME ?= 10s
# The commit is written into the binary where git is there and willing to tell it.
STAMP     = $(shell git status --porcelain >/dev/null 2>&1 && echo auto || echo false)
# What the compiler optimises for: a profile of a busy node (decision 0014).
PROFILE   = cmd/ringfence/ringfence.pgo
SOURCES   = $(shell find . \( -name '*.go' -o -name '*.sql' \) -not -path './bench/*' -not -path './tools/*') go.mod go.sum $(PROFILE)

.DEFAULT_GOAL := help
.PHONY: help build demo test check race fuzz bench profile deps tables clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: bin/ringfence ## build bin/ringfence

bin/ringfence: $(SOURCES)
	@mkdir -p bin
	go build -trimpath -pgo=$(PROFILE) -buildvcs=$(STAMP) -ldflags "-s -w" -o $@ ./cmd/ringfence

demo: bin/ringfence ## two phones, one call over TLS 1.3 and SRTP, and the proof of every leg
	bin/ringfence demo

test: ## everything: install what the tests need, all checks, all tests with the race detector
	@scripts/test.sh

check: ## the fast part: format, vet, the rules of the house, tests without the race detector
	@scripts/test.sh fast

race: ## only the tests, with the race detector
	CGO_ENABLED=1 GORACE=atexit_sleep_ms=0 go test -race -count=1 -timeout 15m ./...

fuzz: ## run every fuzz target for FUZZTIME (10s)
	@scripts/fuzz.sh $(FUZZTIME)

bench: ## measure our work beside the same work of others
	@scripts/bench.sh

profile: ## measure anew what the compiler optimises for
	@scripts/profile.sh $(PROFILE)

deps: ## write the dependency ledger deps.txt anew
	go test -count=1 -run '^TestDependencyLedger$$' . -update

tables: ## write the generated tables in ARCHITECTURE.md and docs/flows.md anew
	go test -count=1 -run '^Test(Room|Flow)Table$$' . -update

clean: ## remove what was built
	rm -rf bin bench/out
