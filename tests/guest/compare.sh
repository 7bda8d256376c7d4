# SPDX-License-Identifier: BSD-2-Clause
#
# The same I/O on two disks of a guest, in turns: ours, and QEMU's own nvme
# device, whose serial number is QEMU. Run by the guest's shell after lib.sh.

# figures SERIAL DIRECTION DEPTH: I/Os a second of 4 KiB at random places.
figures() {
	local disk at
	disk=$(disk_of "$1")
	case $2 in
	read) at=8 ;;
	write) at=49 ;;
	esac
	fio --name=compare --filename="/dev/$disk" --direct=1 --ioengine=libaio --randrepeat=1 --group_reporting --minimal \
	    --rw="rand$2" --bs=4k --iodepth="$3" --size=64m --time_based --runtime=2 >/tmp/fio.log 2>&1 || {
		tail -n 20 /tmp/fio.log >&2
		fail "fio $*"
	}
	awk -F';' -v at="$at" '$1 == "3" { print $at }' /tmp/fio.log
}

# median: of one number a line.
median() {
	sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'
}

echo "| workload | IOPS | IOPS of QEMU's nvme |"
echo "| --- | --- | --- |"
for direction in read write; do
	for depth in 1 32; do
		for turn in 1 2 3; do
			figures OURS $direction $depth >>"/tmp/ours.$direction.$depth"
			figures QEMU $direction $depth >>"/tmp/qemu.$direction.$depth"
		done
		echo "| 4 KiB random $direction, d$depth | $(median <"/tmp/ours.$direction.$depth") |" \
		    "$(median <"/tmp/qemu.$direction.$depth") |"
	done
done
kernel_is_content
