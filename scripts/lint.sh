#!/bin/sh
# The linters, each for one reason: gofmt (one style), go vet (what is almost surely a bug), staticcheck (dead and
# deprecated code, misuse of the standard library), go mod tidy (go.mod says what is used). Rules of this
# repository's own are tests: internal/archtest. All run, and every complaint is shown.
set -eu

cd "$(dirname "$0")/.."
status=0

# run NAME COMMAND…
run() {
	name=$1
	shift
	if "$@"; then
		echo "lint: $name: ok"
	else
		echo "lint: $name: failed" >&2
		status=1
	fi
}

# shellcheck disable=SC2317 # run calls it
formatted() {
	unformatted=$(find . -name '.?*' -prune -o -name '*.go' -exec gofmt -l {} +)
	[ -z "$unformatted" ] && return 0
	echo "not formatted (gofmt -w puts it right):" >&2
	echo "$unformatted" >&2
	return 1
}

run gofmt formatted
# With the soak tests too, which have a build tag.
run 'go vet' go vet -tags soak ./...
run staticcheck go tool -modfile=tools/go.mod staticcheck -tags soak ./...
run 'go mod tidy' go mod tidy -diff
exit "$status"
