# SPDX-License-Identifier: BSD-2-Clause
#
# POSIX sh, sourced by the other scripts after they went to the top of the
# repository.  Sets
#
#	root	the top of the repository
#	target	cargo's target directory, absolute

set -eu

root=$(pwd -P)
[ -f "$root/bhyve-glue/host.h" ] || {
	echo "$0: not at the top of the repository: $root" >&2
	exit 1
}

target=${CARGO_TARGET_DIR:-target}
case $target in
/*) ;;
*) target=$root/$target ;;
esac

die()
{
	echo "${0##*/}: $*" >&2
	exit 1
}
