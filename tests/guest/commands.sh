# SPDX-License-Identifier: BSD-2-Clause

# refused STATUS ARGUMENT...: nvme ends with that status field, More and Do Not
# Retry included.
refused() {
	local status=$1
	shift
	if nvme "$@" >/tmp/refused.log 2>&1; then
		fail "nvme $*: succeeded"
	fi
	grep -q "(0x$status)" /tmp/refused.log || fail "nvme $*: not $status: $(cat /tmp/refused.log)"
}

# done_by ARGUMENT...: nvme succeeds.
done_by() {
	nvme "$@" >/tmp/done.log 2>&1 || fail "nvme $*: $(cat /tmp/done.log)"
}

# shows PATTERN ARGUMENT...: nvme succeeds, and a line of what it says matches.
shows() {
	local pattern=$1
	shift
	done_by "$@"
	grep -q -- "$pattern" /tmp/done.log || fail "nvme $*: no '$pattern': $(cat /tmp/done.log)"
}

# same FILE FILE
same() {
	cmp "$1" "$2" >/dev/null 2>&1 || fail "$1 and $2 differ: $3"
}

# raw TYPE OFFSET BYTES: numbers in /tmp/raw, as od writes them.
raw() {
	od -A n -t "$1" -j "$2" -N "$3" /tmp/raw | tr -s ' \n' ' ' | sed 's/^ //; s/ $//'
}

