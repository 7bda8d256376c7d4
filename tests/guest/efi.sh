# SPDX-License-Identifier: BSD-2-Clause

# efi_and_again SERIAL: UEFI firmware booted this guest from the disk. The first
# time, its partition gets a file and the guest reboots; the second time, the
# file and the applications that the firmware read must be as they were.
efi_and_again() {
	local disk
	disk=$(disk_of "$1")
	[ -d /sys/firmware/efi ] || fail "this is no UEFI boot"
	mount -t vfat "/dev/${disk}p1" /mnt || fail "mount ${disk}p1"
	kernel_is_content
	if [ ! -e /mnt/SUMS ]; then
		dd if=/dev/urandom of=/mnt/NOISE bs=1M count=4 2>/dev/null
		(cd /mnt && sha256sum NOISE VMLINUZ.EFI EFI/BOOT/BOOTX64.EFI >SUMS)
		umount /mnt
		echo "guest: written"
		sync
		reboot -f
		sleep 60
		fail "the guest did not reboot"
	fi
	(cd /mnt && sha256sum -c SUMS >/tmp/sums.log 2>&1) || fail "$(cat /tmp/sums.log)"
	umount /mnt
	echo "guest: read after a warm reboot"
}
