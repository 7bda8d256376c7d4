#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# ThreadSanitizer on the library's own tests, and on tests/stress.rs and
# tests/parts.rs, whose guests give it nothing to complain about.  The standard
# library is built with it: else the sanitizer would not see what its locks and
# channels order.
#
# A fence is nothing to it, which could have it report what is no race.  It does
# not: in src/, fences order a store before a load of something else, and what
# one thread leaves for another goes by the atomic accesses themselves.  The
# readers of src/backend/chunks.rs are another matter: they read what is being
# written, and then read again.  No test here has them do that.
#
# TESTS, if set, are the arguments of "cargo test" in place of those.

cd "$(dirname "$0")/.."
. scripts/common.sh

triple=$(rustc -vV | sed -n 's/^host: //p')
case $triple in
x86_64-unknown-linux-gnu | aarch64-unknown-linux-gnu | x86_64-unknown-freebsd) ;;
*)
	echo "there is no ThreadSanitizer for $triple"
	exit 0
	;;
esac

sysroot=$(rustc --print sysroot)
if [ ! -f "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ]; then
	RUST_LIBRARY=${RUST_LIBRARY-$(cargo run -q -p fetch -- -q --path rust-src)} ||
	    die "no source of the standard library; install it with" \
	    "rustup component add rust-src, or set RUST_LIBRARY"
	__CARGO_TESTS_ONLY_SRC_ROOT=$RUST_LIBRARY
	export __CARGO_TESTS_ONLY_SRC_ROOT
fi

# A target directory of its own: flags and standard library differ.
CARGO_TARGET_DIR=$target/sanitize
# cargo and rustc of a stable release do this only when told.
RUSTC_BOOTSTRAP=1
RUSTFLAGS="${RUSTFLAGS-} -Zsanitizer=thread"
CARGO_PROFILE_DEV_OPT_LEVEL=1
CARGO_PROFILE_DEV_DEBUG=line-tables-only
# A race ends the program with an error; the first report tells which.
TSAN_OPTIONS="halt_on_error=1 allocator_may_return_null=1 ${TSAN_OPTIONS-}"
export CARGO_TARGET_DIR RUSTC_BOOTSTRAP RUSTFLAGS CARGO_PROFILE_DEV_OPT_LEVEL \
    CARGO_PROFILE_DEV_DEBUG TSAN_OPTIONS

# Build scripts and procedural macros run on the host and stay as they are:
# RUSTFLAGS is for the target alone where a target is named.
# shellcheck disable=SC2086
cargo test -Zbuild-std=std,panic_unwind,test --target "$triple" \
    ${TESTS:---lib --test stress --test parts}
