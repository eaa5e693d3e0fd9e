#!/bin/sh
# Looks for known vulnerabilities that the code reaches, and fails if there is one: scripts/vuln.sh [VERSION]. The database is
# the Go module golang.org/x/vulndb, so that nothing but the module proxy is asked; VERSION (latest, for example) takes
# another one than tools/vulndb pins.
set -eu

cd "$(dirname "$0")/.."
version=${1:-}

fail() {
	echo "vuln: $*" >&2
	exit 1
}

# A query like "latest" becomes a version, the pin has a checksum in go.sum. The module has a file of JSON for each entry.
download() {
	cd tools/vulndb && go mod download -json "golang.org/x/vulndb${version:+@$version}"
}
found=$(download) || fail "can't fetch the database: ${found:-no answer}"
dir=$(echo "$found" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
version=$(echo "$found" | sed -n 's/^\t"Version": "\(.*\)",$/\1/p')
[ -d "$dir/data/osv" ] || fail "the module golang.org/x/vulndb $version has no data/osv"

# govulncheck reads an indexed copy. One is kept.
index=$PWD/.cache/vulndb/$version
if [ ! -e "$index/index/db.json" ]; then
	rm -rf .cache/vulndb
	mkdir -p .cache/vulndb
	go tool -modfile=tools/vulndb/go.mod indexdb -vulns "$dir/data/osv" -out "$index.new"
	mv "$index.new" "$index"
fi

check() {
	go tool -modfile=tools/go.mod govulncheck -db "file://$index" "$@"
}

# A check that finds nothing anywhere looks like clean code: it has to find this one first (3 is "found").
status=0
fixture=$(check -C tools/vulndb/testdata/reached ./... 2>&1) || status=$?
case "$status $fixture" in
3*GO-2021-0113*) ;;
*)
	echo "$fixture" >&2
	fail "the check does not work: it does not find GO-2021-0113, which tools/vulndb/testdata/reached reaches"
	;;
esac

echo "vuln: $(go env GOVERSION), database $version"
check ./... || fail "the code reaches known vulnerabilities. CONTRIBUTING.md says how the toolchain and the modules move"
