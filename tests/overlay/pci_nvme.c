/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The model's own NVMe device, which the overlay leaves out: it never starts.
 */

#include <sys/types.h>

#include "pci_emul.h"

static int
pci_nvme_init(struct pci_devinst *pi __unused, nvlist_t *nvl __unused)
{
	return (1);
}

static const struct pci_devemu pci_de_nvme = {
	.pe_emu = "nvme",
	.pe_init = pci_nvme_init,
};
PCI_EMUL_SET(pci_de_nvme);
