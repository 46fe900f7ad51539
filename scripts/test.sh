#!/usr/bin/env bash
# Runs the checks one after the other, goes on after a failure, and ends with a summary.
# "fast" leaves out what takes minutes: the race detector, staticcheck and the demo.
set -euo pipefail
cd "$(dirname "$0")/.."
mode=${1:-all}

summary=()
failed=0

# step NAME COMMAND... runs a check and notes how it went.
step() {
	local name=$1 start=$SECONDS verdict=ok
	shift
	echo "== $name"
	if ! "$@"; then
		verdict=FAILED
		failed=1
	fi
	summary+=("$(printf '%-6s %4ds  %s' "$verdict" $((SECONDS - start)) "$name")")
}

formatted() {
	local bad
	bad=$(find . -name '*.go' -not -path './.git/*' -print0 | xargs -0 gofmt -l)
	if [ -n "$bad" ]; then
		printf 'not formatted (gofmt -w):\n%s\n' "$bad"
		return 1
	fi
}

scripts_parse() {
	local f
	for f in scripts/*.sh .ci/run; do
		bash -n "$f" || return 1
	done
}

modules() { go mod verify >/dev/null; }

staticcheck() {
	(cd tools && go build -o ../bin/staticcheck honnef.co/go/tools/cmd/staticcheck) && bin/staticcheck ./...
}

builds() { make --no-print-directory build; }

# The demonstration is what a user sees first, so it is held to what it promises: sealed legs, sound heard, 30 seconds.
demo() {
	local out
	out=$(timeout 60 bin/ringfence demo --json) || { echo "$out"; return 1; }
	grep -q '"ok": *true' <<<"$out" || { echo "$out"; return 1; }
}

nested() { (cd "$1" && go vet ./... && go test -count=1 -timeout 10m ./...); }

step "what the tests need" scripts/install-test-deps.sh
step "gofmt" formatted
step "scripts" scripts_parse
step "go vet" go vet ./...
step "builds without cgo" builds
if [ "$mode" = all ]; then
	step "modules are what go.sum says" modules
	step "staticcheck" staticcheck
	# A program with the race detector waits for a second at its end, unless it is told not to; tests start many.
	step "tests with the race detector" env CGO_ENABLED=1 GORACE=atexit_sleep_ms=0 go test -race -count=1 -timeout 15m ./...
	step "demo" demo
	if [ -f bench/go.mod ]; then
		step "bench module" nested bench
	fi
else
	step "tests" go test -count=1 -timeout 10m ./...
fi

echo
printf '%s\n' "${summary[@]}"
if [ "$failed" -ne 0 ]; then
	echo "FAILED"
	exit 1
fi
echo "all passed in ${SECONDS}s"
