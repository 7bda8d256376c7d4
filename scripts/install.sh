#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Installs what building a bhyve with the device takes, its manual and examples,
# under $DESTDIR$PREFIX.  "make install" built the library before.
#
#	NVME_LIB	libbhyve_nvme.a (default: where make builds it)

cd "$(dirname "$0")/.."
. scripts/common.sh

top=${DESTDIR-}${PREFIX:-/usr/local}

# put FOLDER FILE...
put()
{
	folder=$top/$1
	shift
	install -d "$folder"
	for file in "$@"; do
		install -m 644 "$file" "$folder"
		echo "$folder/${file##*/}"
	done
}

put lib "${NVME_LIB:-$target/release/libbhyve_nvme.a}"
put include include/bhyve_nvme.h
put share/bhyve-nvme bhyve-glue/*.[ch] bhyve-glue/Makefile.inc
install -m 755 bhyve-glue/build-bhyve.sh "$top/share/bhyve-nvme"
echo "$top/share/bhyve-nvme/build-bhyve.sh"
for kind in $(cd bhyve-glue/examples && echo *); do
	put "share/examples/bhyve-nvme/$kind" bhyve-glue/examples/"$kind"/*
done
for page in man/*.[1-9]; do
	put "share/man/man${page##*.}" "$page"
done
