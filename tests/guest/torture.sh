# SPDX-License-Identifier: BSD-2-Clause
#
# A disk whose controller is reset, unbound, removed and found again under I/O.
# The first 8 MiB are written once and must stay; the next 8 MiB are in use.

# The options that make the same data and checks again.
kept() {
	run_fio "$(disk_of "$1")" --name=kept --rw=write --bs=64k --size=8m --iodepth=8 --verify=crc32c --verify_fatal=1 $2
}

# fio's options for random writes to the second 8 MiB of disk $1, which it checks.
# It must not make a file where a disk was.
busy_options() {
	echo "--filename=/dev/$1 --allow_file_create=0 --direct=1 --ioengine=libaio --name=busy --thread --offset=8m --size=8m" \
	    "--rw=randwrite --bsrange=4k-128k --iodepth=16 --verify=crc32c --verify_fatal=1 --do_verify=1 --minimal"
}

# busy SERIAL MIB: writes that many in the background, and returns once it has
# begun to.
busy() {
	local disk before tries
	disk=$(disk_of "$1")
	before=$(writes_of "$disk")
	fio $(busy_options "$disk") --io_size="${2}m" >/tmp/busy.log 2>&1 &
	job=$!
	tries=0
	while [ "$(writes_of "$disk")" = "$before" ]; do
		[ "$tries" -lt 1200 ] || fail "fio does not begin to write to $disk"
		usleep 100000
		tries=$((tries + 1))
	done
}

writes_of() {
	local reads merged sectors time writes rest
	read -r reads merged sectors time writes rest <"/sys/class/block/$1/stat"
	echo "$writes"
}

pci_address() {
	local path
	path=$(readlink -f "/sys/class/nvme/$(controller_of "$1")/device")
	echo "${path##*/}"
}

# Waits up to 120 s for the disk with the serial number $1.
appears() {
	local tries dir
	tries=0
	while [ "$tries" -lt 1200 ]; do
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

# fio may go on trying a disk that has no sectors any more, or have ended. It ends
# only if none of its I/O is still under way in the kernel.
cut_off() {
	{
		kill -9 "$job" || true
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

# Writes and checks the same 8 MiB again and again, until /tmp/stop is there.
busy_until_stop() {
	local options
	options=$(busy_options "$(disk_of "$1")")
	(
		while [ ! -e /tmp/stop ]; do
			fio $options >/tmp/busy.log 2>&1 || exit 1
			grep -q "verify:" /tmp/busy.log && exit 1
			echo >>/tmp/rounds
		done
	) &
	job=$!
}

# refused_until_stop SERIAL: writes to the 2 MiB from 20 MiB on, where the store
# fails, and keeps what dd says of it.
refused_until_stop() {
	local disk
	disk=/dev/$(disk_of "$1")
	(
		while [ ! -e /tmp/stop ]; do
			dd if=/dev/urandom of="$disk" bs=64k seek=320 count=32 oflag=direct conv=notrunc 2>&1 |
			    grep 'writing' >>/tmp/refused || true
			usleep 50000
		done
	) &
	refused_job=$!
}

# resets SERIAL WAY COUNT [ERROR]: fio must see nothing of them. With ERROR, the
# store fails writes from 20 MiB on by lot, of which dd must say just that.
resets() {
	local address count
	address=$(pci_address "$1")
	rm -f /tmp/stop /tmp/rounds /tmp/refused
	busy_until_stop "$1"
	[ $# -lt 4 ] || refused_until_stop "$1"
	count=0
	while [ "$count" -lt "$3" ]; do
		usleep 50000
		reset_by "$2" "$1" "$address"
		count=$((count + 1))
	done
	# To the end of a round with no reset any more.
	touch /tmp/stop
	wait "$job" || {
		tail -n 20 /tmp/busy.log
		fail "fio over $2 resets"
	}
	[ -s /tmp/rounds ] || fail "fio came to no end over $2 resets"
	if [ $# -ge 4 ]; then
		wait "$refused_job"
		[ -s /tmp/refused ] || fail "no write failed over $2 resets"
		if grep -v "$4" /tmp/refused; then
			fail "another error than '$4' over $2 resets"
		fi
	fi
}

# torture SERIAL CONTROLLER FUNCTION [ERROR]: so many resets of the controller
# and of the function under I/O that fio survives; then what it does not.
torture() {
	local address way
	address=$(pci_address "$1")
	echo flr >"/sys/bus/pci/devices/$address/reset_method" || fail "no function level reset"
	kept "$1" --do_verify=0
	resets "$1" controller "$2" ${4+"$4"}
	resets "$1" function "$3" ${4+"$4"}
	for way in unbind remove; do
		busy "$1" 1000
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
