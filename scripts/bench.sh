#!/usr/bin/env bash
# Runs the benchmarks of the product and those of the bench module, which does the same work with other software.
# Compare ratios within one run; absolute times differ between machines.
set -euo pipefail
cd "$(dirname "$0")/.."
go test -run '^$' -bench . -benchmem -count=1 ./...
if [ -f bench/go.mod ]; then
	(cd bench && go test -run '^$' -bench . -benchmem -count=3 ./...)
	bench/run # the rows of docs/performance.md: a node and its peers under the same load, by turns
fi
