#!/bin/sh
# Runs every fuzz target of the module for a while each: scripts/fuzz.sh 20s. Go fuzzes one target at a time, so
# they are found first.
set -eu

cd "$(dirname "$0")/.."
time=${1:?"usage: scripts/fuzz.sh TIME (like 20s)"}

# "dir FuzzX", one a line: go vet has seen the files, so the pattern may be simple.
targets=$(grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*(' internal cmd 2>/dev/null |
	sed -n 's|^\(.*\)/[^/]*_test.go:func \(Fuzz[A-Za-z0-9_]*\)($|\1 \2|p' | sort)
[ -n "$targets" ] || {
	echo "fuzz: no fuzz targets" >&2
	exit 1
}
echo "$targets" | while read -r dir target; do
	echo "fuzz: $target in $dir for $time"
	go test "./$dir" -run '^$' -fuzz "^$target\$" -fuzztime "$time" </dev/null
done
