#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# sh tests/flush_mutants.sh [--list] [FILE...]
#
# Takes out, one after the other, each place where the library makes something
# durable, and runs the tests: at least one must fail each time.  The places
# are found by what they are (support/flush_sites.awk), in all of src/, the
# rules for FreeBSD included; FILE, as src/nvm/execute.rs, limits the run to
# those in it.  The tests are the library's own and tests/power_cut*.rs.
#
# Works on a copy of the tree below cargo's target directory.

cd "$(dirname "$0")/.."
. scripts/common.sh
LC_ALL=C
export LC_ALL

# Where there must be such places, under which name, and how many at least: so
# that none is lost from sight when it moves or gets another name.
inventory()
{
	cat <<-'EOF'
	src/backend/sys/raw.rs libc::fsync 1
	src/backend/sys/raw.rs libc::fdatasync 1
	src/backend/sys/raw.rs libc::ioctl 1
	src/backend/sys/linux.rs fdatasync 1
	src/backend/sys/freebsd.rs fsync 1
	src/backend/sys/freebsd.rs DIOCGFLUSH 1
	src/backend/file/ flush 2
	src/nvm/ flush 5
	src/nvm/ durable 6
	src/controller/ flush 2
	EOF
}

work=$target/flush-mutants
tree=$work/tree
sites=$work/sites
saved=$work/saved
tab=$(printf '\t')
passed=0
failed=0

pass()
{
	passed=$((passed + 1))
	echo "ok      $*"
}

fail()
{
	failed=$((failed + 1))
	echo "FAILED  $*"
}

# FILE LINE START LENGTH KIND NAME TEXT of every place, tab separated.
find_sites()
{
	find src -name '*.rs' ! -path '*/tests/*' ! -name tests.rs | sort |
	    while read -r file; do
		awk -f tests/support/flush_sites.awk "$file" | sed "s|^|$file$tab|"
	done
}

# Whether something in the inventory is not there any more.
check_inventory()
{
	inventory | while read -r where name least; do
		found=$(awk -F '\t' -v where="$where" -v name="$name" '
		    index($1, where) == 1 && ($6 == name || index($6, name "_") == 1) { n++ }
		    END { print n + 0 }' "$sites")
		[ "$found" -ge "$least" ] ||
			echo "$where: $found places for $name, expected at least $least"
	done
}

# A copy to work on, so that the tree may change meanwhile.
copy_tree()
{
	rm -rf "$tree"
	mkdir -p "$tree"
	tar cf - --exclude=./target --exclude=./.git . | (cd "$tree" && tar xf -)
	# What a place is replaced by: the same type, and nothing done.
	cat >>"$tree/src/lib.rs" <<-'EOF'

	pub(crate) trait Nothing {
	    fn nothing() -> Self;
	}
	impl Nothing for () {
	    fn nothing() {}
	}
	impl Nothing for i32 {
	    fn nothing() -> i32 {
	        0
	    }
	}
	impl<E> Nothing for Result<(), E> {
	    fn nothing() -> Result<(), E> {
	        Ok(())
	    }
	}
	EOF
}

# cargo test with the tests that count; the arguments go to cargo.
cargo_test()
{
	# A test that waits for a flush for ever has noticed, too.
	limit=
	if command -v timeout >/dev/null; then
		limit="timeout 900"
	fi
	CARGO_TARGET_DIR=$work/build CARGO_PROFILE_DEV_DEBUG=0 RUST_BACKTRACE=0 \
	    $limit cargo test $tests "$@"
}

# Undoes one place and sees whether a test fails.
try()
{
	number=$1 file=$2 line=$3 start=$4 len=$5 kind=$6 text=$7
	log=$work/$number.log
	what="$file:$line: $text"
	cp "$file" "$saved"
	awk -v start="$start" -v len="$len" -v kind="$kind" \
	    -f tests/support/flush_sites.awk "$saved" >"$file"
	if cmp -s "$file" "$saved"; then
		fail "$what: nothing was changed"
	elif ! cargo_test --no-run >"$log" 2>&1; then
		fail "$what: does not compile without it, see $log"
	elif cargo_test >"$log" 2>&1; then
		fail "$what: no test noticed that it is gone"
	else
		by=$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log" | head -n 1)
		pass "$what: ${by:-time ran out}"
	fi
	cp "$saved" "$file"
}

if [ "${1-}" = --list ]; then
	mkdir -p "$work"
	find_sites >"$sites"
	cut -f 1,2,6,7 "$sites"
	check_inventory
	exit 0
fi

copy_tree
cd "$tree"
find_sites >"$sites"
missing=$(check_inventory)
if [ -n "$missing" ]; then
	echo "$missing"
	fail "places that make something durable have moved: mend the inventory or the code"
fi
tests=--lib
for test in tests/power_cut*.rs; do
	tests="$tests --test $(basename "$test" .rs)"
done
if ! cargo_test >"$work/0.log" 2>&1; then
	tail -n 30 "$work/0.log"
	die "the tests fail as it is, see $work/0.log"
fi

count=0
while IFS=$tab read -r file line start len kind name text; do
	if [ $# -gt 0 ]; then
		case " $* " in
		*" $file "*) ;;
		*) continue ;;
		esac
	fi
	count=$((count + 1))
	try "$count" "$file" "$line" "$start" "$len" "$kind" "$text" </dev/null
done <"$sites"
[ "$count" -gt 0 ] || fail "no place to try"

# Had one not been put back, all after it would have been tried on top of it.
if ! cargo_test >"$work/0.log" 2>&1; then
	fail "the tests fail with every place put back, see $work/0.log"
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
