# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
#
# POSIX sh, sourced after common.sh: what a FreeBSD executable has to be.

# check_executable PROGRAM: dies unless nothing is undefined in it but what
# libraries of the base system have.  Sets needed to those.
check_executable()
{
	readelf -nW "$1" | grep -q '^ *FreeBSD ' ||
	    die "$1 is not marked as a FreeBSD executable"

	# What is left to the loader has the version of the library it comes
	# from, and those libraries are in the base system.
	undefined=$(readelf --dyn-syms -W "$1" | awk '
	    $7 == "UND" && $8 != "" && $5 != "WEAK" && $8 !~ /@FBSD_/ {
		print $8
	    }')
	[ -z "$undefined" ] || die "undefined in $1:
$undefined"
	needed=$(readelf -dW "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
	for library in $needed; do
		case $library in
		libc.so.* | libsys.so.* | libthr.so.* | libm.so.* | \
		libgcc_s.so.* | libexecinfo.so.*) ;;
		*) die "$1 needs $library" ;;
		esac
	done
}
