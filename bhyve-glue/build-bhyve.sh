#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Builds a bhyve with this NVMe device from a FreeBSD source tree, which it
# only reads, and checks the result.
#
#	build-bhyve.sh SRC OUT	builds OUT/bhyve from SRC, such as /usr/src
#	build-bhyve.sh -c FILE	checks a bhyve that was built otherwise
#
# With the tools of the base system, as any user.  From the environment come
#
#	BHYVE_NVME_LIB		libbhyve_nvme.a, if not where Makefile.inc
#				looks: where make or make install put it
#	MAKE, CC, NM, STRIP	FreeBSD's make, the compiler, nm, strip

set -eu

: "${MAKE:=make}"
: "${CC:=cc}"
: "${NM:=nm}"
: "${STRIP:=strip}"

die()
{
	echo "build-bhyve.sh: $*" >&2
	exit 1
}

usage()
{
	echo "usage: build-bhyve.sh SRC OUT" >&2
	echo "       build-bhyve.sh -c FILE" >&2
	exit 2
}

need()
{
	command -v "$1" >/dev/null 2>&1 || die "$1 is missing: $2"
}

# The entries in the table of devices of the program $1, a symbol a line: they
# are named for the table and lie between the symbols that the linker puts
# around it.
devices()
{
	"$NM" "$1" 2>/dev/null | awk '
		$3 == "__start_set_pci_devemu_set" { first = $1; next }
		$3 == "__stop_set_pci_devemu_set" { end = $1; next }
		$3 ~ /set_pci_devemu_set_/ { address[$3] = $1 }
		END {
			if (first == "" || end == "")
				exit 1
			for (name in address)
				if (address[name] >= first "" &&
				    address[name] < end "")
					print name
		}'
}

# Dies unless the program $1 has one device named nvme, and that is this one.
check()
{
	program=$1
	[ -f "$program" ] || die "$program: no such file"
	# There is one object file with the glue's name for its entry.
	table=$(devices "$program") ||
	    die "$program has no table of devices: it is no bhyve, or stripped"
	ours=$(echo "$table" | grep -c 'glue_nvme$' || :)
	nvmes=$(echo "$table" | grep -c 'nvme' || :)
	[ "$ours" -le 1 ] || die "$program has this device $ours times"
	[ "$ours" -eq 1 ] || die "$program does not have this device:" \
	    "$(if [ "$nvmes" -eq 0 ]; then
		echo "pci_nvme_glue.c was not linked as an object of its own"
	    else
		echo "nvme is bhyve's own"
	    fi)"
	[ "$nvmes" -eq 1 ] || die "$program has bhyve's own nvme beside this" \
	    "one, and would use the first: leave pci_nvme.c out of SRCS"
	for symbol in pci_nvme_init pci_nvme_read pci_nvme_write; do
		"$NM" "$program" | grep -q " T $symbol\$" ||
		    die "$program lacks $symbol: libbhyve_nvme.a is not in it"
	done

	# What it says of itself, if it runs on this machine.
	status=0
	list=$("$program" -s help 2>&1) || status=$?
	case $status in
	0)
		listed=$(echo "$list" | grep -cx '[[:space:]]*nvme[[:space:]]*' || :)
		[ "$listed" -eq 1 ] ||
		    die "$program -s help lists nvme $listed times"
		said=", as -s help says"
		;;
	126 | 127)
		said="; it cannot run here, so -s help was not asked" ;;
	*)
		die "$program -s help ended with status $status: $list" ;;
	esac
	echo "$program: of $(echo "$table" | grep -c .) in its table of devices," \
	    "one is nvme, this one$said"
}

# The version in a tree's or the installed sys/param.h, on standard input.
version()
{
	awk '$1 == "#define" && $2 == "__FreeBSD_version" { print $3; exit }'
}

# 14.3 for 1403000
release()
{
	echo "$(($1 / 100000)).$(($1 / 1000 % 100))"
}

# Dies unless SRC is a tree that can be built here.
check_tree()
{
	for file in usr.sbin/bhyve/Makefile usr.sbin/bhyve/pci_emul.h \
	    usr.sbin/bhyve/pci_nvme.c share/mk/bsd.prog.mk sys/sys/param.h; do
		[ -f "$src/$file" ] ||
		    die "$src is no FreeBSD source tree: $file is missing"
	done
	tree=$(version <"$src/sys/sys/param.h")
	[ "${tree:-0}" -ge 1400000 ] ||
	    die "$src is of FreeBSD $(release "${tree:-0}"), and 14.0 is needed"

	# bhyve, libvmmapi and the kernel's vmm go together.
	here=$(uname -U) || die "this is not FreeBSD"
	[ "$(release "$tree")" = "$(release "$here")" ] ||
	    die "$src is of FreeBSD $(release "$tree"), and this system of" \
	    "$(release "$here"): a bhyve fits the release it was made for"
	# The tree's headers of the kernel are used beside the installed ones.
	[ "$tree" = "$here" ] || echo "build-bhyve.sh: warning: $src is" \
	    "version $tree and this system $here: if headers contradict each" \
	    "other, install what $src builds first" >&2
}

