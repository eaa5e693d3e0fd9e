#!/bin/sh
# Runs the Go benchmarks of every package that has some: scripts/bench-micro.sh COUNT. Compare two runs with benchstat.
set -eu

cd "$(dirname "$0")/.."
count=${1:-1}

packages=$(grep -rl --include='*_test.go' '^func Benchmark' internal cmd 2>/dev/null |
	sed 's|/[^/]*$||; s|^|./|' | sort -u)
[ -n "$packages" ] || {
	echo "bench-micro: no benchmarks" >&2
	exit 1
}
# One package after the other: on a small machine two at once measure each other.
# shellcheck disable=SC2086 # a list of words
go test -p 1 -run '^$' -bench . -benchmem -count "$count" $packages
