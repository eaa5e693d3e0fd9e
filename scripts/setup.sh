#!/bin/sh
# Installs what building and testing needs on a Debian or Ubuntu: PostgreSQL (server, psql, pgbench) from the
# distribution, a C compiler for Go's race detector, openssl, which judges certificates in tests, BIND, in which tests of
# public certificates answer DNS challenges, Prometheus, which evaluates the alerts and dashboards, and drivers, with which
# tests see what programs read. Checks Go, which it does not install.
#
# Does nothing, quickly, when nothing is missing. Needs root or sudo only when something is.
set -eu

cd "$(dirname "$0")/.."

fail() {
	echo "setup: $*" >&2
	exit 1
}

# has_program NAME: in PATH, or among the distribution's PostgreSQL programs or servers, which need not be in PATH.
has_program() {
	command -v "$1" >/dev/null 2>&1 && return 0
	for found in /usr/lib/postgresql/*/bin/"$1" /usr/sbin/"$1"; do
		[ -x "$found" ] && return 0
	done
	return 1
}

# has_file PATTERN: the shell has replaced the pattern by the files that there are, or left it as it is.
has_file() { [ -e "$1" ]; }

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null 2>&1; then
		sudo "$@"
	else
		fail "needs root for: $* (and there is no sudo)"
	fi
}

# The packages start a cluster of their own on port 5432 unless this says no. It is written only where there is
# no such file yet: an operator's choice stays.
prevent_main_cluster() {
	[ -e /etc/postgresql-common/createcluster.conf ] && return 0
	as_root mkdir -p /etc/postgresql-common
	echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
}

# The packages of BIND, Prometheus and PgBouncer start servers on fixed ports, which no test wants: each starts its own on
# loopback. A policy that forbids it is written for the time of the installation, unless there is one already.
without_services() {
	if [ -e /usr/sbin/policy-rc.d ]; then
		"$@"
		return
	fi
	# shellcheck disable=SC2016 # "$1" is for the script that is written
	printf '#!/bin/sh\ncase "$1" in bind9 | named | prometheus | pgbouncer) exit 101 ;; esac\nexit 0\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
	as_root chmod 755 /usr/sbin/policy-rc.d
	status=0
	"$@" || status=$?
	as_root rm -f /usr/sbin/policy-rc.d
	return "$status"
}

scripts/check-go.sh

missing=
{ has_program initdb && has_program postgres; } || missing="$missing postgresql"
has_program psql || missing="$missing postgresql-client"
has_program pgbench || missing="$missing postgresql-contrib"
command -v gcc >/dev/null 2>&1 || missing="$missing gcc"
# The race detector links against the C library; a gcc without its headers is common in small images.
[ -e /usr/include/stdlib.h ] || missing="$missing libc6-dev"
command -v openssl >/dev/null 2>&1 || missing="$missing openssl"
has_program named || missing="$missing bind9"
{ has_program prometheus && has_program promtool; } || missing="$missing prometheus"

# Drivers. Where the distribution has none of them, or nobody may install it, the tests that need it are skipped and say so.
drivers=
for module in psycopg2 psycopg asyncpg sqlalchemy django; do
	[ -e "/usr/lib/python3/dist-packages/$module" ] || drivers="$drivers python3-$module"
done
[ -e /usr/share/java/postgresql.jar ] || drivers="$drivers libpostgresql-jdbc-java"
command -v javac >/dev/null 2>&1 || drivers="$drivers default-jdk-headless"
has_file /usr/lib/*/perl5/*/DBD/Pg.pm || drivers="$drivers libdbd-pg-perl"
command -v php >/dev/null 2>&1 || drivers="$drivers php-cli"
has_file /usr/lib/php/*/pgsql.so || drivers="$drivers php-pgsql"
has_file /usr/lib/ruby/vendor_ruby/pg.rb || drivers="$drivers ruby-pg"
has_file /usr/share/rubygems-integration/*/gems/activerecord-*/lib/active_record.rb || drivers="$drivers ruby-activerecord"
command -v isql >/dev/null 2>&1 || drivers="$drivers unixodbc"
has_file /usr/lib/*/odbc/psqlodbcw.so || drivers="$drivers odbc-postgresql"
has_program pgbouncer || drivers="$drivers pgbouncer"
has_program ip || drivers="$drivers iproute2" # for the test that types the documents' commands
tried=".cache/drivers-tried" # which ones: once is enough
if [ -n "$drivers" ] && [ "$(cat "$tried" 2>/dev/null)" = "$drivers" ]; then
	drivers=
fi
if [ -z "$missing" ] && [ -n "$drivers" ] && { ! command -v apt-get || { [ "$(id -u)" -ne 0 ] && ! command -v sudo; }; } >/dev/null 2>&1; then
	echo "setup: without$drivers the tests that need them are skipped; install them by hand to run those, too"
	drivers=
fi
[ -n "$missing$drivers" ] || exit 0

command -v apt-get >/dev/null 2>&1 ||
	fail "this is no Debian or Ubuntu; install by hand what corresponds to:$missing"
echo "setup: installing$missing$drivers"
case "$missing" in *postgresql*) prevent_main_cluster ;; esac
as_root apt-get update -q
mkdir -p .cache
echo "$drivers" >"$tried"
for package in $drivers; do
	if apt-cache show "$package" >/dev/null 2>&1; then
		missing="$missing $package"
	else
		echo "setup: this distribution has no $package; the tests that need it are skipped"
	fi
done
[ -n "$missing" ] || exit 0
# dpkg would ask questions, and psql's package would keep the file above by asking about it.
# shellcheck disable=SC2086 # a list of words
without_services as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
	-o Dpkg::Options::=--force-confold $missing
# They would start with the next boot, unless they had been there before.
case "$missing" in *bind9*) as_root systemctl disable named bind9 >/dev/null 2>&1 || true ;; esac
case "$missing" in *prometheus*) as_root systemctl disable prometheus >/dev/null 2>&1 || true ;; esac
case "$missing" in *pgbouncer*) as_root systemctl disable pgbouncer >/dev/null 2>&1 || true ;; esac
