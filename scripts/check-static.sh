#!/bin/sh
# Checks that a binary needs no dynamic loader and no library: scripts/check-static.sh bin/pgmtls-proxy. The image is
# made from scratch and has neither, and the error there ("no such file or directory") would name the wrong file.
set -eu

binary=${1:?"usage: scripts/check-static.sh BINARY"}
[ -x "$binary" ] || {
	echo "check-static: $binary is not there or not executable" >&2
	exit 1
}
libraries=$(LC_ALL=C ldd "$binary" 2>&1) || true
case "$libraries" in
*"not a dynamic executable"* | *"statically linked"*) ;;
*)
	echo "check-static: $binary is not static:" >&2
	echo "$libraries" >&2
	exit 1
	;;
esac
