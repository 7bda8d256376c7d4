# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
#
# POSIX sh, sourced by run.sh: disk devices and files of every kind that this
# FreeBSD can make.  Whatever is not there is said and counted as skipped.
#
#	make_stores FOLDER	makes what goes; sets stores, as tests/stores
#				wants them, and skipped
#	remove_stores		takes it all away

stores=
skipped=0
store_units=
store_nops=
store_mounts=
store_pool=

skip()
{
	echo "skipped $*"
	skipped=$((skipped + 1))
}

add_store()
{
	stores="$stores${stores:+ }$1"
}

# new_md OPTION...: makes a memory disk and sets unit to its name.
new_md()
{
	unit=$(mdconfig -a "$@" 2>/dev/null) || return 1
	store_units="$unit $store_units"
}

make_stores()
{
	truncate -s 32m "$1/file" || return 1
	add_store "file:$1/file"
	if [ "$(id -u)" -ne 0 ]; then
		for what in "a file on tmpfs" "a file on UFS" "md of swap" \
		    "md with sectors of 4 KiB" "md of malloc" \
		    "md of a file" "gnop with sectors of 4 KiB" \
		    "a file on ZFS" "a ZFS volume as a GEOM provider" \
		    "a ZFS volume as a plain device"; do
			skip "$what: only root can make it"
		done
		return
	fi

	mkdir "$1/tmpfs"
	if mount -t tmpfs -o size=128m tmpfs "$1/tmpfs" 2>/dev/null; then
		store_mounts=$1/tmpfs
		truncate -s 32m "$1/tmpfs/file"
		add_store "file:$1/tmpfs/file"
	else
		skip "a file on tmpfs: it cannot be mounted"
	fi

	mkdir "$1/ufs"
	if new_md -t swap -s 128m &&
	    newfs -U "/dev/$unit" >/dev/null 2>&1 &&
	    mount "/dev/$unit" "$1/ufs" 2>/dev/null; then
		store_mounts="$1/ufs $store_mounts"
		truncate -s 32m "$1/ufs/file"
		add_store "file:$1/ufs/file"
	else
		skip "a file on UFS: it cannot be made"
	fi

	if new_md -t swap -s 32m; then
		add_store "md:/dev/$unit"
	else
		skip "md of swap: it cannot be made"
	fi
	if new_md -t swap -s 32m -S 4096; then
		add_store "md:/dev/$unit"
	else
		skip "md with sectors of 4 KiB: it cannot be made"
	fi
	# One of malloc cannot be resized, and one of a file would outgrow it.
	if new_md -t malloc -s 32m; then
		add_store "device:/dev/$unit"
	else
		skip "md of malloc: it cannot be made"
	fi
	truncate -s 32m "$1/vnode"
	if new_md -t vnode -f "$1/vnode"; then
		add_store "device:/dev/$unit"
	else
		skip "md of a file: it cannot be made"
	fi

	kldload -nq geom_nop 2>/dev/null
	if new_md -t swap -s 32m &&
	    gnop create -S 4096 "/dev/$unit" 2>/dev/null; then
		store_nops=$unit.nop
		add_store "device:/dev/$unit.nop"
	else
		skip "gnop with sectors of 4 KiB: it cannot be made"
	fi

	# Not loaded for this alone: that takes memory for good.
	if ! kldstat -q -m zfs; then
		skip "a file on ZFS: ZFS is not loaded"
		skip "a ZFS volume as a GEOM provider: ZFS is not loaded"
		skip "a ZFS volume as a plain device: ZFS is not loaded"
		return
	fi
	pool=bhyve-nvme-test-$$
	if ! new_md -t swap -s 512m ||
	    ! zpool create -f -m none -o cachefile=none "$pool" \
	    "/dev/$unit" 2>/dev/null; then
		skip "a file on ZFS: no pool can be made"
		skip "a ZFS volume as a GEOM provider: no pool can be made"
		skip "a ZFS volume as a plain device: no pool can be made"
		return
	fi
	store_pool=$pool
	if zfs create -o mountpoint="$1/zfs" "$pool/files" &&
	    truncate -s 32m "$1/zfs/file"; then
		add_store "file:$1/zfs/file"
	else
		skip "a file on ZFS: it cannot be made"
	fi
	for mode in geom dev; do
		if zfs create -V 32m -o volmode=$mode "$pool/$mode" &&
		    wait_for "/dev/zvol/$pool/$mode"; then
			add_store "zvol:/dev/zvol/$pool/$mode"
		else
			skip "a ZFS volume, volmode=$mode: it cannot be made"
		fi
	done
}

# wait_for PATH: until it is there, ten seconds at most.
wait_for()
{
	turns=0
	while [ ! -e "$1" ]; do
		turns=$((turns + 1))
		[ "$turns" -le 10 ] || return 1
		sleep 1
	done
}

# To be called again and again, for whatever is left.
remove_stores()
{
	if [ -n "$store_pool" ]; then
		zpool destroy -f "$store_pool" && store_pool=
	fi
	for nop in $store_nops; do
		gnop destroy -f "$nop" && store_nops=
	done
	for mount in $store_mounts; do
		umount -f "$mount"
	done
	store_mounts=
	for unit in $store_units; do
		mdconfig -d -u "$unit" -o force
	done
	store_units=
}
