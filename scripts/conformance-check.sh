#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Each row of docs/conformance.md names code and tests that exist.

cd "$(dirname "$0")/.."
. scripts/common.sh

table=docs/conformance.md
rows=0
tests=0

# The last two columns of each table that has a test: its code, its tests.
columns=$(awk -F ' *[|] *' '
	/^[|]/ && $(NF - 1) == "test" { on = 1; getline; next }
	!/^[|]/ { on = 0 }
	on { print $(NF - 2) "|" $(NF - 1) "|" $2 }
' "$table")

# The names between backquotes of $1, one a line.
names()
{
	printf '%s\n' "$1" | tr ',' '\n' | sed -n 's/^ *`\([^`]*\)` *$/\1/p'
}

while IFS='|' read -r code named row; do
	rows=$((rows + 1))
	found=$(names "$code")
	[ -n "$found" ] || die "$table: no code: $row"
	for file in $found; do
		[ -f "$file" ] || die "$table: no file $file: $row"
	done
	found=$(names "$named")
	[ -n "$found" ] || die "$table: no test: $row"
	for test in $found; do
		file=${test%%::*}
		[ -f "$file" ] || die "$table: no file $file: $row"
		# The function follows its attributes and comments.
		awk -v "name=${test##*::}" '
			/^[ \t]*#\[test\]/ { test = 1; next }
			/^[ \t]*(#\[|\/\/|$)/ { next }
			test && $0 ~ "fn " name "\\(" { found = 1 }
			{ test = 0 }
			END { exit !found }
		' "$file" || die "$table: no test $test: $row"
		tests=$((tests + 1))
	done
done <<EOF
$columns
EOF

[ "$rows" -gt 100 ] || die "$table: only $rows rows were found"
echo "conformance: $rows rows name $tests tests that exist"
