# SPDX-License-Identifier: BSD-2-Clause
#
# Part of the model of the ports tree's make files that tests/port.sh uses:
# the system, which tests/port.sh chooses.

OPSYS?=		FreeBSD
PREFIX?=	/usr/local
WRKDIR?=	${.CURDIR}/work
