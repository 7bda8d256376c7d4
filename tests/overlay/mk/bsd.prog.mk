# SPDX-License-Identifier: BSD-2-Clause
#
# Part of the model of FreeBSD's make files that tests/overlay.sh builds with:
# a program from its sources.  What the overlay touches is as in FreeBSD: objects
# come from SRCS, flags of one file from CFLAGS.file, the libraries of LIBADD
# stand behind LDADD and may not be in that, manuals and folders below can be
# left out.

.include <bsd.init.mk>

.if !defined(BINDIR)
.error BINDIR is not set
.endif

WARNS?=	6
CWARNFLAGS=	-Wall -Werror
.if ${WARNS} > 2
CWARNFLAGS+=	-Wextra -Wmissing-prototypes -Wstrict-prototypes \
		-Wpointer-arith -Wwrite-strings -Wshadow
.endif
CFLAGS+=	-std=gnu99 -O1 -fPIE ${CWARNFLAGS} ${CFLAGS.${.IMPSRC:T}}
.if !empty(LDADD:M-lpthread) || !empty(LDADD:M-lvmmapi)
.error ${.CURDIR}: libraries of the base system belong into LIBADD: ${LDADD:M-l*}
.endif
LDADD+=		${LIBADD:S/^/-l/}
OBJS=		${SRCS:N*.h:R:S/$/.o/}

.SUFFIXES:
.SUFFIXES: .o .c
.c.o:
	${CC} ${CFLAGS} -c ${.IMPSRC} -o ${.TARGET}

all: ${PROG}
.if ${MK_MAN} != "no"
all: ${MAN}
.endif
.for dir in ${SUBDIR}
all: ${dir}
${dir}: .PHONY
	cd ${.CURDIR}/${dir} && ${MAKE} all
.endfor

${PROG}: ${OBJS} ${DPADD}
	${CC} -pie -o ${.TARGET} ${OBJS} ${LDADD}
.if ${MK_DEBUG_FILES} != "no"
	strip ${.TARGET}
.endif
