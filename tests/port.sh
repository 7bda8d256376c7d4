#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The port: its crates are those of Cargo.lock, licences and version are right,
# and with BSD make it builds and stages what pkg-plist lists.  Not with the
# ports tree's make files but with a model of them, in tests/port, and on the
# model of a source tree that tests/overlay.sh is built on.

cd "$(dirname "$0")/.."
. scripts/common.sh

unset MAKEFLAGS MAKELEVEL MFLAGS BHYVE_NVME_LIB
port=bhyve-glue/port/sysutils/bhyve-nvme
if [ "$(uname -s)" = FreeBSD ]; then
	MAKE=make
else
	MAKE=$(cargo run -q -p fetch -- --path bmake) || die "bmake cannot be had"
fi
export MAKE
sh scripts/port-crates.sh --check
cargo build --package bhyve-nvme

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
. tests/overlay/model.sh
model 14 1403000

# port_make VARIABLE...
port_make()
{
	(
		cd "$port"
		"$MAKE" -m "$root/tests/port" WRKDIR="$work/port" \
		    CRATES="${CARGO_HOME:-$HOME/.cargo}/registry/cache" \
		    MODEL_LIB="$target/debug/libbhyve_nvme.a" "$@"
	)
}

# value VARIABLE: what the port's Makefile sets it to.
value()
{
	port_make OSVERSION=1403000 SRC_BASE="$work/14" -V "$1"
}

# Of each licence expression, one choice of each part is in LICENSE.
licences=" $(value LICENSE) "
names=$(echo "$licences" | sed 's/ BSD2CLAUSE / BSD-2-Clause /
    s/ MPL20 / MPL-2.0 /; s/ UNICODE3 / Unicode-3.0 /')
sed -n 's/^#	\([^ ]*-[0-9][^ ]*\): /\1|/p' "$port/Makefile.crates" |
    awk -F '|' -v "names=$names" '
	{
		parts = split($2, part, " AND ")
		for (i = 1; i <= parts; i++) {
			gsub(/[()]/, "", part[i])
			choices = split(part[i], choice, " OR |/")
			found = 0
			for (j = 1; j <= choices; j++)
				if (index(names, " " choice[j] " "))
					found = 1
			if (!found) {
				print $1 ": " part[i] " is not in LICENSE"
				exit 1
			}
		}
		crates++
	}
	END { if (crates < 5) exit 1 }' || die "the licences are wrong"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
[ "$(value DISTVERSION)" = "$version" ] ||
    die "DISTVERSION is not $version, as in Cargo.toml"
awk 'length > 80 { print FILENAME ": too long: " $0; bad = 1 }
    END { exit bad }' "$port/pkg-descr" "$port/pkg-message" ||
    die "lines are longer than a terminal"

# refused TEXT VARIABLE...: the port says TEXT, and builds nothing.
refused()
{
	text=$1
	shift
	said=$(port_make "$@" 2>&1) && die "not refused: $text"
	case $said in
	*"$text"*) echo "refused: $text" ;;
	*) die "'$text' is not what is said: $said" ;;
	esac
	[ ! -e "$work/port" ] || die "something was built"
}

refused "needs FreeBSD 14.0 or later" OSVERSION=1302001 SRC_BASE="$work/14"
refused "needs the FreeBSD sources in $work/none" OSVERSION=1403000 \
    SRC_BASE="$work/none"
refused "needs the repository" OSVERSION=1403000 SRC_BASE="$work/14" \
    BHYVE_NVME_SRC="$work/none"
refused "are 1403000, this is 1402000" OSVERSION=1402000 SRC_BASE="$work/14"

port_make OSVERSION=1403000 SRC_BASE="$work/14" >"$work/log" 2>&1 ||
    die "the port is not built: $(tail -n 20 "$work/log")"
stage=$work/port/stage/usr/local
(cd "$stage" && find . ! -type d) |
    sed -e 's|^\./||' -e 's|^share/man/.*|&.gz|' | sort >"$work/staged"
sed -e 's|%%DATADIR%%|share/bhyve-nvme|' \
    -e 's|%%EXAMPLESDIR%%|share/examples/bhyve-nvme|' "$port/pkg-plist" |
    sort >"$work/listed"
diff -u "$work/listed" "$work/staged" ||
    die "pkg-plist does not list what is installed"
[ "$(readlink "$stage/sbin/bhyve-nvme")" = ../libexec/bhyve-nvme/bhyve ] ||
    die "sbin/bhyve-nvme is no relative link to the program"
[ "$("$stage/sbin/bhyve-nvme" -s help | grep -cx nvme)" -eq 1 ] ||
    die "what is installed has no nvme"
sh bhyve-glue/build-bhyve.sh -c "$stage/libexec/bhyve-nvme/bhyve"
echo "port: $(grep -c . "$work/staged") files, as pkg-plist lists them"
