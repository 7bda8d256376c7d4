# SPDX-License-Identifier: BSD-2-Clause
#
# What the guest's test scripts share. They run under `sh -eu`; a check that
# fails names itself and ends the script.

fail() {
	# Not to a command substitution's value.
	echo "FAILED: $*" >&2
	exit 1
}

# Names of the controller (nvme0) and the disk (nvme0n1) whose serial number is $1.
controller_of() {
	local dir
	for dir in /sys/class/nvme/nvme*; do
		if [ "$(sed 's/ *$//' "$dir/serial")" = "$1" ]; then
			echo "${dir##*/}"
			return
		fi
	done
	fail "no controller has the serial number $1"
}

disk_of() {
	echo "$(controller_of "$1")n1"
}

# The value of field $2 in the output of nvme $1 ("id-ctrl /dev/nvme0").
field() {
	nvme $1 | sed -n "s/^$2[ 	]*: *//p" | sed 's/ *$//'
}

# field, and a failure if it is not $3.
expect() {
	local got
	got=$(field "$1" "$2")
	[ "$got" = "$3" ] || fail "nvme $1: $2 is '$got', not '$3'"
}

# The current value of feature $2 of controller $1, or of its namespace $3.
feature() {
	nvme get-feature "/dev/$1" -f "$2" ${3:+-n "$3"} | sed -n 's/.*Current value:*//p'
}

# fio on the disk $1 with options of the caller's; silent unless it fails.
run_fio() {
	local disk=/dev/$1
	shift
	fio --filename="$disk" --allow_file_create=0 --direct=1 --ioengine=libaio --randrepeat=1 --group_reporting --minimal "$@" \
	    >/tmp/fio.log 2>&1 || {
		tail -n 20 /tmp/fio.log
		fail "fio $*"
	}
	if grep -q "verify:" /tmp/fio.log; then
		tail -n 20 /tmp/fio.log
		fail "fio $*: verification"
	fi
}

# What the kernel has to say against the driver or a disk.
kernel_is_content() {
	if dmesg | grep -E 'I/O error|timeout|[Cc]ontroller is down|failed|WARNING|BUG:|not ready' | grep -E 'nvme|WARNING|BUG:'; then
		fail "the kernel complains"
	fi
}
