#!/bin/sh
# Installs the proxies that the bench compares with, from the distribution, if they are missing and that is possible. None
# is needed: the bench leaves out who is not here, and says so.
set -eu

missing=
# want PROGRAM PACKAGE
want() {
	command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing="$missing $2"
}
want pgbouncer pgbouncer
want stunnel4 stunnel4
want haproxy haproxy
want nginx nginx-light
[ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || missing="$missing libnginx-mod-stream"
[ -n "$missing" ] || exit 0

sudo=
[ "$(id -u)" -eq 0 ] || sudo="sudo -n"
if ! command -v apt-get >/dev/null 2>&1 || ! $sudo true 2>/dev/null; then
	echo "bench-peers: can't install$missing: this needs apt-get, and root or sudo" >&2
	exit 0
fi
# Packages of servers start them. What is asked here before they do (invoke-rc.d) says no, for as long as this runs.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap '$sudo rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
	$sudo chmod 755 "$policy"
fi
echo "bench-peers: installing$missing"
$sudo apt-get update -q >/dev/null || true
# One by one: a package that is not to be had keeps none of the others away.
for package in $missing; do
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$package" >/dev/null ||
		echo "bench-peers: $package can't be installed; the bench goes on without it" >&2
done
