#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# bhyve-glue/Makefile.inc and build-bhyve.sh build a bhyve with the device, and
# refuse what they must.  Not FreeBSD's tree but a model of it, made here from
# tests/overlay and the stand-in: usr.sbin/bhyve in the shape of 14.x and in
# that of 15.x and 16, and make files that treat in FreeBSD's way what the
# overlay touches.  It is built with BSD make and the system's compiler.

cd "$(dirname "$0")/.."
. scripts/common.sh

unset MAKEFLAGS MAKELEVEL MFLAGS BHYVE_NVME_LIB
: "${CC:=cc}"
if [ "$(uname -s)" = FreeBSD ]; then
	MAKE=make
else
	MAKE=$(cargo run -q -p fetch -- --path bmake) || die "bmake cannot be had"
fi
export MAKE CC
cargo build --package bhyve-nvme
lib=$target/debug/libbhyve_nvme.a

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

. tests/overlay/model.sh

build()
{
	BHYVE_NVME_LIB=${BHYVE_NVME_LIB-$lib} sh bhyve-glue/build-bhyve.sh "$@"
}

passed=0
ok()
{
	passed=$((passed + 1))
	echo "ok    $*"
}

# refused TEXT COMMAND...: it fails and says TEXT.
refused()
{
	text=$1
	shift
	if said=$("$@" 2>&1); then
		die "not refused, with '$text': $*
$said"
	fi
	case $said in
	*"$text"*) ok "refused: $text" ;;
	*) die "'$text' is not what is said of: $*
$said" ;;
	esac
}

# Each shape of the tree becomes a bhyve that starts the device.
dd if=/dev/zero of="$work/disk" bs=65536 count=16 2>/dev/null
for shape in "14 1400097" "14 1403000" "16 1500068" "16 1600000"; do
	# shellcheck disable=SC2086
	set -- $shape
	rm -rf "$work/$1"
	model "$1" "$2"
	chmod -R a-w "$work/$1"
	before=$(find "$work/$1" -type f -exec cksum {} + | sort)
	build "$work/$1" "$work/out-$1" ||
	    die "the tree of version $2 is not built"
	after=$(find "$work/$1" -type f -exec cksum {} + | sort)
	chmod -R u+w "$work/$1"
	[ "$before" = "$after" ] || die "the tree was written to"
	program=$work/out-$1/bhyve
	devices=$("$program" -s help | sort | tr '\n' ' ')
	[ "$devices" = "hostbridge nvme " ] || die "devices: $devices"
	[ ! -e "$work/out-$1/overlay/usr.sbin/bhyve/pci_nvme.o" ] ||
	    die "bhyve's own device was compiled"
	said=$("$program" -s "4,nvme,$work/disk,maxq=16,qsz=8,ioslots=1,sectsz=512,ser=ABC123" 2>&1) ||
	    die "the device does not start: $said"
	[ "$1" != 16 ] || [ "$said" = "can be unplugged" ] ||
	    die "the device has no teardown: $said"
	said=$("$program" -s "4,nvme,$work/disk,maxq=65" 2>&1) &&
	    die "it is not our device that starts"
	case $said in
	*"nvme: maxq=65: must be a whole number from 1 to 64"*) ;;
	*) die "it is not our device that starts: $said" ;;
	esac
	ok "version $2 is built, and its device starts"
done
build "$work/16" "$work/out-16" >/dev/null || die "a second build fails"
ok "a second build into the same folder"

echo 1600001 >"$work/release"
said=$(build "$work/16" "$work/out-16" 2>&1) ||
    die "a tree ahead of the system by little is not built: $said"
case $said in
*"version 1600000 and this system 1600001"*) ok "a tree and a system that differ by little" ;;
*) die "no word of versions that differ: $said" ;;
esac
echo 1600000 >"$work/release"

# What a tree, a library or a system must be.
refused "usage: build-bhyve.sh SRC OUT" build "$work/14"
refused "$work/none: no such folder" build "$work/none" "$work/out"
refused "is no FreeBSD source tree: usr.sbin/bhyve/Makefile is missing" \
    build "$work/usr" "$work/out"
refused "is inside $work/16" build "$work/16" "$work/16/usr.sbin/out"
refused "there is no folder to make it in" build "$work/16" "$work/no/where"
mkdir "$work/a folder"
refused "blanks or colons" build "$work/16" "$work/a folder/out"
BHYVE_NVME_LIB=$work/none.a
refused "BHYVE_NVME_LIB=$work/none.a: no such file" \
    build "$work/16" "$work/out"
unset BHYVE_NVME_LIB
echo 1403000 >"$work/release"
refused "is of FreeBSD 16.0, and this system of 14.3" \
    build "$work/16" "$work/out"
