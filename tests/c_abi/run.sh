#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Builds the library and the C program that drives it through bhyve's device
# table, for both generations of bhyve's callbacks, and runs it. Prints
# 'N passed, N failed' at the end.
#
#	CC			the compiler and its options (default: cc)
#	CARGO_TARGET_DIR	where cargo builds (default: target)
#	NVME_LIB		libbhyve_nvme.a (default: built by cargo)
#	NVME_LIBS		libraries that it needs

set -u
cd "$(dirname "$0")/../.." || exit 1

: "${CC:=cc}"
: "${CARGO_TARGET_DIR:=target}"
export CARGO_TARGET_DIR
if [ -z "${NVME_LIB:-}" ]; then
	cargo build --package bhyve-nvme || exit 1
	NVME_LIB=$CARGO_TARGET_DIR/debug/libbhyve_nvme.a
fi
if [ -z "${NVME_LIBS+set}" ]; then
	case $(uname -s) in
	Linux)	NVME_LIBS="-lgcc_s -lutil -lrt -lpthread -lm -ldl" ;;
	*)	NVME_LIBS="-lpthread -lm" ;;
	esac
fi

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

warnings="-Wall -Wextra -Werror -Wmissing-prototypes -Wstrict-prototypes"
standin=tests/devhost/bhyve
passed=0
failed=0

# run NAME FLAG... : builds the program with these flags, runs it, and adds its
# figures to ours. What does not build, or dies, is one failure.
run() {
	name=$1
	shift
	echo "== $name"
	dd if=/dev/zero of="$work/disk" bs=65536 count=16 2>/dev/null
	# shellcheck disable=SC2086
	if ! $CC -std=gnu99 -g -O1 $warnings "$@" \
	    -I$standin -I$standin/include/common -Iinclude -Ibhyve-glue \
	    -Itests/c_abi -o "$work/c_abi" tests/c_abi/*.c $standin/*.c \
	    bhyve-glue/pci_nvme_glue.c "$NVME_LIB" $NVME_LIBS; then
		failed=$((failed + 1))
		return
	fi
	"$work/c_abi" "$work/disk" >"$work/out"
	status=$?
	cat "$work/out"
	last=$(tail -n 1 "$work/out")
	case $last in
	*" passed, "*" failed")
		p=${last%% *}
		f=${last#*, }
		passed=$((passed + p))
		failed=$((failed + ${f%% *}))
		;;
	*)
		echo "FAIL  $name ended with status $status"
		failed=$((failed + 1))
		;;
	esac
}

run "callbacks of 14.0 and later" -I$standin/include/current
run "callbacks of 14-CURRENT in July 2022" -I$standin/include/legacy \
    -DDEVHOST_VCPU_ARGUMENTS -DSTANDIN_VERSION=1400063

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
