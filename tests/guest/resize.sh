# SPDX-License-Identifier: BSD-2-Clause

# resize SERIAL: asks the host, by a mark in the first block, for a disk that is
# 8 MiB larger and then for what it was; sees both, and uses the new end.
resize() {
	local disk size want
	disk=$(disk_of "$1")
	size=$(cat "/sys/block/$disk/size")
	for want in $((size + 16384)) "$size"; do
		printf '%-512s' "RESIZE $((want * 512))" |
		    dd of="/dev/$disk" bs=512 count=1 oflag=direct conv=notrunc 2>/dev/null ||
		    fail "$disk: the mark cannot be written"
		wait_for_size "$disk" "$want"
		printf '%-4096s' "end of $want" |
		    dd of="/dev/$disk" bs=4096 seek=$((want / 8 - 1)) oflag=direct conv=notrunc 2>/dev/null ||
		    fail "$disk: the last blocks of $want cannot be written"
		[ "$(dd if="/dev/$disk" bs=4096 skip=$((want / 8 - 1)) iflag=direct 2>/dev/null |
		    sed 's/ *$//')" = "end of $want" ] ||
		    fail "$disk: the last blocks of $want are not what was written"
	done
	kernel_is_content
	echo "ok: resize of $1"
}

# wait_for_size DISK BLOCKS: nobody scans: the controller's event has to do it.
wait_for_size() {
	local turns
	turns=0
	while [ "$(cat "/sys/block/$1/size")" -ne "$2" ]; do
		turns=$((turns + 1))
		[ "$turns" -le 300 ] || fail "$1 has $(cat "/sys/block/$1/size") blocks, not $2"
		sleep 1
	done
}
