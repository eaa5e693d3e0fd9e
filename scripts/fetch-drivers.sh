#!/bin/sh
# Fetches node-postgres into .cache, for a test only: it shows how drivers read the end of a session. Without npm or a
# registry its part of the test is skipped, so nothing here is an error.
set -eu

cd "$(dirname "$0")/.."

version=8.16.3
dir=.cache/node-postgres

[ -e "$dir/.installed-$version" ] && exit 0
if ! command -v npm >/dev/null 2>&1; then
	echo "fetch-drivers: no npm here, so no node-postgres; the test that needs it will be skipped"
	exit 0
fi
mkdir -p "$dir"
if ! npm install --prefix "$dir" --no-save --no-audit --no-fund --ignore-scripts --loglevel=error \
	"pg@$version" >"$dir/npm.log" 2>&1; then
	echo "fetch-drivers: npm could not install node-postgres (see $dir/npm.log); the test that needs it will be skipped"
	exit 0
fi
: >"$dir/.installed-$version"
