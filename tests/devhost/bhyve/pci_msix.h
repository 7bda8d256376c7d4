/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * MSI-X, as the stand-in's configuration space needs it.
 */

#ifndef _PCI_MSIX_H_
#define	_PCI_MSIX_H_

#include <stdint.h>

struct pci_devinst;

#define	MSIX_CAP_BYTES	12

/* Makes a table of `vectors' masked vectors and fills the capability; returns
 * the bytes of the BAR for table and pending bits. */
int	 msix_init(struct pci_devinst *pi, int vectors, int bar,
	    uint8_t cap[MSIX_CAP_BYTES]);
void	 msix_free(struct pci_devinst *pi);

/* Disables MSI-X; masks and clears all vectors. */
void	 msix_reset(struct pci_devinst *pi);

/* Follows a write at `off' bytes into the capability; returns what is to be
 * stored there. */
uint32_t msix_cap_write(struct pci_devinst *pi, int off, int bytes,
	    uint32_t val);

#endif /* !_PCI_MSIX_H_ */
