/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Stand-in for libvmmapi: the guest's memory.
 */

#ifndef _VMMAPI_H_
#define	_VMMAPI_H_

#include <sys/types.h>

#include <stddef.h>
#include <stdint.h>

#ifndef __FreeBSD__
typedef uint64_t vm_paddr_t;
#endif

struct vmctx;

/* The host's address of len bytes of guest memory at gaddr; NULL unless all of
 * them lie in one contiguous range of RAM. */
void	*vm_map_gpa(struct vmctx *ctx, vm_paddr_t gaddr, size_t len);

#endif /* !_VMMAPI_H_ */
