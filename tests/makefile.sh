#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# BSD make and GNU make read the same in the Makefile: each target becomes the
# same commands.

cd "$(dirname "$0")/.."
. scripts/common.sh

if [ "$(uname -s)" = FreeBSD ]; then
	bsd=make
	gnu=gmake
else
	bsd=$(cargo run -q -p fetch -- --path bmake) || die "bmake cannot be had"
	gnu=make
fi
unset MAKEFLAGS MAKELEVEL MFLAGS

# "test" is left out: GNU make runs what names ${MAKE} even to show it.
targets=$(sed -n 's/^\([a-z][a-z-]*\):.*/\1/p' Makefile | grep -vx test)

# commands MAKE TARGET
commands()
{
	"$1" -n "$2" PREFIX=/somewhere "DESTDIR=/a folder" | tr -s ' \t' ' '
}

count=0
for target_name in $targets; do
	with_bsd=$(commands "$bsd" "$target_name") ||
	    die "BSD make cannot read $target_name"
	with_gnu=$(commands "$gnu" "$target_name") ||
	    die "GNU make cannot read $target_name"
	[ -n "$with_bsd" ] || die "$target_name does nothing"
	[ "$with_bsd" = "$with_gnu" ] || die "$target_name differs:
BSD make: $with_bsd
GNU make: $with_gnu"
	count=$((count + 1))
done
[ "$count" -gt 10 ] || die "only $count targets were found"
echo "BSD make and GNU make agree on $count targets"
