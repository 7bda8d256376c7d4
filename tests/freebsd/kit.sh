#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# run.sh and stores.sh do what they say: programs are counted, failures and
# deaths too, and every disk that is made goes again, in an order that works.
# Over programs and tools that are models, which write down what they are asked.

cd "$(dirname "$0")/../.."
. scripts/common.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
kit=$work/kit
calls=$work/calls
mkdir "$kit" "$work/bin"
cp tests/freebsd/run.sh tests/freebsd/stores.sh "$kit"

# program FILE: of standard input.
program()
{
	{
		echo '#!/bin/sh'
		cat
	} >"$1"
	chmod +x "$1"
}

# Tools of the base system: those of which it matters that they succeed only
# where $work/fails does not name them.
for tool in gnop newfs mount umount kldload kldstat zpool zfs mdconfig; do
	program "$work/bin/$tool" <<-END
		echo "$tool \$*" >>"$calls"
		[ ! -e "$work/fails/$tool" ] || exit 1
		case "$tool \$*" in
		"mdconfig -a "*) echo "md\$(grep -c '^mdconfig -a ' "$calls")" ;;
		# No device comes of a volume here, and none is waited for.
		"zfs create -V "*) exit 1 ;;
		"zfs create -o mountpoint="*)
			folder=\${3#mountpoint=}
			mkdir "\$folder" ;;
		esac
	END
done
program "$work/bin/id" <<-END
	cat "$work/user"
END
program "$work/bin/proccontrol" <<-END
	echo "proccontrol \$*" >>"$calls"
	shift 4
	exec "\$@"
END
program "$kit/stores.test" <<-END
	echo "\$BHYVE_NVME_STORES" | tr ' ' '\n' >"$work/stores"
	echo '4 passed, 0 failed'
END
program "$kit/good.test" <<'END'
echo 'test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out'
END
program "$kit/disk.check" <<'END'
[ "$(($(wc -c <"$1")))" -eq 1048576 ] && echo '2 passed, 0 failed'
END

# run EXPECTED STATUS PROGRAM...: run.sh ends with this line and status.
run()
{
	expected=$1
	wanted=$2
	shift 2
	: >"$calls"
	status=0
	PATH=$work/bin:$PATH TMPDIR=$work sh "$kit/run.sh" "$@" \
	    >"$work/log" 2>&1 || status=$?
	last=$(tail -n 1 "$work/log")
	[ "$last" = "$expected" ] && [ "$status" -eq "$wanted" ] ||
	    die "'$last', status $status, and not '$expected', $wanted:
$(cat "$work/log")"
	[ -z "$(find "$work" -name 'bhyve-nvme-tests.*')" ] ||
	    die "files are left over: $*"
}

# stores KIND PATTERN COUNT: as many are of this kind, with such a path.
stores()
{
	count=$(grep -c "^$1:$2\$" "$work/stores") || :
	[ "$count" -eq "$3" ] || die "$count of $1:$2, and not $3:
$(cat "$work/stores")"
}

# gone MADE REMOVED: for each call like MADE there is a later one like REMOVED,
# with the same name.
gone()
{
	awk -v made="$1" -v removed="$2" '
		$0 ~ made { name[++count] = $NF }
		$0 ~ removed { ended++ }
		END { exit !(count > 0 && count == ended) }
	' "$calls" || die "not all of '$1' is undone by '$2':
$(cat "$calls")"
}

# before FIRST SECOND: no call like FIRST comes after one like SECOND.
before()
{
	awk -v first="$1" -v second="$2" '
		$0 ~ second { late = 1 }
		$0 ~ first && late { bad = 1 }
		END { exit bad }
	' "$calls" || die "'$2' comes before '$1':
$(cat "$calls")"
}

echo 0 >"$work/user"
run '18 passed, 0 failed, 2 skipped' 0
stores file "$work/.*/file" 4
stores md '/dev/md[0-9]*' 2
grep -q '^mdconfig -a .*-s 32m -S 4096$' "$calls" || die "no sectors of 4 KiB"
stores device '/dev/md[0-9]*' 2
stores device '/dev/md[0-9]*\.nop' 1
[ "$(grep -c . "$work/stores")" -eq 9 ] || die "other stores"
grep -q '^proccontrol -m trapcap -s enable ./stores.test' "$calls" ||
    die "what the sandbox forbids goes unnoticed"
gone '^mdconfig -a' '^mdconfig -d'
gone '^mount ' '^umount '
gone '^gnop create' '^gnop destroy'
gone '^zpool create' '^zpool destroy'
for user in '^umount' '^gnop destroy' '^zpool destroy'; do
	before "$user" '^mdconfig -d'
done

# What cannot be made is left out, said and counted; and one who is not root
# has a file alone.
mkdir "$work/fails"
for tool in gnop newfs; do
	: >"$work/fails/$tool"
done
run '18 passed, 0 failed, 4 skipped' 0
stores device '/dev/md[0-9]*\.nop' 0
stores file "$work/.*/file" 3
: >"$work/fails/mdconfig"
run '4 passed, 0 failed, 9 skipped' 0 stores.test
[ "$(grep -c . "$work/stores")" -eq 2 ] || die "stores without md"
rm -r "$work/fails"
echo 1001 >"$work/user"
run '4 passed, 0 failed, 10 skipped' 0 stores.test
stores file "$work/.*/file" 1
[ "$(grep -c . "$work/stores")" -eq 1 ] || die "stores of one who is not root"

# A failure, a death, a status that does not fit, and what is not there.
program "$kit/bad.test" <<'END'
echo 'test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out'
exit 101
END
run '5 passed, 2 failed' 1 bad.test
program "$kit/bad.test" <<'END'
kill -ABRT $$
END
run '0 passed, 1 failed' 1 bad.test
program "$kit/bad.test" <<'END'
echo '7 passed, 0 failed'
exit 3
END
run '19 passed, 1 failed' 1 bad.test good.test
run '0 passed, 1 failed' 1 none.test
program "$kit/bad.test" <<'END'
echo 'nothing of note'
END
run '0 passed, 1 failed' 1 bad.test
program "$kit/bad.test" <<'END'
sleep 5
echo '1 passed, 0 failed'
END
LIMIT=1
export LIMIT
run '0 passed, 1 failed' 1 bad.test
# What holds no test here is no success by itself.
program "$kit/bad.test" <<'END'
echo 'test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out'
END
run '0 passed, 0 failed' 1 bad.test
echo "run.sh counts what it runs, and every disk goes again"
