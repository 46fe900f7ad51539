#!/usr/bin/env bash
# Runs every fuzz target of the module, each for the time given (default 10s).
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10s}
failed=()
while IFS=: read -r file target; do
	echo "== ${file%/*} $target"
	go test "./${file%/*}" -run '^$' -fuzz "^$target\$" -fuzztime "$time" || failed+=("${file%/*} $target")
done < <(grep -rEo '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' internal | sed 's/func //' | sort)
if [ ${#failed[@]} -gt 0 ]; then
	printf 'FAILED: %s\n' "${failed[@]}"
	exit 1
fi
