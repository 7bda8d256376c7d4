# SPDX-License-Identifier: BSD-2-Clause

# Writes the block at 20 MiB of the disk $1, which cannot be. Prints dd's words.
write_refused() {
	if dd if=/dev/urandom of="/dev/$(disk_of "$1")" bs=4k seek=5120 count=1 oflag=direct 2>/tmp/dd.log; then
		fail "a write of $1 succeeded that must not"
	fi
	cat /tmp/dd.log
}

for disk in D0 D1 D2 D3; do
	kept $disk --do_verify=0
done

# The block layer's names of the statuses: a medium's error, no room, and none for
# a write to a protected namespace.
write_refused D0 | grep -qi 'No data available' || fail "D0: $(cat /tmp/dd.log)"
write_refused D1 | grep -qi 'No space left' || fail "D1: $(cat /tmp/dd.log)"
write_refused D2 | grep -qi 'Input/output error' || fail "D2: $(cat /tmp/dd.log)"
for disk in D0 D1 D2; do
	[ "$(cat "/sys/class/nvme/$(controller_of $disk)/state")" = live ] || fail "$disk is not live"
	nvme reset "/dev/$(controller_of $disk)" || fail "nvme reset of $disk"
	kept $disk --verify_only=1
	echo "ok: $disk"
done

# The driver gives the disk up; until then the others work.
dd if="/dev/$(disk_of D3)" of=/dev/null bs=4k skip=5120 count=1 iflag=direct 2>/tmp/never.log &
job=$!
tries=0
while kill -0 $job 2>/dev/null; do
	[ "$tries" -lt 120 ] || fail "the read that never ends was not given up in time"
	kept D0 --verify_only=1
	sleep 1
	tries=$((tries + 1))
done
if wait $job; then
	fail "a read that never ends succeeded"
fi
kept D1 --verify_only=1
echo "ok: D3"
