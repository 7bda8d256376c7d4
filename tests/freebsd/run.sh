#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Runs the tests that lie in this folder, on FreeBSD, with what its base
# system has.  Arguments name some of them; without any, all run.
#
# A NAME.test is a Rust test program, a NAME.check a C program that gets a file
# of 1 MiB and ends with 'N passed, N failed'.  stores.test runs in capability
# mode over stores of every kind that can be made here (stores.sh): as root,
# over disk devices too.  LIMIT is the time in seconds that each may take.
#
# bench.program is no test: './bench.program --quick' measures for a minute.

set -u
cd "$(dirname "$0")" || exit 1

limit=${LIMIT:-600}
passed=0
failed=0
work=$(mktemp -d -t bhyve-nvme-tests.XXXXXX) || exit 1
log=$work/log
disk=$work/disk

# shellcheck source=tests/freebsd/stores.sh
. ./stores.sh

clean_up()
{
	remove_stores
	rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

# The two numbers of the program's last line; nothing if it never came to it.
counts()
{
	sed -n -e 's/^test result: .* \([0-9][0-9]*\) passed; \([0-9][0-9]*\) failed;.*/\1 \2/p' \
	    -e 's/^\([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed$/\1 \2/p' \
	    "$log" | tail -n 1
}

run()
{
	case $1 in
	*.check)
		dd if=/dev/zero of="$disk" bs=65536 count=16 2>/dev/null
		timeout -k 10 "$limit" "./$1" "$disk" >"$log" 2>&1
		;;
	stores.test)
		make_stores "$work"
		echo "stores: $stores"
		# Whatever the sandbox forbids ends the program, though it may
		# not mind itself.
		trap_violations=
		if command -v proccontrol >/dev/null; then
			trap_violations="proccontrol -m trapcap -s enable"
		fi
		# shellcheck disable=SC2086
		BHYVE_NVME_STORES=$stores timeout -k 10 "$limit" \
		    $trap_violations "./$1" >"$log" 2>&1
		;;
	*)
		timeout -k 10 "$limit" "./$1" >"$log" 2>&1
		;;
	esac
	status=$?
	counted=$(counts)
	# One that died has counted nothing.
	good=${counted% *}
	bad=${counted#* }
	good=${good:-0}
	bad=${bad:-1}
	if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
		bad=1
	fi
	passed=$((passed + good))
	failed=$((failed + bad))
	if [ "$bad" -eq 0 ]; then
		echo "ok      $1: $good passed"
	else
		echo "FAILED  $1: $good passed, $bad failed, exit status $status"
		cat "$log"
	fi
}

if [ $# -eq 0 ]; then
	set -- *.test *.check
fi
for program in "$@"; do
	if [ -x "./$program" ]; then
		run "$program"
	else
		echo "FAILED  $program: no such program here"
		failed=$((failed + 1))
	fi
done

line="$passed passed, $failed failed"
[ "$skipped" -eq 0 ] || line="$line, $skipped skipped"
echo "$line"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
