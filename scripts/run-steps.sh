#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Runs targets of the Makefile one after the other, up to the first that
# fails, and sums up.  Called by "make test" with MAKE set.

cd "$(dirname "$0")/.."
. scripts/common.sh

# Each step is a make of its own, not one that announces its directory.
unset MAKELEVEL

steps=$#
passed=0
failed=0
table=
all_began=$(date +%s)
while [ $# -gt 0 ] && [ "$failed" -eq 0 ]; do
	step=$1
	shift
	echo
	echo "==> $step"
	began=$(date +%s)
	if ${MAKE:-make} "$step"; then
		result=ok
		passed=$((passed + 1))
	else
		result=FAILED
		failed=1
	fi
	seconds=$(($(date +%s) - began))
	table="$table$(printf '%-16s %-6s %5d s' "$step" "$result" "$seconds")
"
done
for step in "$@"; do
	table="$table$(printf '%-16s %s' "$step" "not run")
"
done

echo
echo "==> Summary"
printf '%s' "$table"
printf '%-16s %-6s %5d s\n' total "" $(($(date +%s) - all_began))
line="$passed passed, $failed failed"
skipped=$((steps - passed - failed))
[ "$skipped" -eq 0 ] || line="$line, $skipped skipped"
echo "$line"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
