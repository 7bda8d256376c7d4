/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Another device of the model, which stays.
 */

#include <sys/types.h>

#include "pci_emul.h"

static int
pci_hostbridge_init(struct pci_devinst *pi __unused, nvlist_t *nvl __unused)
{
	return (0);
}

static const struct pci_devemu pci_de_hostbridge = {
	.pe_emu = "hostbridge",
	.pe_init = pci_hostbridge_init,
};
PCI_EMUL_SET(pci_de_hostbridge);
