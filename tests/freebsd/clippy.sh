#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# clippy for FreeBSD: the lines that only it compiles, warnings being errors.

cd "$(dirname "$0")/../.."
. scripts/common.sh
. scripts/freebsd-env.sh

freebsd_cargo clippy --workspace --exclude fetch --all-targets -- -D warnings
