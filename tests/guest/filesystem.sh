# SPDX-License-Identifier: BSD-2-Clause

# filesystem SERIAL: ext4 made, filled, unmounted, checked and read again.
filesystem() {
	local disk i
	disk=$(disk_of "$1")
	mkfs.ext4 -q -F "/dev/$disk" || fail "mkfs.ext4 $disk"
	mount -t ext4 "/dev/$disk" /mnt || fail "mount $disk"
	i=0
	while [ "$i" -lt 40 ]; do
		mkdir -p "/mnt/$((i % 7))"
		dd if=/dev/urandom of="/mnt/$((i % 7))/$i" bs=$((i * 997 + 1)) count=5 2>/dev/null
		i=$((i + 1))
	done
	dd if=/dev/urandom of=/mnt/large bs=1M count=8 2>/dev/null
	rm -r /mnt/3
	(cd /mnt && find . -type f ! -name sums -exec sha256sum {} + >sums)
	sync
	umount /mnt || fail "umount $disk"
	e2fsck -f -n "/dev/$disk" >/tmp/fsck.log 2>&1 || {
		cat /tmp/fsck.log
		fail "e2fsck $disk"
	}
	# Read back from the disk, not from the cache.
	blockdev --flushbufs "/dev/$disk"
	echo 3 >/proc/sys/vm/drop_caches
	mount -t ext4 -o ro "/dev/$disk" /mnt || fail "mount $disk again"
	(cd /mnt && sha256sum -c sums >/tmp/sums.log 2>&1) || {
		grep -v ': OK$' /tmp/sums.log
		fail "a file on $disk has changed"
	}
	[ "$(wc -l </tmp/sums.log)" -eq 35 ] || fail "$(wc -l </tmp/sums.log) files on $disk, not 35"
	umount /mnt
	kernel_is_content
	echo "ok: ext4 on $1"
}

# checksum SERIAL: the whole disk's SHA-256, for the host to compare.
checksum() {
	echo "sha256 $1 $(dd if="/dev/$(disk_of "$1")" bs=1M iflag=direct 2>/dev/null | sha256sum | cut -d' ' -f1)"
}
