#!/bin/sh
# Checks that go runs as the toolchain that go.mod pins. The Makefile asks for that one (GOTOOLCHAIN), and since 1.21 an
# installed go of any other version fetches it from the module proxy, once; so this may take a minute the first time.
set -eu

cd "$(dirname "$0")/.."

fail() {
	echo "check-go: $*" >&2
	exit 1
}

pinned=$(sed -n 's/^toolchain //p' go.mod)
command -v go >/dev/null 2>&1 ||
	fail "go is not in PATH: install $pinned, or any Go since 1.21, which fetches $pinned by itself (https://go.dev/doc/install)"
# From / and without fetching: what is installed.
installed=$(cd / && GOTOOLCHAIN=local go env GOVERSION)
# On standard error go says that it fetches, or why it can't.
if ! running=$(go env GOVERSION); then
	fail "$installed is installed and could not fetch $pinned, which go.mod pins (GOPROXY=$(cd / && GOTOOLCHAIN=local go env GOPROXY)):
set GOPROXY to a mirror of the module proxy that this machine reaches, or install $pinned itself (https://go.dev/dl/)"
fi
[ "$running" = "$pinned" ] && exit 0

older=$(printf '%s\n%s\n' "$pinned" "$running" | sort -V | head -n 1)
if [ "$older" = "$pinned" ]; then
	echo "check-go: GOTOOLCHAIN=${GOTOOLCHAIN:-} builds with $running instead of $pinned, which go.mod pins" >&2
	exit 0
fi
case "${GOTOOLCHAIN:-}" in
"$pinned") fail "$installed is too old to fetch $pinned, which go.mod pins: install that, or any Go since 1.21 (https://go.dev/doc/install)" ;;
*) fail "GOTOOLCHAIN=${GOTOOLCHAIN:-} makes go run as $running, which is older than $pinned and has holes that are mended there:
run this through make without GOTOOLCHAIN on its command line, or install $pinned (https://go.dev/dl/)" ;;
esac
