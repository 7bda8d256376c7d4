/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What the stand-in's PCI emulation needs of its machine.
 */

#ifndef _MACHINE_H_
#define	_MACHINE_H_

#include <stdint.h>

struct vmctx;

/* Sends a message-signalled interrupt. */
void	machine_raise_msi(struct vmctx *ctx, uint64_t address, uint32_t data);

#endif /* !_MACHINE_H_ */
