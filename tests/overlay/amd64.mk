# SPDX-License-Identifier: BSD-2-Clause
#
# The model's usr.sbin/bhyve/amd64/Makefile.inc, of 15.x and 16.

SRCS+=	\
	machine.c

SUBDIR+=	kbdlayout
