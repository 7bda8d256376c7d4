# SPDX-License-Identifier: BSD-2-Clause
#
# Part of the model of FreeBSD's make files that tests/overlay.sh builds with:
# options, and what they are if nobody says so.

MK_AUTO_OBJ?=		yes
MK_BHYVE_SNAPSHOT?=	no
MK_DEBUG_FILES?=	yes
MK_MAN?=		yes
