#!/usr/bin/env bash
# Runs commands on a copy of this tree in an untouched Debian 12, as somebody meets it who has just installed Debian and Go:
#
#   scripts/fresh-debian.sh DIR 'make demo' 'make test'
#
# DIR is made if it is missing and keeps the system for the next time; remove it for another untouched one. Go and its module
# cache are those of this machine, read-only; Debian comes from this machine's own mirror. Needs root, debootstrap and two GiB.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
dir=$(realpath -m "$1")
shift
cd "$(dirname "$0")/.."
[ "$(id -u)" -eq 0 ] || { echo "only root may build a system and mount into it" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "debootstrap is missing: apt-get install debootstrap" >&2; exit 1; }

suites=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' "Created-By: Packages" "Component: main" | grep -E ' bookworm(-updates|-security)?$' | sort -u)
mirror=$(awk '$2 == "bookworm" { print $1; exit }' <<<"$suites")
[ -n "$mirror" ] || { echo "this machine's apt knows no mirror of Debian 12" >&2; exit 1; }

if [ ! -e "$dir/etc/debian_version" ]; then
	mkdir -p "$dir"
	debootstrap --variant=minbase bookworm "$dir" "$mirror" >"$dir.log" 2>&1 || { tail -5 "$dir.log" >&2; exit 1; }
	rm -f "$dir.log"
	awk '{ print "deb", $1, $2, "main" }' <<<"$suites" >"$dir/etc/apt/sources.list"
	# What the README asks a newcomer for, and nothing else.
	chroot "$dir" sh -c 'apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends make ca-certificates' >/dev/null
fi

tree=$dir/srv/ringfence
rm -rf "$tree"
mkdir -p "$tree" "$dir/usr/local/go" "$dir/srv/go/pkg/mod"
git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- -cf - | tar -xf - -C "$tree"
cp /etc/resolv.conf "$dir/etc/resolv.conf"
printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$(hostname)" >"$dir/etc/hosts" # as Debian's installer writes it

export dir goroot gomodcache
goroot=$(go env GOROOT) gomodcache=$(go env GOMODCACHE)
# The mounts are in a namespace of their own and end with it.
exec unshare --mount --propagation private bash -euo pipefail -c '
	mount --bind "$dir" "$dir" # so that its root is a mount, as everywhere
	mount --bind -o ro "$goroot" "$dir/usr/local/go"
	mount --bind -o ro "$gomodcache" "$dir/srv/go/pkg/mod"
	mount -t proc proc "$dir/proc"
	mount --rbind /sys "$dir/sys"
	mount --rbind /dev "$dir/dev"
	for command; do
		echo "\$ $command"
		chroot "$dir" env -i HOME=/srv TERM=dumb GOPROXY=off GOTOOLCHAIN=local \
			PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin bash -c "cd /srv/ringfence && $command"
	done' bash "$@"
