# SPDX-License-Identifier: BSD-2-Clause
#
# The model's usr.sbin/bhyve/Makefile in the shape of 15.x and 16: a folder and
# a make file for each architecture, and all warnings.

.include <src.opts.mk>

PROG=	bhyve

MAN=	bhyve.8 bhyve_config.5

.PATH:	${.CURDIR}/${MACHINE_CPUARCH}	\
	${SRCTOP}/sys/cam/ctl

SRCS=	\
	bhyverun.c		\
	config.c		\
	ctl_util.c		\
	pci_emul.c		\
	pci_hostbridge.c	\
	pci_msix.c		\
	pci_nvme.c		\
	pci_slot.c

.include "${MACHINE_CPUARCH}/Makefile.inc"

SUBDIR+= slirp

CFLAGS+=-I${.CURDIR}			\
	-I${.CURDIR}/../../contrib/lib9p \
	-I${SRCTOP}/sys			\
	-DMODEL_UNPLUG -DSTANDIN_VERSION=1600000

LIBADD+= vmmapi pthread

.include <bsd.prog.mk>
