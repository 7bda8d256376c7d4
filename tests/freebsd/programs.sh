# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh disable=SC2154
#
# POSIX sh, sourced after freebsd-env.sh: the programs in C.

# c_abi_program FILE GENERATION: links the C program of tests/c_abi for
# FreeBSD, as a bhyve would be: glue, stand-in for bhyve, and the library.
# GENERATION is that of the callbacks: current (14.0 and later) or legacy
# (14-CURRENT of July 2022).
c_abi_program()
{
	freebsd_cargo build -p bhyve-nvme
	generation=
	if [ "$2" = legacy ]; then
		generation="-DDEVHOST_VCPU_ARGUMENTS -U__FreeBSD_version
		    -D__FreeBSD_version=1400063"
	fi
	standin=tests/devhost/bhyve
	# shellcheck disable=SC2086
	"$freebsd_cc" -std=gnu99 -O1 -g -Wall -Wextra -Werror $generation \
	    -I$standin/include/"$2" -I$standin/include/common -I$standin \
	    -Ibhyve-glue -Iinclude -Itests/c_abi \
	    tests/c_abi/*.c "$standin"/*.c bhyve-glue/*.c \
	    "$freebsd_out/libbhyve_nvme.a" -lpthread -o "$1"
}
