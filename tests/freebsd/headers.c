/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What the library writes out of FreeBSD's headers is what they say.  The
 * second file is made of src/backend/sys by headers.sh: REQUEST() for each
 * request, CONSTANT() for each other number.
 */

#include <sys/types.h>
#include <sys/disk.h>
#include <sys/fcntl.h>

#include <stddef.h>
#include <unistd.h>

#define	SAME(one, other)						\
	_Static_assert((one) == (other), #one " is not " #other)

#define	REQUEST(name, number, length)					\
	SAME(name, number);						\
	SAME(IOCPARM_LEN(name), length);
#define	CONSTANT(name, value)	enum { OUR_##name = (value) };

#include "numbers.h"

SAME(_PC_DEALLOC_PRESENT, OUR_PC_DEALLOC_PRESENT);
/* An attribute of a device: its name, the length of the answer, the answer. */
SAME(offsetof(struct diocgattr_arg, name), 0);
SAME(offsetof(struct diocgattr_arg, len), OUR_NAME);
SAME(sizeof(((struct diocgattr_arg *)0)->len), 4);
SAME(offsetof(struct diocgattr_arg, value), OUR_ANSWER);
SAME(sizeof(((struct diocgattr_arg *)0)->value.i), 4);
/* Numbers that the library reads and writes as 64 bits, and as 32. */
SAME(sizeof(off_t), 8);
SAME(sizeof(u_int), 4);
