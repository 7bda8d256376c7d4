/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The devices that there are, and the slots that the configuration fills.
 */

#ifndef _PCI_SLOT_H_
#define	_PCI_SLOT_H_

#include <sys/nv.h>

struct pci_devemu;

#define	MAXSLOTS	32
#define	MAXFUNCS	8

/* The device of that name in the linker set, NULL if there is none. */
struct pci_devemu *slot_device(const char *name);

/* The first node pci.BUS.SLOT.FUNC and its place; NULL if there is none. */
nvlist_t *slot_first(int *bus, int *slot, int *func);

#endif /* !_PCI_SLOT_H_ */
