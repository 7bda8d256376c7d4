#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Builds the tests and the benchmark as FreeBSD executables into
# target/freebsd-tests, beside the run.sh that runs them there.

cd "$(dirname "$0")/../.."
. scripts/common.sh
. scripts/freebsd-env.sh
. tests/freebsd/programs.sh
. tests/freebsd/check.sh

out=$target/freebsd-tests
rm -rf "$out"
mkdir -p "$out" "$CARGO_TARGET_DIR"

# A test that reads the repository's files has none there.
messages=$CARGO_TARGET_DIR/test-messages.json
freebsd_cargo test --no-run --workspace --exclude fetch \
    --message-format=json-render-diagnostics >"$messages"
sed -n 's/.*"target":{"kind":\["\([^"]*\)".*"name":"\([^"]*\)","src_path":"\([^"]*\)".*"profile":{[^}]*"test":true}.*"executable":"\([^"]*\)".*/\1|\2|\3|\4/p' \
    "$messages" >"$messages.programs"
while IFS='|' read -r kind name source program; do
	if grep -q CARGO_MANIFEST_DIR "$source"; then
		continue
	fi
	case $kind in
	test) ;;
	bin) name=$name-bin ;;
	*) name=$name-lib ;;
	esac
	[ ! -e "$out/$name.test" ] || die "two test programs named $name"
	cp "$program" "$out/$name.test"
done <"$messages.programs"

for generation in current legacy; do
	c_abi_program "$out/c_abi-$generation.check" "$generation"
done

freebsd_cargo build --release -p devhost --bin bench
cp "${freebsd_out%/debug}/release/bench" "$out/bench.program"

cp tests/freebsd/run.sh tests/freebsd/stores.sh "$out/"
for program in "$out"/*.test "$out"/*.check "$out"/*.program; do
	check_executable "$program"
done

count=$(find "$out" -name '*.test' -o -name '*.check' | wc -l)
[ "$count" -gt 1 ] || die "no test was built"
echo "$((count)) FreeBSD test programs, nothing undefined in them, and run.sh in $out"
