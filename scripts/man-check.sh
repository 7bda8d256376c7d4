#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# mandoc has nothing to say about the manual pages.

cd "$(dirname "$0")/.."
. scripts/common.sh

# Elsewhere than on FreeBSD its manuals are missing, and with them what the
# pages refer to.
if [ "$(uname -s)" = FreeBSD ]; then
	mandoc=mandoc
	foreign='^$'
else
	mandoc=$(cargo run -q -p fetch -- --path mandoc) ||
	    die "mandoc cannot be had"
	foreign='STYLE: referenced manual not found: Xr \|outdated mandoc\.db '
fi

pages=0
for page in man/*.[1-9]; do
	said=$("$mandoc" -T lint -W style "$page" 2>&1 | grep -v "$foreign") || :
	[ -z "$said" ] || die "$page is not clean:
$said"
	pages=$((pages + 1))
done
echo "mandoc: $pages manual pages without remarks"
