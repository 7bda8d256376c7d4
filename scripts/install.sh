#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Installs what building a bhyve with the device takes, and its manual, under
# $DESTDIR$PREFIX.  "make install" built the library before.

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

put lib "$target/release/libbhyve_nvme.a"
put include include/bhyve_nvme.h
put share/bhyve-nvme bhyve-glue/*.[ch]
[ ! -f bhyve-glue/Makefile.inc ] || put share/bhyve-nvme bhyve-glue/Makefile.inc
for page in man/*.[1-9]; do
	put "share/man/man${page##*.}" "$page"
done
