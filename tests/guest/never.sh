# SPDX-License-Identifier: BSD-2-Clause

# A read that the store never answers, and each way to stop a controller with
# that in flight: the read fails and the driver gives the disk up, in a time of
# its own; the guest lives, and so does its other disk, D. The kernel's time-outs
# are on its command line; CAP.TO is 30 s, which the driver waits more than once.

# given_up WAY SERIAL
given_up() {
	local address disk ctrl job
	address=$(pci_address "$2")
	ctrl=$(controller_of "$2")
	disk=$(disk_of "$2")
	dd if="/dev/$disk" of=/dev/null bs=4k skip=5120 count=1 iflag=direct 2>/dev/null &
	job=$!
	usleep 300000
	# Whether this fails is the driver's affair: the disk is dead.
	case $1 in
	controller) nvme reset "/dev/$ctrl" >/dev/null 2>&1 || true ;;
	function) echo 1 >"/sys/bus/pci/devices/$address/reset" || true ;;
	unbind) echo "$address" >/sys/bus/pci/drivers/nvme/unbind ;;
	remove)
		echo 1 >"/sys/bus/pci/devices/$address/remove"
		echo 1 >/sys/bus/pci/rescan
		;;
	esac
	if wait $job; then
		fail "$1: a read that never ends succeeded"
	fi
	# Nor does it come back as long as the store holds on: RDY is 1.
	case $1 in
	unbind | remove)
		if echo "$address" 2>/dev/null >/sys/bus/pci/drivers/nvme/bind; then
			fail "$1: the driver took $2 again"
		fi
		;;
	esac
	if [ -e "/sys/bus/pci/devices/$address/nvme/$ctrl/state" ]; then
		[ "$(cat "/sys/bus/pci/devices/$address/nvme/$ctrl/state")" != live ] || fail "$1: $2 is live"
	fi
	echo "given up: $2"
}

echo 0 >/sys/bus/pci/drivers_autoprobe
kept D --do_verify=0
for disk in N0 N1 N2 N3; do
	echo flr >"/sys/bus/pci/devices/$(pci_address $disk)/reset_method" || fail "no function level reset"
	kept $disk --do_verify=0
done
# All at once, for most of it is waiting.
number=0
for way in controller function unbind remove; do
	given_up $way N$number >/tmp/given_up$number 2>&1 &
	number=$((number + 1))
done
tries=0
while [ "$(cat /tmp/given_up? | grep -c 'given up\|FAILED')" -lt 4 ]; do
	[ "$tries" -lt 180 ] || {
		dmesg | tail -n 20
		fail "not all disks were given up in time"
	}
	kept D --verify_only=1
	sleep 1
	tries=$((tries + 1))
done
cat /tmp/given_up?
kept D --verify_only=1
