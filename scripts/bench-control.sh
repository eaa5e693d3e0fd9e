#!/bin/sh
# Measures the control plane: builds both programs and the bench, and runs that. Arguments are the bench's (-h lists them).
# QUICK=1 in the environment is a short run, whose results don't replace those of a long one.
set -eu

cd "$(dirname "$0")/.."
out=.cache/bench
version=$(git describe --tags --always --dirty 2>/dev/null || echo unknown)

for name in pgmtls pgmtls-proxy; do
	CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags "-s -w -X main.version=$version" -o "$out/$name" "./cmd/$name"
done
go build -buildvcs=false -o "$out/bench-control" ./bench/control

set -- -built "$out" "$@"
if [ -n "${QUICK:-}" ]; then
	set -- -quick -results "$out/results" "$@"
fi
exec "$out/bench-control" "$@"
