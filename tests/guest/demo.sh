# SPDX-License-Identifier: BSD-2-Clause
#
# What `devhost demo` shows, run in the guest by its shell.

say() {
	echo
	echo "--- $*"
}

disk=/dev/nvme0n1
failed=

# measure NAME DIRECTION OPTIONS...: runs fio and prints one line of figures.
# DIRECTION is read or write.
measure() {
	name=$1
	case $2 in
	read) base=6 ;;
	write) base=47 ;;
	esac
	shift 2
	if ! fio --name=demo --filename="$disk" --direct=1 --ioengine=libaio --randrepeat=1 --group_reporting --minimal \
	    "$@" >/tmp/fio.log 2>&1; then
		cat /tmp/fio.log
		failed="$failed, $name"
		printf '  %-40s FAILED\n' "$name"
		return
	fi
	# Of the terse line: KiB, KiB/s, I/Os a second; total latency's mean, in
	# microseconds, is 34 fields on.
	awk -F';' -v name="$name" -v at="$base" '$1 == "3" {
		printf "  %-40s %7.1f MiB %8.1f MiB/s %8d IOPS %8.0f us\n", name, $at / 1024, $(at + 1) / 1024, $(at + 2), $(at + 34)
	}' /tmp/fio.log
}

say "nvme list"
nvme list || failed="$failed, nvme list"

say "nvme id-ctrl (in part)"
nvme id-ctrl /dev/nvme0 >/tmp/id || failed="$failed, nvme id-ctrl"
grep -E '^(vid|sn|mn|fr|ver|mdts|sqes|cqes|nn|oncs|vwc|subnqn) ' /tmp/id

say "A file system"
if mkfs.ext4 -q "$disk" && mount -t ext4 "$disk" /mnt &&
    dd if=/dev/urandom of=/mnt/file bs=1M count=16 2>/dev/null && (cd /mnt && sha256sum file >sum) &&
    sync && umount /mnt && mount -t ext4 -o ro "$disk" /mnt && (cd /mnt && sha256sum -c sum >/dev/null) &&
    df -h /mnt | sed 's/^/  /' && umount /mnt && e2fsck -f -n "$disk" >/tmp/fsck 2>&1; then
	echo "  ext4 made, 16 MiB written, unmounted, read back and checked: right"
else
	cat /tmp/fsck 2>/dev/null
	failed="$failed, file system"
	echo "  FAILED"
fi

say "Random I/O, checked with CRC-32C"
measure "write 4 KiB, depth 32, verified" write --rw=randwrite --bs=4k --iodepth=32 --size=64m --io_size=32m \
    --verify=crc32c --verify_fatal=1 --do_verify=1
measure "write 4 KiB to 1 MiB, 2 jobs, verified" write --rw=randwrite --bsrange=4k-1m --iodepth=16 --size=64m --numjobs=2 \
    --offset=64m --offset_increment=64m --verify=crc32c --verify_fatal=1 --do_verify=1

say "Random I/O, 2 s each (the guest's processors are emulated unless KVM works here)"
measure "read 4 KiB, depth 1" read --rw=randread --bs=4k --iodepth=1 --time_based --runtime=2
measure "read 4 KiB, depth 32" read --rw=randread --bs=4k --iodepth=32 --time_based --runtime=2
measure "write 4 KiB, depth 32" write --rw=randwrite --bs=4k --iodepth=32 --time_based --runtime=2
measure "read 128 KiB, depth 8" read --rw=randread --bs=128k --iodepth=8 --time_based --runtime=2

say "Result"
if dmesg | grep -E 'nvme.*(I/O error|timeout|failed)'; then
	failed="$failed, kernel messages"
fi
nvme smart-log /dev/nvme0 >/tmp/smart || failed="$failed, smart-log"
sed -n 's/^\(critical_warning\|media_errors\|host_read_commands\|host_write_commands\)[ 	]*:/  \1:/p' /tmp/smart
grep -q '^media_errors[ 	]*: 0$' /tmp/smart || failed="$failed, media errors"
if [ -n "$failed" ]; then
	echo "  failed: ${failed#, }"
	exit 1
fi
