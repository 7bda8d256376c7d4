/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Stand-in: the glue includes this header and uses nothing of it.
 */

#ifndef _VMM_H_
#define	_VMM_H_

struct vmctx;

#endif /* !_VMM_H_ */