check_tools()
{
	need "$MAKE" "install the compiler and tools of the base system"
	need "$CC" "install the compiler and tools of the base system"
	need "$NM" "install the compiler and tools of the base system"
	need "$STRIP" "install the compiler and tools of the base system"
	for header in vmmapi.h machine/vmm.h sys/nv.h; do
		printf '#include <sys/types.h>\n#include <%s>\n' "$header" |
		    "$CC" -E -x c -o /dev/null - 2>/dev/null ||
		    die "<$header> is missing: install the base system's" \
		    "development files"
	done
	echo 'int main(void) { return (0); }' |
	    "$CC" -x c -o "$out/probe" - -lvmmapi 2>/dev/null ||
	    die "libvmmapi is missing: install the base system's" \
	    "development files"
	rm -f "$out/probe"
}

# Lays OUT/overlay out: a copy of usr.sbin/bhyve, for its objects and for the
# Makefile.inc above it, and links to the rest of the tree.
lay_out()
{
	rm -rf "$out/overlay"
	mkdir -p "$out/overlay/usr.sbin"
	for entry in "$src"/*; do
		[ "${entry##*/}" = usr.sbin ] ||
		    ln -s "$entry" "$out/overlay/${entry##*/}"
	done
	cp -R "$src/usr.sbin/bhyve" "$out/overlay/usr.sbin/bhyve"
	chmod -R u+w "$out/overlay/usr.sbin/bhyve"
	cat >"$out/overlay/usr.sbin/Makefile.inc" <<-END
		BINDIR?=	/usr/sbin
		.include "$glue/Makefile.inc"
	END
}

# run_make ARGUMENT...: in the overlay; bhyve alone, no manuals, no key maps.
run_make()
{
	(
		cd "$out/overlay/usr.sbin/bhyve"
		unset MAKEOBJDIR MAKEOBJDIRPREFIX MAKEFLAGS MAKELEVEL
		"$MAKE" -m "$src/share/mk" SRCTOP="$src" SYSDIR="$src/sys" \
		    DIRPRFX=usr.sbin/bhyve/ SUBDIR= \
		    MK_AUTO_OBJ=no MK_DEBUG_FILES=no MK_MAN=no \
		    ${BHYVE_NVME_LIB:+BHYVE_NVME_LIB="$BHYVE_NVME_LIB"} "$@"
	)
}

[ $# -eq 2 ] || usage
if [ "$1" = -c ]; then
	need "$NM" "install the compiler and tools of the base system"
	check "$2"
	exit
fi

glue=$(cd "$(dirname "$0")" && pwd -P)
[ -d "$1" ] || die "$1: no such folder"
src=$(cd "$1" && pwd -P)
[ -f "$glue/Makefile.inc" ] && [ -f "$glue/pci_nvme_glue.c" ] ||
    die "Makefile.inc and pci_nvme_glue.c have to be beside this script"
if [ -n "${BHYVE_NVME_LIB-}" ]; then
	[ -f "$BHYVE_NVME_LIB" ] ||
	    die "BHYVE_NVME_LIB=$BHYVE_NVME_LIB: no such file"
	BHYVE_NVME_LIB=$(cd "$(dirname "$BHYVE_NVME_LIB")" && pwd -P)/$(basename "$BHYVE_NVME_LIB")
fi
check_tree
parent=$(cd "$(dirname "$2")" 2>/dev/null && pwd -P) ||
    die "$2: there is no folder to make it in"
out=${parent%/}/$(basename "$2")
case $out/ in
"$src"/*) die "$2 is inside $1, which is not to be written to" ;;
*[[:space:]:]*) die "$2: make cannot work in a path with blanks or colons" ;;
esac
[ -d "$out" ] || mkdir "$out" || die "$2 cannot be made"
check_tools
lay_out

sources=$(run_make -V SRCS) || die "$src: its make files cannot be read"
case " $sources " in
*" pci_nvme_glue.c "*) ;;
*) die "$src: its make files do not read usr.sbin/Makefile.inc" ;;
esac

log=$out/build.log
echo "build-bhyve.sh: building bhyve of FreeBSD $(release "$tree"), log in $log"
jobs=$(getconf _NPROCESSORS_ONLN) || jobs=1
run_make -j "$jobs" all >"$log" 2>&1 || {
	tail -n 20 "$log" >&2
	die "the build failed: $log"
}
objdir=$(run_make -V .OBJDIR)
[ -f "$objdir/bhyve" ] || die "the build left no bhyve: $log"
# Rust's line tables go, which are most of it; the names of functions, by which
# dtrace(1) finds them, stay.
"$STRIP" -g -o "$out/bhyve" "$objdir/bhyve"
check "$out/bhyve"
