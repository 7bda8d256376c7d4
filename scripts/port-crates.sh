#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Writes what the port says of the crates that the library is built from, after
# a change to Cargo.lock: Makefile.crates and distinfo, without the crates of
# tests and benchmarks.
#
#	port-crates.sh		writes both files
#	port-crates.sh --check	fails if they are not what it would write

cd "$(dirname "$0")/.."
. scripts/common.sh

port=bhyve-glue/port/sysutils/bhyve-nvme
case ${1-} in
'' | --check) ;;
*) die "usage: port-crates.sh [--check]" ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# Cargo drops from a lock file what nothing needs any more, and changes none of
# the rest.
mkdir "$work/src"
: >"$work/src/lib.rs"
awk -f scripts/runtime-manifest.awk Cargo.toml >"$work/Cargo.toml"
cp Cargo.lock "$work"
cargo metadata --manifest-path "$work/Cargo.toml" --format-version 1 \
    >/dev/null || die "cargo cannot read the manifest without its tests"
cargo fetch --quiet --manifest-path "$work/Cargo.toml"

# name, version and SHA256 of each crate
crates=$(awk -F '"' '
	/^\[\[package\]\]/ { name = version = "" }
	/^name = / { name = $2 }
	/^version = / { version = $2 }
	/^checksum = / { print name, version, $2 }
' "$work/Cargo.lock")
[ -n "$crates" ] || die "there are no crates in Cargo.lock"

home=${CARGO_HOME:-$HOME/.cargo}
{
	echo "# SPDX-License-Identifier: BSD-2-Clause"
	echo "#"
	echo "# Made by scripts/port-crates.sh from Cargo.lock.  The licences are:"
	echo "#"
	echo "$crates" | while read -r name version checksum; do
		manifest=$(find "$home/registry/src" -path \
		    "*/$name-$version/Cargo.toml" | head -n 1)
		[ -n "$manifest" ] || die "cargo fetched no $name-$version"
		licence=$(sed -n 's/^license = "\(.*\)"/\1/p' "$manifest")
		[ -n "$licence" ] || die "$name-$version names no licence"
		echo "#	$name-$version: $licence"
	done
	echo
	echo "$crates" | awk '
		{ printf "%s%s-%s", NR == 1 ? "CARGO_CRATES=\t" : " \\\n\t\t", $1, $2 }
		END { print "" }'
} >"$work/Makefile.crates"
echo "$crates" | while read -r name version checksum; do
	crate=$(find "$home/registry/cache" -name "$name-$version.crate" |
	    head -n 1)
	[ -n "$crate" ] || die "cargo fetched no $name-$version.crate"
	file=rust/crates/$name-$version.crate
	echo "SHA256 ($file) = $checksum"
	echo "SIZE ($file) = $(($(wc -c <"$crate")))"
done >"$work/distinfo"

count=$(echo "$crates" | grep -c .)
[ "$(grep -c '^SIZE' "$work/distinfo")" -eq "$count" ] ||
    die "some crates are missing"

# The first line of distinfo is the time of its making.
if [ "${1-}" = --check ]; then
	sed 1d "$port/distinfo" >"$work/distinfo.port"
	diff -u "$port/Makefile.crates" "$work/Makefile.crates" &&
	    diff -u "$work/distinfo.port" "$work/distinfo" ||
	    die "the port's crates are not those of Cargo.lock:" \
	    "run scripts/port-crates.sh"
	echo "the port has the $count crates of Cargo.lock"
else
	cp "$work/Makefile.crates" "$port/Makefile.crates"
	{
		echo "TIMESTAMP = $(date +%s)"
		cat "$work/distinfo"
	} >"$port/distinfo"
	echo "$count crates in $port"
fi
