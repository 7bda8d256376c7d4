/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Stand-in for bhyve's messages: whole lines, which a test can collect.
 */

#ifndef _DEBUG_H_
#define	_DEBUG_H_

void	devhost_eprintln(const char *fmt, ...)
	    __attribute__((format(printf, 1, 2)));

#define	EPRINTLN(...)	devhost_eprintln(__VA_ARGS__)

#endif /* !_DEBUG_H_ */
