#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Counts the instructions in user space that the device takes for one read of
# 4 KiB, with valgrind's callgrind: noise does not touch them.  The program
# reads N times at depth 32 on one queue, whose CPU polls; it is run with two
# values of N, and the difference is divided by theirs, so that start and end
# fall out.  The device's are those within pci_nvme_write() on the guest's CPU
# and all of every other thread; the guest's driver and the kernel do not
# count.
#
# BENCH names the program "bench" of the package devhost, if it is built
# already.  KEEP names a folder for callgrind's files.

set -eu
cd "$(dirname "$0")/.."

LITTLE=2000
MUCH=12000

for tool in valgrind callgrind_annotate; do
	if ! command -v "$tool" >/dev/null 2>&1; then
		echo "instructions.sh: $tool is not installed" >&2
		exit 1
	fi
done

if [ -z "${BENCH:-}" ]; then
	cargo build --release -p devhost --bin bench
	BENCH=${CARGO_TARGET_DIR:-target}/release/bench
fi

dir=${KEEP:-}
if [ -z "$dir" ]; then
	dir=$(mktemp -d)
	trap 'rm -rf "$dir"' EXIT
	trap 'exit 1' HUP INT TERM
fi
mkdir -p "$dir"

# run NAME STORE N OPTION...: callgrind's files are NAME-01 (the guest's CPU),
# NAME-02, ...
run() {
	name=$1 store=$2 n=$3
	shift 3
	rm -f "$dir/$name" "$dir/$name"-*
	if ! valgrind --tool=callgrind --separate-threads=yes --fair-sched=try \
	    --callgrind-out-file="$dir/$name" "$@" \
	    "$BENCH" --fixed "$store" "$n" --file-mib 16 --ram-mib 16 \
	    >"$dir/$name.log" 2>&1; then
		cat "$dir/$name.log" >&2
		exit 1
	fi
	if ! grep -q "^$n reads" "$dir/$name.log"; then
		echo "instructions.sh: $store: not $n reads" >&2
		exit 1
	fi
}

# count FILE...: instructions in all files: total, of copies (memcpy and
# memmove), of clearing (memset), of bhyve's stand-in.
count() {
	for file in "$@"; do
		callgrind_annotate --threshold=100 "$file" 2>/dev/null
	done | awk '
		/PROGRAM TOTALS/ { gsub(",", ""); total += $1 }
		/^ *[0-9,]+ \(.*%\) / && !/PROGRAM TOTALS/ {
			cost = $1
			gsub(",", "", cost)
			if (/mem(cpy|move)_|:mem(cpy|move)/)
				copy += cost
			else if (/memset/)
				set += cost
			else if (/vm_map_gpa|pci_generate_msix|machine_raise_msi/ ||
			    /devhost::bhyve::machine/)
				host += cost
		}
		END { printf "%d %d %d %d\n", total, copy, set, host }'
}

# What the device reads from a file, the kernel copies; what it reads from
# memory, it copies itself.  All else is the same in the two that run on the
# guest's CPU, so the data's own copy is the difference between their copies.
printf '%-12s %8s %8s %8s %8s %8s %8s\n' \
    store device data other-cp clearing stand-in "on vCPU"
inline_copies=
for store in file file,inline ram; do
	for n in $LITTLE $MUCH; do
		run "vcpu.$n" "$store" "$n" --toggle-collect=pci_nvme_write
		count "$dir/vcpu.$n-01" >"$dir/vcpu.$n.sum"
		run "all.$n" "$store" "$n"
		# Without the guest's CPU.
		rm "$dir/all.$n-01"
		count "$dir/all.$n"-* >"$dir/workers.$n.sum"
	done
	# all, copies, clearing, stand-in's, on the vCPU
	figures=$(paste -d ' ' "$dir/vcpu.$MUCH.sum" "$dir/workers.$MUCH.sum" \
	    "$dir/vcpu.$LITTLE.sum" "$dir/workers.$LITTLE.sum" |
	    awk -v n=$((MUCH - LITTLE)) '
		function per(a) {
			return ($a + $(a + 4) - $(a + 8) - $(a + 12)) / n
		}
		{ printf "%.0f %.0f %.0f %.0f %.0f", per(1), per(2), per(3), per(4),
		    ($1 - $9) / n }')
	# shellcheck disable=SC2086 # five words
	set -- $figures
	data=0
	case $store in
	file,inline)
		inline_copies=$2
		;;
	ram)
		data=$(($2 - inline_copies))
		;;
	esac
	printf '%-12s %8d %8d %8d %8d %8d %8d\n' "$store" $(($1 - data)) "$data" \
	    $(($2 - data)) "$3" "$4" $(($5 - data))
	if [ -n "${KEEP:-}" ]; then
		for file in "$dir"/vcpu.* "$dir"/all.* "$dir"/workers.*; do
			mv "$file" "$dir/$store.$(basename "$file")"
		done
	fi
done
echo "Instructions per read of 4 KiB: the device's without the data's copy, that copy,"
echo "and, as part of the device's: other copies, clearing, the stand-in for bhyve, all"
echo "that runs on the guest's CPU."
