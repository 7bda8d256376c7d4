# SPDX-License-Identifier: BSD-2-Clause
#
# Part of the model of FreeBSD's make files that tests/overlay.sh builds with:
# the make file of the folder above is read once, before any rule is made.

.if !target(__<bsd.init.mk>__)
__<bsd.init.mk>__:
.include <src.opts.mk>
.if exists(${.CURDIR}/../Makefile.inc)
.include "${.CURDIR}/../Makefile.inc"
.endif
.MAIN: all
.endif
