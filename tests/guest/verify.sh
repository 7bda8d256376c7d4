# SPDX-License-Identifier: BSD-2-Clause
#
# Reads and writes of all sizes and depths, checked by checksums in the data.

# verify SERIAL SMALLEST: random and sequential I/O of SMALLEST bytes to 2 MiB
# at depths 1 to 64, from as many threads at once as this guest has CPUs and
# then some, so that every queue is used.
verify() {
	local disk
	disk=$(disk_of "$1")
	# Four regions, each with a depth of its own, written at the same time.
	run_fio "$disk" --verify=crc32c --verify_fatal=1 --do_verify=1 --bsrange="$2-2m" --rw=randwrite --size=12m \
	    --name=d1 --iodepth=1 --offset=0 --name=d4 --iodepth=4 --offset=12m \
	    --name=d16 --iodepth=16 --offset=24m --name=d64 --iodepth=64 --offset=36m
	# Small blocks at full depth, several jobs on each CPU.
	run_fio "$disk" --verify=crc32c --verify_fatal=1 --do_verify=1 --bssplit="$2/60:4k/20:16k/20" --rw=randwrite \
	    --size=2m --iodepth=64 --numjobs=4 --offset_increment=2m --name=small
	# Reads between writes, and long transfers in a row.
	run_fio "$disk" --verify=crc32c --verify_fatal=1 --rw=randrw --bs=8k --size=8m --iodepth=32 --name=mixed
	run_fio "$disk" --verify=crc32c --verify_fatal=1 --do_verify=1 --rw=write --bs=2m --size=32m --iodepth=8 --name=long
	# A flush after every few writes.
	run_fio "$disk" --verify=crc32c --verify_fatal=1 --do_verify=1 --rw=randwrite --bs=4k --size=1m --iodepth=8 --fsync=8 --name=flush
	kernel_is_content
	echo "ok: fio verify of $1"
}

# verify_over_resets SERIAL: the same while the controller is reset again and
# again. The kernel repeats what a reset cut off; nothing may be lost or torn.
verify_over_resets() {
	local ctrl disk job resets
	ctrl=$(controller_of "$1")
	disk=${ctrl}n1
	fio --filename="/dev/$disk" --direct=1 --ioengine=libaio --verify=crc32c --verify_fatal=1 --do_verify=1 \
	    --bsrange=4k-256k --rw=randwrite --size=24m --io_size=48m --iodepth=16 --name=resets --minimal >/tmp/resets.log 2>&1 &
	job=$!
	resets=0
	while kill -0 "$job" 2>/dev/null && [ "$resets" -lt 10 ]; do
		usleep 300000
		nvme reset "/dev/$ctrl" || fail "nvme reset $ctrl"
		resets=$((resets + 1))
	done
	wait "$job" || {
		tail -n 20 /tmp/resets.log
		fail "fio over resets"
	}
	[ "$resets" -gt 0 ] || fail "fio was done before the first reset"
	# Once more with the disk idle, and the data must still be there.
	nvme reset "/dev/$ctrl" || fail "nvme reset $ctrl"
	run_fio "$disk" --verify=crc32c --verify_fatal=1 --verify_only=1 --bsrange=4k-256k --rw=randwrite --size=24m \
	    --io_size=48m --iodepth=16 --name=resets
	[ "$(cat "/sys/class/nvme/$ctrl/state")" = live ] || fail "$ctrl is not live after resets"
	echo "ok: fio verify of $1 over $((resets + 1)) resets"
}
