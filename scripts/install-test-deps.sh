#!/usr/bin/env bash
# Installs the Debian packages that tests use. Each line: a program that must be there, its package, and who needs it.
# When all programs are there, nothing is asked of the network.
set -euo pipefail

needs() {
	cat <<'LIST'
/usr/bin/gcc gcc the race detector
/usr/include/stdlib.h libc6-dev the race detector
/usr/lib/postgresql/15/bin/initdb postgresql-15 internal/state/store runs its tests on SQLite and on PostgreSQL
LIST
}

missing=()
while read -r file package _; do
	[ -e "$file" ] || missing+=("$package")
done < <(needs)
if [ ${#missing[@]} -eq 0 ]; then
	exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "These packages are needed and only root may install them: ${missing[*]}" >&2
		exit 1
	fi
	as_root=(sudo)
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "installing ${missing[*]}"
install() {
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1
}
# The list of packages may be missing or old, so one failure is answered with a fresh list.
if ! install; then
	"${as_root[@]}" apt-get update >"$log" 2>&1 || true
	if ! install; then
		echo "apt-get could not install ${missing[*]}:" >&2
		# Addresses of mirrors are nobody's business in a public log.
		sed -E 's#[a-z+]+://[^ ]+#<mirror>#g' "$log" | grep -E '^(E|W):' >&2 || true
		exit 1
	fi
fi

while read -r file package _; do
	if [ ! -e "$file" ]; then
		echo "$package is installed and $file is still missing" >&2
		exit 1
	fi
done < <(needs)
