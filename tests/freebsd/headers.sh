# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh disable=SC2154
#
# POSIX sh, sourced after freebsd-env.sh: the library's own numbers against
# FreeBSD's headers.

# check_headers FOLDER: compiles headers.c, with FOLDER for what that takes.
check_headers()
{
	sys=src/backend/sys
	sed -n -e 's/.*const \(DIOC[A-Z]*\): .* number: \([0-9a-fx_]*\), argument: \([0-9]*\) };/REQUEST(\1, \2, \3)/p' \
	    -e 's/^ *const \([A-Z_]*\): [a-z:_]* = \([0-9]*\);$/CONSTANT(\1, \2)/p' \
	    $sys/request.rs $sys/raw.rs |
	    awk -F ', ' -v OFS=', ' '{ gsub(/_/, "", $2); print }' \
	    >"$1/numbers.h"
	requests=$(grep -c '^REQUEST' "$1/numbers.h")
	[ "$requests" -eq "$(grep -c 'pub const DIOC' $sys/request.rs)" ] ||
	    die "$sys/request.rs: not every request is understood"
	"$freebsd_cc" -std=gnu11 -Wall -Wextra -Werror -I"$1" \
	    -c tests/freebsd/headers.c -o "$1/headers.o"
	echo "$requests requests are those of FreeBSD's headers"
}
