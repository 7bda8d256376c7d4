#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Library, glue and stand-in become FreeBSD executables in which nothing is
# undefined but what FreeBSD's own libraries have, and in which the device is
# registered once, and the numbers that the library has of FreeBSD's headers
# are theirs: for x86_64 and aarch64, or for FREEBSD_ARCH alone.  A compiler of
# one's own (FREEBSD_CC, or FreeBSD's) is for one of them.

cd "$(dirname "$0")/../.."
. scripts/common.sh

. tests/freebsd/check.sh

# check PROGRAM: dies unless it is such an executable.
check()
{
	check_executable "$1"

	# One pointer: the linker set's only entry.
	size=$(readelf -SW "$1" | sed -n \
	    's/.* set_pci_devemu_set *PROGBITS *[0-9a-f]* *[0-9a-f]* *\([0-9a-f]*\) .*/\1/p')
	[ "$size" = 000008 ] ||
	    die "the set of devices in $1 is not one pointer long: ${size:-not there}"

	# shellcheck disable=SC2086
	echo "${1##*/}: nothing undefined, one device, needs" $needed
}

# build ARCH: in a shell of its own, for the environment is for one ARCH.
build()
{
	FREEBSD_ARCH=$1
	. scripts/freebsd-env.sh
	. tests/freebsd/programs.sh
	. tests/freebsd/headers.sh

	mkdir -p "$CARGO_TARGET_DIR/headers-$1"
	check_headers "$CARGO_TARGET_DIR/headers-$1"

	# By its name from here: that script takes CC apart at blanks, as make
	# does.
	CC=scripts/freebsd-cc sh tests/glue_compile.sh

	for generation in current legacy; do
		program=$CARGO_TARGET_DIR/c_abi-$generation-$1
		c_abi_program "$program" "$generation"
		check "$program"
	done
}

if [ -n "${FREEBSD_ARCH-}" ]; then
	set -- "$FREEBSD_ARCH"
elif [ -n "${FREEBSD_CC-}" ]; then
	set -- x86_64
elif [ "$(uname -s)" = FreeBSD ]; then
	set -- "$(uname -p | sed 's/^amd64$/x86_64/')"
else
	set -- x86_64 aarch64
fi
for arch in "$@"; do
	(build "$arch")
done
