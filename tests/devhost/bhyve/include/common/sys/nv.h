/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Stand-in for nv(9): a list of names whose values are strings or lists.
 */

#ifndef _SYS_NV_H_
#define	_SYS_NV_H_

#include <stdbool.h>

#define	NV_TYPE_NVLIST	5
#define	NV_TYPE_STRING	4

typedef struct nvlist nvlist_t;

/* The next name after the one *cookiep stands for (start with NULL) and the
 * type of its value; NULL at the end. */
const char *nvlist_next(const nvlist_t *nvl, int *typep, void **cookiep);

#endif /* !_SYS_NV_H_ */
