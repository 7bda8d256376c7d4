#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Compiles the glue, warnings being errors, against the stand-in's headers of
# both generations of bhyve's callbacks, and against a real tree where
# BHYVE_SRC names one: a FreeBSD source tree, for amd64. That needs a compiler
# for FreeBSD.
#
#	CC		the compiler (default: cc)
#	BHYVE_SRC	a FreeBSD source tree (default: none)

set -u
cd "$(dirname "$0")/.." || exit 1

: "${CC:=cc}"
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT INT TERM

warnings="-Wall -Wextra -Werror -Wmissing-prototypes -Wstrict-prototypes
    -Wpointer-arith -Wcast-qual -Wwrite-strings -Wshadow"
standin=tests/devhost/bhyve/include
passed=0
failed=0

# try NAME FLAG... : compiles the glue with these flags.
try() {
	name=$1
	shift
	# shellcheck disable=SC2086
	if $CC -std=gnu99 -O2 $warnings "$@" -Iinclude -Ibhyve-glue \
	    -c bhyve-glue/pci_nvme_glue.c -o "$work/glue.o"; then
		passed=$((passed + 1))
		echo "ok    $name"
	else
		failed=$((failed + 1))
		echo "FAIL  $name"
	fi
}

legacy="-I$standin/legacy -I$standin/common"
current="-I$standin/current -I$standin/common"

# shellcheck disable=SC2086
{
try "14-CURRENT of July 2022" -DSTANDIN_VERSION=1400063 $legacy
try "14.0" -DSTANDIN_VERSION=1400097 $current
try "15.0" -DSTANDIN_VERSION=1500068 $current
try "no version" $current
try "with hot-plug" -DGLUE_TEARDOWN $current
}

if [ -n "${BHYVE_SRC:-}" ]; then
	tree=$(cd "$BHYVE_SRC" && pwd) || exit 1
	# What the compiler's own FreeBSD headers lack comes from the tree.
	ln -s "$tree/sys/amd64/include" "$work/machine"
	ln -s "$tree/sys/x86/include" "$work/x86"
	version=$(awk '$1 == "#define" && $2 == "__FreeBSD_version" { print $3 }
	    ' "$tree/sys/sys/param.h")
	# The tree's headers are not held to our warnings.
	# shellcheck disable=SC2086
	try "$BHYVE_SRC (${version:-no version})" \
	    ${version:+-U__FreeBSD_version -D__FreeBSD_version=$version} \
	    -isystem "$tree/usr.sbin/bhyve" \
	    -isystem "$tree/usr.sbin/bhyve/amd64" \
	    -isystem "$tree/lib/libvmmapi" \
	    -idirafter "$work" -idirafter "$tree/sys"
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
