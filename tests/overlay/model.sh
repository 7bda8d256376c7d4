# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh disable=SC2154
#
# POSIX sh, sourced after common.sh with $work an empty folder: a model of what
# a bhyve is built from on FreeBSD.  Compiler and uname(1) find the model's
# system from here on.

# What stands for /usr/include, /usr/lib and the release that is installed.
: "${CC:=cc}"
mkdir -p "$work/usr/include" "$work/usr/lib" "$work/bin"
cp -R tests/devhost/bhyve/include/common/. "$work/usr/include"
rm "$work/usr/include/config.h" "$work/usr/include/debug.h"
echo 'int model_vmmapi;' >"$work/vmmapi.c"
$CC -c -o "$work/vmmapi.o" "$work/vmmapi.c"
ar -rc "$work/usr/lib/libvmmapi.a" "$work/vmmapi.o"
CPATH=$work/usr/include
LIBRARY_PATH=$work/usr/lib
cat >"$work/bin/uname" <<END
#!/bin/sh
[ "\$1" != -U ] || exec cat "$work/release"
exec $(command -v uname) "\$@"
END
chmod +x "$work/bin/uname"
PATH=$work/bin:$PATH
export CPATH LIBRARY_PATH PATH

# model SHAPE VERSION: makes the tree $work/SHAPE and says that its release is
# installed.
model()
{
	tree=$work/$1
	bhyve=$tree/usr.sbin/bhyve
	standin=tests/devhost/bhyve
	mkdir -p "$bhyve/kbdlayout" "$tree/share" "$tree/sys/sys" \
	    "$tree/sys/cam/ctl" "$tree/contrib/lib9p"
	cp -R tests/overlay/mk "$tree/share/mk"
	echo "#define __FreeBSD_version $2	/* of the model */" \
	    >"$tree/sys/sys/param.h"
	echo "$2" >"$work/release"
	echo 'int ctl_util = LIB9P;' >"$tree/sys/cam/ctl/ctl_util.c"
	sed -i.orig '1i\
#include "lib9p.h"' "$tree/sys/cam/ctl/ctl_util.c"
	echo '#define LIB9P 1' >"$tree/contrib/lib9p/lib9p.h"
	printf 'all:\n\t@echo the key maps are not wanted here; exit 1\n' \
	    >"$bhyve/kbdlayout/Makefile"
	cp "tests/overlay/$1.mk" "$bhyve/Makefile"
	cp tests/overlay/*.c "$standin"/*.[ch] "$standin/include/common/config.h" \
	    "$standin/include/common/debug.h" \
	    "$standin/include/current/pci_emul.h" "$bhyve"
	echo 'BINDIR?=	/usr/sbin' >"$tree/usr.sbin/Makefile.inc"
	# The member is there or not; no header of bhyve has it both ways.
	case $1 in
	16)
		sed -i.orig '/ifdef GLUE_TEARDOWN/,/endif/{/^#/d;}' \
		    "$bhyve/pci_emul.h"
		mkdir "$bhyve/amd64"
		cp tests/overlay/amd64.mk "$bhyve/amd64/Makefile.inc"
		mv "$bhyve/machine.c" "$bhyve/amd64"
		;;
	*)
		sed -i.orig '/ifdef GLUE_TEARDOWN/,/endif/d' "$bhyve/pci_emul.h"
		;;
	esac
	find "$tree" -name '*.orig' -exec rm {} +
}

