# SPDX-License-Identifier: BSD-2-Clause
#
# identify SERIAL SECTOR QUEUES: what the controller says of itself. SECTOR is
# its sector's size in bytes, QUEUES the number of queue pairs that it grants
# to this guest.

identify() {
	local ctrl disk id ns bytes size errors value want f
	ctrl=$(controller_of "$1")
	disk=${ctrl}n1
	id="id-ctrl /dev/$ctrl"
	expect "$id" vid 0xfb5d
	expect "$id" sn "$1"
	expect "$id" mn bhyve-NVMe
	expect "$id" fr 1.0
	expect "$id" ieee 589cfc
	expect "$id" cntrltype 1
	expect "$id" sqes 0x66
	expect "$id" cqes 0x44
	expect "$id" nn 1
	case $(field "$id" subnqn) in
	nqn.2013-12.org.freebsd:bhyve-*) ;;
	*) fail "subnqn is $(field "$id" subnqn)" ;;
	esac
	# Bit 0 is the volatile write cache, which every store here has or not as
	# the kernel found it.
	case $(cat "/sys/block/$disk/queue/write_cache"),$(($(field "$id" vwc) & 1)) in
	"write back,1" | "write through,0") ;;
	*) fail "the kernel and vwc disagree on the write cache" ;;
	esac

	ns="id-ns /dev/$disk"
	bytes=$(blockdev --getsize64 "/dev/$disk")
	size=$(printf '0x%x' $((bytes / $2)))
	expect "$ns" nsze "$size"
	expect "$ns" ncap "$size"
	expect "$ns" nuse "$size"
	expect "$ns" flbas 0
	[ "$(cat "/sys/block/$disk/queue/logical_block_size")" = "$2" ] || fail "the sector's size is not $2"
	case $(field "$ns" eui64) in
	589cfc*0001) ;;
	*) fail "eui64 is $(field "$ns" eui64)" ;;
	esac

	expect "smart-log /dev/$ctrl" critical_warning 0
	expect "smart-log /dev/$ctrl" available_spare 100%
	expect "smart-log /dev/$ctrl" percentage_used 0%
	expect "smart-log /dev/$ctrl" media_errors 0
	nvme fw-log "/dev/$ctrl" | grep -q '^frs1 .*(1\.0' || fail "fw-log has no revision 1.0"

	# An error that the guest makes is in the log, the newest first. Opcode
	# 0x7f is no admin command.
	errors=$(field "smart-log /dev/$ctrl" num_err_log_entries)
	if nvme admin-passthru "/dev/$ctrl" --opcode=0x7f >/tmp/passthru.log 2>&1; then
		fail "admin opcode 0x7f succeeded"
	fi
	grep -q -i 'invalid.*opcode' /tmp/passthru.log || fail "opcode 0x7f: $(cat /tmp/passthru.log)"
	expect "smart-log /dev/$ctrl" num_err_log_entries $((errors + 1))
	nvme error-log "/dev/$ctrl" -e 1 | grep -q "^error_count.*: $((errors + 1))\$" ||
		fail "the newest entry of the error log is not number $((errors + 1))"

	value=$(feature "$ctrl" 7)
	want=$(printf '0x%04x%04x' $(($3 - 1)) $(($3 - 1)))
	[ "$value" = "$want" ] || fail "feature 7 (queues) is '$value', not '$want'"
	value=$(feature "$ctrl" 4)
	[ "$value" = "0x00000157" ] || fail "feature 4 (temperature) is '$value'"
	nvme set-feature "/dev/$ctrl" -f 4 -V 0x150 >/dev/null || fail "feature 4 cannot be set"
	value=$(feature "$ctrl" 4)
	[ "$value" = "0x00000150" ] || fail "feature 4 is '$value' after it was set to 0x150"
	nvme set-feature "/dev/$ctrl" -f 4 -V 0x157 >/dev/null || fail "feature 4 cannot be set back"
	for f in 1 2 8 9 10 11; do
		case $(feature "$ctrl" "$f") in
		*[0-9a-f]) ;;
		*) fail "feature $f cannot be read" ;;
		esac
	done
	case $(feature "$ctrl" 5 1) in
	*[0-9a-f]) ;;
	*) fail "feature 5 (the namespace's) cannot be read" ;;
	esac
	echo "ok: identify, logs and features of $1"
}