sed -i.orig 's/1600000/1302001/' "$work/16/sys/sys/param.h"
refused "is of FreeBSD 13.2, and 14.0 is needed" build "$work/16" "$work/out"
sed -i.orig 's/1302001/1600000/' "$work/16/sys/sys/param.h"
echo 1600000 >"$work/release"
(
	MAKE=no-make
	refused "no-make is missing" build "$work/16" "$work/out"
	MAKE=$work/bin/make
	printf '#!/bin/sh\necho\n' >"$MAKE"
	chmod +x "$MAKE"
	refused "do not read usr.sbin/Makefile.inc" \
	    build "$work/16" "$work/out"
)
passed=$((passed + 2))
mv "$work/usr/include/vmmapi.h" "$work/vmmapi.h"
refused "<vmmapi.h> is missing" build "$work/16" "$work/out"
mv "$work/vmmapi.h" "$work/usr/include/vmmapi.h"
mv "$work/usr/lib/libvmmapi.a" "$work/libvmmapi.a"
refused "libvmmapi is missing" build "$work/16" "$work/out"
mv "$work/libvmmapi.a" "$work/usr/lib/libvmmapi.a"
sed -i.orig 's/pci_nvme\.c/pci_nvme_emul.c/' "$work/16/usr.sbin/bhyve/Makefile"
refused "pci_nvme.c is not in SRCS" build "$work/16" "$work/out"
cp tests/overlay/16.mk "$work/16/usr.sbin/bhyve/Makefile"
echo 'broken' >>"$work/16/usr.sbin/bhyve/pci_hostbridge.c"
refused "the build failed" build "$work/16" "$work/out"
cp tests/overlay/pci_hostbridge.c "$work/16/usr.sbin/bhyve"

# The program that comes out, whoever built it: as people do who build world,
# who take what was installed, and how they may go wrong.
world=$work/16/usr.sbin/bhyve
# build_world NAME EDIT...: builds in the tree itself, with the make file as
# sed changes it, and leaves the program in $work/NAME.
build_world()
{
	name=$1
	shift
	sed "$@" tests/overlay/16.mk >"$world/Makefile"
	(
		cd "$world"
		"$MAKE" -m "$work/16/share/mk" SRCTOP="$work/16" SUBDIR= \
		    MK_MAN=no MK_DEBUG_FILES=no all
	) >"$work/world.log" 2>&1 || die "$name: $(cat "$work/world.log")"
	mv "$world/bhyve" "$work/$name"
	rm -f "$world"/*.o
}

prefix=$work/prefix
NVME_LIB=$lib DESTDIR='' PREFIX=$prefix sh scripts/install.sh >/dev/null
include="s|^\.include <bsd.prog.mk>|.include \"$prefix/share/bhyve-nvme/Makefile.inc\"|"
build_world installed -e "$include;\$!b" -e '$a\
.include <bsd.prog.mk>'
build -c "$work/installed" || die "a world with what is installed"
ok "a world with what is installed"
BHYVE_NVME_LIB=$prefix/lib/libbhyve_nvme.a sh \
    "$prefix/share/bhyve-nvme/build-bhyve.sh" "$work/16" "$work/out-installed" ||
    die "what is installed does not build"
ok "build-bhyve.sh as it is installed"

glue_dir=$root/bhyve-glue
flags="CFLAGS+= -I$glue_dir -I$root/include"
stock='$i\
'
build_world stock ''
refused "nvme is bhyve's own" build -c "$work/stock"
build_world both -e "${stock}SRCS+= pci_nvme_glue.c" -e "${stock}.PATH: $glue_dir" \
    -e "${stock}$flags" -e "${stock}LDADD+= $lib -lgcc_s" \
    -e "${stock}.if 0" -e "${stock}.endif"
refused "has bhyve's own nvme beside this one" build -c "$work/both"
[ "$("$work/both" -s help | grep -c nvme)" -eq 2 ] ||
    die "the model does not list both"
$CC -std=gnu99 -I"$world" -Iinclude -Ibhyve-glue -DGLUE_TEARDOWN \
    -c bhyve-glue/pci_nvme_glue.c -o "$work/glue.o"
ar -rc "$work/libglue.a" "$work/glue.o"
build_world archive -e 's/pci_nvme\.c//' \
    -e "${stock}LDADD+= $work/libglue.a $lib -lgcc_s"
refused "was not linked as an object of its own" build -c "$work/archive"
strip -o "$work/stripped" "$work/installed"
refused "it is no bhyve, or stripped" build -c "$work/stripped"
refused "no such file" build -c "$work/none"

echo "$passed passed, 0 failed"
