# SPDX-License-Identifier: BSD-2-Clause
#
# shellcheck shell=sh disable=SC2154,SC2034
# POSIX sh, sourced after common.sh: all that building for FreeBSD takes, on
# FreeBSD itself or elsewhere.  Sets
#
#	freebsd_cargo	a function: cargo SUBCOMMAND ARGUMENTS for the target
#	freebsd_cc	the C compiler and linker, one word
#	freebsd_out	where cargo puts what it builds for the target
#
# From the environment come
#
#	FREEBSD_CC	a C compiler and linker for FreeBSD with its arguments,
#			for example "clang --target=x86_64-unknown-freebsd14
#			--sysroot=/freebsd"; by default cc on FreeBSD, zig cc
#			elsewhere
#	FREEBSD_ARCH	x86_64 (the default) or aarch64
#	RUST_LIBRARY	the folder "library" of the Rust release that rustc is
#			of; by default what rustup has (the component rust-src
#			or the target itself), or else Debian's package

FREEBSD_ARCH=${FREEBSD_ARCH:-x86_64}
export FREEBSD_ARCH
case $FREEBSD_ARCH in
x86_64 | aarch64) ;;
*) die "FREEBSD_ARCH=$FREEBSD_ARCH: must be x86_64 or aarch64" ;;
esac
freebsd_triple=$FREEBSD_ARCH-unknown-freebsd
freebsd_build_std=
freebsd_out=$target/freebsd/$freebsd_triple/debug

# The package holds one executable and its files: no environment is needed.
freebsd_zig()
{
	zig_dir=$target/tools/$(sed -n 's/^\(ziglang\)==\([^ ]*\).*/\1-\2/p' \
	    scripts/ziglang.txt)
	if [ ! -x "$zig_dir/ziglang/zig" ]; then
		echo "fetching zig, the C compiler for FreeBSD" >&2
		rm -rf "$zig_dir" "$zig_dir.part"
		PIP_ROOT_USER_ACTION=ignore python3 -m pip --quiet \
		    --disable-pip-version-check install \
		    --no-compile --require-hashes \
		    --only-binary :all: --target "$zig_dir.part" \
		    -r scripts/ziglang.txt >&2 ||
		    die "zig cannot be had with python3 -m pip;" \
		    "set FREEBSD_CC to a C compiler for FreeBSD"
		mv "$zig_dir.part" "$zig_dir"
	fi
	FREEBSD_ZIG=$zig_dir/ziglang/zig
	ZIG_GLOBAL_CACHE_DIR=$target/tools/zig-cache
	ZIG_LOCAL_CACHE_DIR=$ZIG_GLOBAL_CACHE_DIR
	export FREEBSD_ZIG ZIG_GLOBAL_CACHE_DIR ZIG_LOCAL_CACHE_DIR
}

# The standard library for the target: as it is installed, or built from its
# source.
freebsd_std()
{
	libdir=$(rustc --print target-libdir --target "$freebsd_triple")
	if [ -z "${RUST_LIBRARY-}" ] &&
	    [ -n "$(find "$libdir" -name 'libstd-*' 2>/dev/null)" ]; then
		return
	fi
	sysroot=$(rustc --print sysroot)
	if [ -z "${RUST_LIBRARY-}" ] &&
	    [ ! -f "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ]; then
		RUST_LIBRARY=$(cargo run -q -p fetch -- --path rust-src) ||
		    die "no source of the standard library; install it with" \
		    "rustup component add rust-src, or set RUST_LIBRARY"
	fi
	if [ -n "${RUST_LIBRARY-}" ]; then
		__CARGO_TESTS_ONLY_SRC_ROOT=$RUST_LIBRARY
		export __CARGO_TESTS_ONLY_SRC_ROOT
	fi
	freebsd_build_std=-Zbuild-std=std,panic_unwind
	# cargo and rustc of a stable release build std only with this.
	RUSTC_BOOTSTRAP=1
	export RUSTC_BOOTSTRAP
}

freebsd_cargo()
{
	subcommand=$1
	shift
	# shellcheck disable=SC2086
	cargo "$subcommand" $freebsd_build_std --target "$freebsd_triple" "$@"
}

freebsd_std
if [ -z "${FREEBSD_CC-}" ]; then
	if [ "$(uname -s)" = FreeBSD ]; then
		FREEBSD_CC=cc
		export FREEBSD_CC
	else
		freebsd_zig
	fi
fi

# RUSTC_BOOTSTRAP would make cargo rebuild what these builds share with the
# host's, so they share nothing.
CARGO_TARGET_DIR=$target/freebsd
# Lines are all that a backtrace of a test needs.
CARGO_PROFILE_DEV_DEBUG=line-tables-only
freebsd_cc=$root/scripts/freebsd-cc
CARGO_TARGET_X86_64_UNKNOWN_FREEBSD_LINKER=$freebsd_cc
CARGO_TARGET_AARCH64_UNKNOWN_FREEBSD_LINKER=$freebsd_cc
CC_x86_64_unknown_freebsd=$freebsd_cc
CC_aarch64_unknown_freebsd=$freebsd_cc
AR_x86_64_unknown_freebsd=${AR:-ar}
AR_aarch64_unknown_freebsd=${AR:-ar}
export CARGO_TARGET_DIR CARGO_PROFILE_DEV_DEBUG \
    CARGO_TARGET_X86_64_UNKNOWN_FREEBSD_LINKER \
    CARGO_TARGET_AARCH64_UNKNOWN_FREEBSD_LINKER \
    CC_x86_64_unknown_freebsd CC_aarch64_unknown_freebsd \
    AR_x86_64_unknown_freebsd AR_aarch64_unknown_freebsd
