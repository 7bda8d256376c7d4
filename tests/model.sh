#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The protocols between threads under a model checker, which tries every
# interleaving up to a bound: src/queue/model.rs and src/engine/model.rs,
# compiled by the package tests/model.

cd "$(dirname "$0")/.."
. scripts/common.sh

# A target directory of its own: the flag makes cargo build all anew.
CARGO_TARGET_DIR=$target/model
CARGO_PROFILE_DEV_DEBUG=line-tables-only
RUSTFLAGS="${RUSTFLAGS-} --cfg loom"
export CARGO_TARGET_DIR CARGO_PROFILE_DEV_DEBUG RUSTFLAGS

log=$target/model.log
cargo test -p model --lib >"$log" || {
	cat "$log"
	die "a model fails"
}
cat "$log"
grep -q '^test result: ok\. [1-9]' "$log" || die "no model was run"
