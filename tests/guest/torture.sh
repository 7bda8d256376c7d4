# SPDX-License-Identifier: BSD-2-Clause
#
# A disk whose controller is reset, unbound, removed and found again under I/O.
# The first 8 MiB are written once and must stay; the next 8 MiB are in use.

# The options that make the same data and checks again.
kept() {
	run_fio "$(disk_of "$1")" --name=kept --rw=write --bs=64k --size=8m --iodepth=8 --verify=crc32c --verify_fatal=1 $2
}

busy() {
	fio --filename="/dev/$(disk_of "$1")" --direct=1 --ioengine=libaio --name=busy --thread --offset=8m --size=8m --io_size=${2}m \
	    --rw=randwrite --bsrange=4k-128k --iodepth=16 --verify=crc32c --verify_fatal=1 --do_verify=1 --minimal \
	    >/tmp/busy.log 2>&1 &
	job=$!
}

pci_address() {
	local path
	path=$(readlink -f "/sys/class/nvme/$(controller_of "$1")/device")
	echo "${path##*/}"
}

# Waits up to 30 s for the disk with the serial number $1.
appears() {
	local tries dir
	tries=0
	while [ "$tries" -lt 300 ]; do
		for dir in /sys/class/nvme/nvme*; do
			if [ -e "$dir/serial" ] && [ "$(sed 's/ *$//' "$dir/serial")" = "$1" ] &&
			    [ "$(cat "$dir/state")" = live ] && [ -b "/dev/${dir##*/}n1" ]; then
				return
			fi
		done
		usleep 100000
		tries=$((tries + 1))
	done
	dmesg | tail -n 20
	fail "$1 did not come back"
}

# reset_by WAY SERIAL ADDRESS: of these fio sees nothing but a pause.
reset_by() {
	case $1 in
	controller) nvme reset "/dev/$(controller_of "$2")" || fail "nvme reset" ;;
	function) echo 1 >"/sys/bus/pci/devices/$3/reset" || fail "function level reset" ;;
	esac
	appears "$2"
}

# fio would go on trying a disk that has no sectors any more. It ends only if
# none of its I/O is still under way in the kernel.
cut_off() {
	{
		kill -9 "$job"
		wait "$job" || true
	} 2>/dev/null
}

# lost_by WAY SERIAL ADDRESS: these take the disk away and bring it back.
lost_by() {
	case $1 in
	unbind)
		echo "$3" >/sys/bus/pci/drivers/nvme/unbind
		cut_off
		echo "$3" >/sys/bus/pci/drivers/nvme/bind
		;;
	remove)
		echo 1 >"/sys/bus/pci/devices/$3/remove"
		cut_off
		echo 1 >/sys/bus/pci/rescan
		;;
	esac
	appears "$2"
}

# torture SERIAL RESETS MIB: RESETS of each kind that fio survives while it
# writes MIB and checks them, then each kind that it does not.
torture() {
	local address way count
	address=$(pci_address "$1")
	echo flr >"/sys/bus/pci/devices/$address/reset_method" || fail "no function level reset"
	kept "$1" --do_verify=0
	for way in controller function; do
		busy "$1" "$3"
		count=0
		while [ "$count" -lt "$2" ]; do
			usleep 50000
			reset_by "$way" "$1" "$address"
			count=$((count + 1))
		done
		wait "$job" || {
			tail -n 20 /tmp/busy.log
			fail "fio over $way resets"
		}
	done
	for way in unbind remove; do
		busy "$1" 1000
		usleep 300000
		lost_by "$way" "$1" "$address"
		kept "$1" --verify_only=1
	done
	busy "$1" 8
	wait "$job" || {
		tail -n 20 /tmp/busy.log
		fail "fio after all resets"
	}
	if dmesg | grep -E 'timeout|[Cc]ontroller is down|not ready|DMAR:.*fault|WARNING|BUG:'; then
		fail "the kernel complains"
	fi
	echo "ok: $1"
}

# Whether this is the first life of a guest that warm_reboot ends. The mark is
# in the last MiB of the disk.
before_reboot() {
	! dd if="/dev/$(disk_of "$1")" bs=1M skip=31 count=1 iflag=direct 2>/dev/null | grep -q "^rebooted"
}

warm_reboot() {
	echo rebooted | dd of="/dev/$(disk_of "$1")" bs=1M seek=31 conv=notrunc,fsync 2>/dev/null
	echo "rebooting"
	sync
	reboot -f
	sleep 60
	fail "the guest did not reboot"
}
