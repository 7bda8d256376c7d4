# SPDX-License-Identifier: BSD-2-Clause
#
# Part of the model of FreeBSD's make files that tests/overlay.sh builds with:
# what make reads first.

CC?=		cc
MACHINE_CPUARCH?=	amd64
