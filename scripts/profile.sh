#!/usr/bin/env bash
# Runs the rows of the benchmark that stand for a busy node, without an old profile, and makes of them the one that the compiler
# optimises for. Needs what bench/run needs, and an idle machine.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$PWD/$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
PGO=off bench/run -only register,handshake,call,srtp-cm-200,srtp-gcm-200 -reps 1 -seconds 10 -profile "$dir"
(cd bench && go run ./cmd/pgo "$out" "$dir"/*.prof)
ls -l "$out"
