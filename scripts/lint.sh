#!/bin/sh
# The linters, each for one reason: gofmt (one style), go vet (what is almost surely a bug), staticcheck (dead and
# deprecated code, misuse of the standard library), errcheck (errors that are dropped), go mod tidy (go.mod says what is
# used), shellcheck (words that split, errors that are lost). Rules of this repository's own are tests:
# internal/archtest. All run, and every complaint is shown.
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
	unformatted=$(find . -name '.?*' -prune -o -name '*.go' -exec "$(go env GOROOT)/bin/gofmt" -l {} +)
	[ -z "$unformatted" ] && return 0
	echo "not formatted (gofmt -w puts it right):" >&2
	echo "$unformatted" >&2
	return 1
}

# The distribution has shellcheck; has_shellcheck installs it where that is possible without a question.
has_shellcheck() {
	command -v shellcheck >/dev/null 2>&1 && return 0
	sudo=
	[ "$(id -u)" -eq 0 ] || sudo="sudo -n"
	command -v apt-get >/dev/null 2>&1 || return 1
	$sudo true 2>/dev/null || return 1
	echo "lint: installing shellcheck"
	$sudo apt-get update -q >/dev/null || true
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends shellcheck >/dev/null
}

run gofmt formatted
# With the soak tests too, which have a build tag.
run 'go vet' go vet -tags soak ./...
run staticcheck go tool -modfile=tools/go.mod staticcheck -tags soak ./...
# Not in tests: what a test drops, mostly of writes to a peer that it has just cut off, shows in what it asserts. The
# helpers of tests, internal/testkit, are checked.
run errcheck go tool -modfile=tools/go.mod errcheck -ignoretests -exclude tools/errcheck.txt -tags soak ./...
run 'go mod tidy' go mod tidy -diff
if has_shellcheck; then
	run shellcheck shellcheck scripts/*.sh .ci/run
else
	echo "lint: shellcheck: left out: it is not installed, and that takes apt-get and root or sudo without a password" >&2
fi
exit "$status"
