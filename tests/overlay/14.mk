# SPDX-License-Identifier: BSD-2-Clause
#
# The model's usr.sbin/bhyve/Makefile in the shape of 14.x: all sources in one
# folder, flags that reach from this folder into others, few warnings.

.include <src.opts.mk>

CFLAGS+=-DSTANDIN_VERSION=1400097
CFLAGS+=-I${.CURDIR}/../../contrib/lib9p
CFLAGS+=-I${SRCTOP}/sys

PROG=	bhyve

MAN=	bhyve.8

SRCS=	\
	bhyverun.c		\
	config.c		\
	machine.c		\
	pci_emul.c		\
	pci_hostbridge.c	\
	pci_msix.c		\
	pci_nvme.c		\
	pci_slot.c

.PATH:	${SRCTOP}/sys/cam/ctl
SRCS+=	ctl_util.c

LIBADD=	vmmapi

SUBDIR=	kbdlayout

WARNS?=	2

.include <bsd.prog.mk>