# identify_in_full SERIAL BLOCKS: every structure and list, by value.
identify_in_full() {
	local ctrl disk line
	ctrl=/dev/$(controller_of "$1")
	disk=/dev/$(disk_of "$1")
	for line in \
	    "mdts 9" "cntlid 0" "ver 0x20000" "oaes 0x100" "ctratt 0x1" "oacs 0x102" \
	    "acl 2" "aerl 4" "frmw 0x3" "lpa 0x27" "elpe 63" "npss 0" "wctemp 343" \
	    "cctemp 343" "kas 10" "oncs 0xdd" "fuses 0x1" "fna 0" "awun 0" "awupf 0" \
	    "acwu 0" "sgls 0x50001" "cmic 0" "sanicap 0" "rab 4"; do
		expect "id-ctrl $ctrl" "${line% *}" "${line#* }"
	done
	for line in \
	    "nlbaf 0" "flbas 0" "mc 0" "dpc 0" "dps 0" "nmic 0" "rescap 0" "fpi 0x80" \
	    "nsfeat 0x10" "dlfeat 9" "nvmcap $(($2 * 512))" "nsattr 0" "nawun 0" "nacwu 0"; do
		expect "id-ns $disk" "${line% *}" "${line#* }"
	done
	shows '^lbaf *0 : ms:0 *lbads:9 *rp:0 (in use)' id-ns "$disk"
	shows '^0\] *:0x1$\|\[ *0\]:0x1$' list-ns "$ctrl"
	[ "$(grep -c '0x' /tmp/done.log)" -eq 1 ] || fail "list-ns: more than one namespace"
	done_by list-ns "$ctrl" --all
	shows 'present: 1' list-ctrl "$ctrl"
	shows 'present: 1' list-ctrl "$ctrl" --namespace-id=1
	shows 'namespace-id:1$' get-ns-id "$disk"
	shows "^eui64.*$(cat "/sys/block/${disk#/dev/}/eui" 2>/dev/null | tr -d ' -')" ns-descs "$disk"
	shows 'Combination\[0\]:1$' id-iocs "$ctrl"
	for line in vsl wzsl wusl dmrl dmrsl dmsl; do
		expect "nvm-id-ctrl $ctrl" "$line" 0
	done
	expect "nvm-id-ns $disk" lbstm 0
	shows '^elbaf *0 : qpif:0 pif:0 sts:0' nvm-id-ns "$disk"
	# That the medium does not rotate, and is ready.
	expect "cmdset-ind-id-ns $disk" nsfeat 0
	expect "cmdset-ind-id-ns $disk" fpi 0x80
	expect "cmdset-ind-id-ns $disk" nstat 0x1
	[ "$(cat "/sys/block/${disk#/dev/}/queue/rotational")" = 0 ] || fail "$disk rotates"
	shows '^version *: 0x20000$' show-regs "$ctrl"
	shows '^crto *: 0x3c$' show-regs "$ctrl"
	for line in id-uuid id-domain id-nvmset list-endgrp id-ns-granularity \
	    primary-ctrl-caps list-secondary; do
		refused 6002 "$line" "$ctrl"
	done
	refused 600b id-ns "$ctrl" --namespace-id=2 --force
	echo "ok: all that $1 says of itself"
}

# logs SERIAL: every log page, and how those that are not there are refused.
logs() {
	local ctrl disk page reads errors
	ctrl=/dev/$(controller_of "$1")
	disk=/dev/$(disk_of "$1")
	done_by supported-log-pages "$ctrl"
	[ "$(sed -n 's/^LID \([^ ]*\) .*/\1/p' /tmp/done.log | tr '\n' ' ')" = \
	    "0 0x1 0x2 0x3 0x4 0x5 0x12 0x13 " ] || fail "log pages: $(cat /tmp/done.log)"
	done_by effects-log "$ctrl" --csi=0
	[ "$(sed -n 's/^\([AI]O*CS*[0-9]*\) .*\] \(.*\)$/\1=\2/p' /tmp/done.log | tr '\n' ' ')" = \
	    "ACS0=00200001 ACS1=00200001 ACS2=00200001 ACS4=00200001 ACS5=00200001 ACS6=00200001 ACS8=00200001 ACS9=00200001 ACS10=00200001 ACS12=00200001 ACS24=00200001 ACS124=00200001 ACS128=00110003 IOCS0=00000001 IOCS1=00000003 IOCS2=00000001 IOCS5=00000001 IOCS8=00000003 IOCS9=00000003 IOCS12=00000001 " ] ||
		fail "command effects: $(cat /tmp/done.log)"
	done_by effects-log "$ctrl"
	done_by fid-support-effects-log "$ctrl"
	[ "$(sed -n 's/^FID \(..\) -> .*: \(.*\)$/\1=\2/p' /tmp/done.log | tr '\n' ' ')" = \
	    "01=00200001 02=00200001 04=00200001 05=00100001 06=00200001 07=00200001 08=00200001 09=00200001 0a=00200001 0b=00200001 0e=00200001 0f=00200001 16=00200001 81=00200001 " ] ||
		fail "feature effects: $(cat /tmp/done.log)"
	done_by mi-cmd-support-effects-log "$ctrl"
	if grep -q -- '->' /tmp/done.log; then
		fail "commands of the management interface"
	fi
	shows 'no ns changed' changed-ns-list-log "$ctrl"
	shows '^afi *: 0x1$' fw-log "$ctrl"

	# Counters move by what is done.
	reads=$(field "smart-log $ctrl" host_read_commands)
	done_by read "$disk" --start-block=0 --block-count=0 --data-size=512 --data=/tmp/block
	done_by compare "$disk" --start-block=0 --block-count=0 --data-size=512 --data=/tmp/block
	expect "smart-log $ctrl" host_read_commands $((reads + 2))
	expect "smart-log $ctrl" available_spare_threshold 10%
	expect "smart-log $ctrl" temperature "23 °C (296 K)"
	errors=$(field "smart-log $ctrl" num_err_log_entries)
	refused 6080 read "$disk" --start-block="$2" --block-count=0 --data-size=512 --data=/tmp/block
	expect "smart-log $ctrl" num_err_log_entries $((errors + 1))
	shows "^error_count.*: $((errors + 1))\$" error-log "$ctrl" --log-entries=1
	for page in "^status_field.*: 0x4080" "^parm_err_loc.*: 0x28\$" "^nsid.*: 0x1\$" \
	    "^lba.*: $(printf '0x%x' "$2")\$"; do
		shows "$page" error-log "$ctrl" --log-entries=1
	done
	# A page in pieces is the page.
	nvme get-log "$ctrl" --log-id=5 --log-len=4096 --raw-binary >/tmp/whole
	nvme get-log "$ctrl" --log-id=5 --log-len=2048 --lpo=2048 --raw-binary >/tmp/raw
	[ "$(raw x1 0 2048 | md5sum)" = "$(tail -c 2048 /tmp/whole >/tmp/raw; raw x1 0 2048 | md5sum)" ] ||
		fail "a log page from its middle"
	for page in 0x06 0x07 0x08 0x0a 0x0b 0x0c 0x0d 0x0e 0x10 0x70 0x80 0x81 0xc0 0xff; do
		refused 6109 get-log "$ctrl" --log-id=$page --log-len=512
	done
	for page in self-test-log endurance-log ana-log sanitize-log resv-notif-log lba-status-log \
	    pred-lat-event-agg-log "persistent-event-log --action=0"; do
		# shellcheck disable=SC2086
		refused 6109 $page "$ctrl"
	done
	echo "ok: logs of $1"
}

# set_and_get CONTROLLER FEATURE VALUE FIRST DEFAULT: a number, there and back.
set_and_get() {
	set -- "$1" "$2" $(printf '%x %x %x' "0x$3" "0x$4" "0x$5")
	shows "Current value:[0x]*$4\$" get-feature "$1" --feature-id="$2"
	done_by set-feature "$1" --feature-id="$2" --value="0x$3"
	shows "Current value:[0x]*$3\$" get-feature "$1" --feature-id="$2"
	shows "Default value:[0x]*$5\$" get-feature "$1" --feature-id="$2" --sel=1
	shows "Saved value:[0x]*$5\$" get-feature "$1" --feature-id="$2" --sel=2
	refused 610d set-feature "$1" --feature-id="$2" --value="0x$3" --save
	done_by set-feature "$1" --feature-id="$2" --value="0x$4"
}

# features SERIAL: each feature set, read back under each selection, and refused.
features() {
	local ctrl disk id
	ctrl=/dev/$(controller_of "$1")
	disk=/dev/$(disk_of "$1")
	for id in 1 2 4 6 7 8 9 0xa 0xb 0xe 0xf 0x16 0x81; do
		shows 'capabilities value:0x00000004' get-feature "$ctrl" --feature-id=$id --sel=3
	done
	shows 'capabilities value:0x00000006' get-feature "$disk" --feature-id=5 --sel=3 --namespace-id=1
	set_and_get "$ctrl" 1 00010203 00000007 00000007
	set_and_get "$ctrl" 2 00000000 00000000 00000000
	refused 6002 set-feature "$ctrl" --feature-id=2 --value=1
	set_and_get "$ctrl" 4 00000150 00000157 00000157
	set_and_get "$ctrl" 6 00000000 00000001 00000001
	refused 600c set-feature "$ctrl" --feature-id=7 --value=0x10001
	shows 'Default value:0x000f000f' get-feature "$ctrl" --feature-id=7 --sel=1
	set_and_get "$ctrl" 8 00000a07 00000000 00000000
	done_by set-feature "$ctrl" --feature-id=9 --value=0x10001
	shows 'Current value:0x00010001' get-feature "$ctrl" --feature-id=9 --cdw11=1
	shows 'Default value:0x00000001' get-feature "$ctrl" --feature-id=9 --cdw11=1 --sel=1
	done_by set-feature "$ctrl" --feature-id=9 --value=0x1
	refused 6002 get-feature "$ctrl" --feature-id=9 --cdw11=40
	set_and_get "$ctrl" 0xa 00000001 00000000 00000000
	# The driver has set what it wants to hear of.
	id=$(feature "${ctrl#/dev/}" 0xb)
	set_and_get "$ctrl" 0xb 00000002 "$(printf %08x "$id")" 00000000
	done_by set-feature "$disk" --feature-id=5 --value=7 --namespace-id=1
	shows 'Current value:[0x]*7$' get-feature "$disk" --feature-id=5 --namespace-id=1
	refused 6002 set-feature "$disk" --feature-id=5 --value=0x10000 --namespace-id=1
	refused 600b get-feature "$ctrl" --feature-id=5 --namespace-id=0xffffffff
	refused 610f set-feature "$disk" --feature-id=1 --value=7 --namespace-id=1
	# So long that the driver, which cannot keep it up here, does not try.
	done_by set-feature "$ctrl" --feature-id=0xf --value=3600001
	shows 'Current value:0x0036f268' get-feature "$ctrl" --feature-id=0xf
	done_by set-feature "$ctrl" --feature-id=0xf --value=0
	shows 'Current value:[0x]*0$' get-feature "$ctrl" --feature-id=0xf

	printf '\001\002\003\004\005\006\000\000' >/tmp/time
	done_by set-feature "$ctrl" --feature-id=0xe --data-len=8 --data=/tmp/time
	nvme get-feature "$ctrl" --feature-id=0xe --data-len=8 --raw-binary >/tmp/raw
	[ "$(raw x1 2 5)" = "03 04 05 06 02" ] || fail "the timestamp is $(raw x1 0 8)"
	printf '\001' >/tmp/host
	head -c 511 /dev/zero >>/tmp/host
	done_by set-feature "$ctrl" --feature-id=0x16 --data-len=512 --data=/tmp/host
	nvme get-feature "$ctrl" --feature-id=0x16 --data-len=512 --raw-binary >/tmp/raw
	same /tmp/raw /tmp/host "host behaviour"
	printf '0123456789abcdef' >/tmp/host
	done_by set-feature "$ctrl" --feature-id=0x81 --value=1 --data-len=16 --data=/tmp/host
	nvme get-feature "$ctrl" --feature-id=0x81 --cdw11=1 --data-len=16 --raw-binary >/tmp/raw
	same /tmp/raw /tmp/host "the host's identifier"
	for id in 3 0xc 0xd 0x10 0x11 0x12 0x13 0x14 0x15 0x17 0x18 0x78 0x7e 0x7f 0x80 0x82 0x83 0x84 0xc0; do
		refused 6002 get-feature "$ctrl" --feature-id=$id --sel=0
		refused 6002 set-feature "$ctrl" --feature-id=$id --value=0
	done
	echo "ok: features of $1"
}

# io_commands SERIAL BLOCKS: each I/O command on its blocks, by their contents.
io_commands() {
	local disk at
	disk=/dev/$(disk_of "$1")
	head -c 65536 /dev/urandom >/tmp/a
	head -c 65536 /dev/zero >/tmp/zero
	at="--start-block=1000 --block-count=127 --data-size=65536"
	# shellcheck disable=SC2086
	{
		done_by write "$disk" $at --data=/tmp/a
		done_by read "$disk" $at --data=/tmp/b
		same /tmp/a /tmp/b "what was written"
		done_by write "$disk" $at --data=/tmp/a --force-unit-access
		done_by read "$disk" $at --data=/tmp/b --force-unit-access
		same /tmp/a /tmp/b "what was written with FUA"
		done_by compare "$disk" $at --data=/tmp/a
		refused 6285 compare "$disk" $at --data=/tmp/zero
		done_by verify "$disk" --start-block=1000 --block-count=127
		done_by write-zeroes "$disk" --start-block=1000 --block-count=63
		done_by write-zeroes "$disk" --start-block=1064 --block-count=63 --deac
		done_by compare "$disk" $at --data=/tmp/zero
		done_by write "$disk" $at --data=/tmp/a
		# The store frees whole units of 8 blocks.
		done_by dsm "$disk" --ad --slbs=1000,1064,1096 --blocks=64,32,32
		done_by compare "$disk" $at --data=/tmp/zero
		done_by flush "$disk" --namespace-id=1
	}
	refused 6080 read "$disk" --start-block="$2" --block-count=0 --data-size=512 --data=/tmp/b
	refused 6080 write "$disk" --start-block=$(($2 - 1)) --block-count=1 --data-size=1024 --data=/tmp/a
	refused 6080 verify "$disk" --start-block="$2" --block-count=0
	refused 6080 write-zeroes "$disk" --start-block=$(($2 - 10)) --block-count=65535
	refused 6080 dsm "$disk" --ad --slbs=0,"$2" --blocks=8,8
	done_by io-passthru "$disk" --opcode=2 --namespace-id=1 --data-len=512 --read --cdw10=1000
	done_by io-passthru "$disk" --opcode=0 --namespace-id=1
	done_by admin-passthru "/dev/$(controller_of "$1")" --opcode=6 --data-len=4096 --read --cdw10=1
	for at in 0x04 0x0d 0x0e 0x11 0x15 0x19 0x7f 0x80 0xff; do
		refused 6001 io-passthru "$disk" --opcode=$at --namespace-id=1
	done
	refused 6001 write-uncor "$disk" --start-block=0 --block-count=0
	refused 6001 copy "$disk" --sdlba=0 --blocks=0 --slbs=8
	refused 6001 get-lba-status "$disk" --start-lba=0 --max-dw=64 --action=0x11 --range-len=0
	refused 6001 resv-report "$disk"
	echo "ok: I/O commands on $1"
}

# not_there SERIAL: admin commands that the controller has not.
not_there() {
	local ctrl opcode
	ctrl=/dev/$(controller_of "$1")
	refused 6001 device-self-test "$ctrl" --namespace-id=1 --self-test-code=1
	refused 6001 sanitize "$ctrl" --sanact=2
	refused 6001 fw-download "$ctrl" --fw=/tmp/zero
	refused 6001 fw-commit "$ctrl" --slot=1 --action=1
	refused 6001 fw-commit "$ctrl" --slot=2 --action=1
	refused 6001 security-recv "$ctrl" --namespace-id=1 --secp=1 --spsp=1 --size=512
	refused 6001 delete-ns "$ctrl" --namespace-id=1
	refused 6001 attach-ns "$ctrl" --namespace-id=1 --controllers=0
	refused 6001 detach-ns "$ctrl" --namespace-id=1 --controllers=0
	refused 6001 dir-receive "$ctrl" --namespace-id=1 --dir-type=0 --dir-oper=1 --data-len=64
	refused 6001 lockdown "$ctrl"
	refused 6001 virt-mgmt "$ctrl" --cntlid=0
	for opcode in 0x03 0x07 0x0b 0x0d 0x11 0x14 0x15 0x19 0x1a 0x1c 0x1d 0x1e 0x20 0x24 0x81 0x82 0x84 0x86 0xc0; do
		refused 6001 admin-passthru "$ctrl" --opcode=$opcode
	done
	if nvme subsystem-reset "$ctrl" >/tmp/refused.log 2>&1; then
		fail "subsystem-reset succeeded"
	fi
	grep -qi 'not supported' /tmp/refused.log || fail "subsystem-reset: $(cat /tmp/refused.log)"
	echo "ok: what $1 has not"
}

# discards SERIAL: the block layer's discards and zeroes. Busybox has programs
# of the same names, which can do less.
discards() {
	local disk
	disk=/dev/$(disk_of "$1")
	dd if=/dev/urandom of="$disk" bs=1M count=4 oflag=direct 2>/dev/null
	/usr/sbin/blkdiscard --offset 1048576 --length 1048576 "$disk" || fail "blkdiscard"
	/usr/sbin/blkdiscard --zeroout --offset 2097152 --length 1048576 "$disk" ||
		fail "blkdiscard --zeroout"
	head -c 2097152 /dev/zero >/tmp/zero
	dd if="$disk" of=/tmp/b bs=1M skip=1 count=2 iflag=direct 2>/dev/null
	same /tmp/zero /tmp/b "discarded blocks"
	dd if="$disk" bs=1M skip=3 count=1 iflag=direct 2>/dev/null | cmp - /tmp/zero >/dev/null 2>&1 &&
		fail "a block beside was discarded"
	/usr/sbin/blkdiscard --force "$disk" || fail "blkdiscard of all"
	rm /tmp/zero /tmp/b
	echo "ok: discards on $1"
}

# trims SERIAL: ext4 gives back what its files no longer need.
trims() {
	local disk
	disk=/dev/$(disk_of "$1")
	mkfs.ext4 -q -F "$disk" || fail "mkfs.ext4"
	mount -t ext4 "$disk" /mnt || fail "mount"
	dd if=/dev/urandom of=/mnt/large bs=1M count=32 conv=fsync 2>/dev/null
	echo kept >/mnt/small
	rm /mnt/large
	sync
	/usr/sbin/fstrim -v /mnt >/tmp/trim.log || fail "fstrim"
	umount /mnt
	mount -t ext4 -o ro "$disk" /mnt
	[ "$(cat /mnt/small)" = kept ] || fail "fstrim took a file away"
	umount /mnt
	echo "ok: fstrim on $1: $(cat /tmp/trim.log)"
}

# formats SERIAL: format under a device that is open, and formats that cannot be.
formats() {
	local disk ctrl
	disk=/dev/$(disk_of "$1")
	ctrl=/dev/$(controller_of "$1")
	head -c 65536 /dev/zero >/tmp/zero
	for arguments in "$disk" "$disk --ses=1" "$ctrl --namespace-id=0xffffffff"; do
		dd if=/dev/urandom of="$disk" bs=64k count=2 oflag=direct 2>/dev/null
		exec 7<"$disk"
		# shellcheck disable=SC2086
		done_by format $arguments --force
		dd if="$disk" of=/tmp/b bs=64k count=1 iflag=direct 2>/dev/null
		same /tmp/zero /tmp/b "format $arguments"
		exec 7<&-
	done
	refused 6002 format "$disk" --force --ses=2
	refused 610a format "$disk" --force --lbaf=1
	refused 610a format "$disk" --force --pi=1
	expect "id-ns $disk" fpi 0x80
	echo "ok: formats of $1"
}

# comes_back SERIAL: rescans, resets and a removal while fio writes.
comes_back() {
	local ctrl disk job slot tries
	ctrl=$(controller_of "$1")
	disk=/dev/${ctrl}n1
	run_fio "${ctrl}n1" --rw=randwrite --bs=4k --iodepth=16 --size=8m --time_based --runtime=4 --name=w &
	job=$!
	for tries in 1 2 3; do
		sleep 1
		done_by ns-rescan "/dev/$ctrl"
		done_by reset "/dev/$ctrl"
	done
	wait $job || fail "fio over rescans and resets"
	# A reset that comes into a scan ends it, and the scan says so.
	if dmesg | grep -E 'I/O error|timeout|WARNING|BUG:' | grep -E 'nvme|WARNING|BUG:'; then
		fail "the kernel complains"
	fi
	run_fio "${ctrl}n1" --rw=randwrite --bs=4k --size=8m --verify=crc32c --do_verify=0 --name=v

	# Its readers end with it, and it is the same when it is back.
	while dd if="$disk" of=/dev/null bs=4k count=64 iflag=direct 2>/dev/null; do :; done &
	job=$!
	sleep 1
	slot=$(readlink -f "/sys/class/nvme/$ctrl/device")
	echo 1 >"$slot/remove"
	wait $job
	[ ! -e "/sys/class/nvme/$ctrl" ] || fail "$ctrl is still there"
	dmesg -c >/dev/null
	echo 1 >/sys/bus/pci/rescan
	tries=0
	while ! disk=$(disk_of "$1" 2>/dev/null) || ! [ -b "/dev/$disk" ]; do
		tries=$((tries + 1))
		[ "$tries" -lt 1200 ] || fail "$1 did not come back"
		usleep 100000
	done
	run_fio "$disk" --rw=randwrite --bs=4k --size=8m --verify=crc32c --verify_only=1 --name=v
	kernel_is_content
	echo "ok: $1 comes back"
}
