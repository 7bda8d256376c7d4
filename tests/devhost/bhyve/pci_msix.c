/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Stand-in for bhyve's MSI-X.  What is masked or disabled is dropped, and the
 * pending bits are never set: bhyve does it so, and the device has to cope.
 */

#include <sys/types.h>

#include <dev/pci/pcireg.h>

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "pci_emul.h"
#include "pci_msix.h"

#define	TABLE_ALIGN	4096

int
msix_init(struct pci_devinst *pi, int vectors, int bar,
    uint8_t cap[MSIX_CAP_BYTES])
{
	uint32_t pba, table;
	int bytes;

	assert(vectors >= 1 && vectors <= MAX_MSIX_TABLE_ENTRIES);
	assert(bar >= 0 && bar <= PCI_BARMAX);

	bytes = vectors * MSIX_TABLE_ENTRY_SIZE;
	bytes = (bytes + TABLE_ALIGN - 1) / TABLE_ALIGN * TABLE_ALIGN;
	pi->pi_msix.table_bar = bar;
	pi->pi_msix.pba_bar = bar;
	pi->pi_msix.table_offset = 0;
	pi->pi_msix.table_count = vectors;
	pi->pi_msix.pba_offset = (uint32_t)bytes;
	pi->pi_msix.pba_size = (vectors + 63) / 64 * 8;
	pi->pi_msix.table = calloc((size_t)vectors,
	    sizeof(pi->pi_msix.table[0]));
	if (pi->pi_msix.table == NULL)
		abort();
	msix_reset(pi);

	table = (uint32_t)bar;
	pba = (uint32_t)bytes | (uint32_t)bar;
	memset(cap, 0, MSIX_CAP_BYTES);
	cap[PCICAP_ID] = PCIY_MSIX;
	cap[PCIR_MSIX_CTRL] = (uint8_t)(vectors - 1);
	cap[PCIR_MSIX_CTRL + 1] = (uint8_t)((vectors - 1) >> 8);
	memcpy(cap + 4, &table, sizeof(table));
	memcpy(cap + 8, &pba, sizeof(pba));
	return (bytes + pi->pi_msix.pba_size);
}

void
msix_free(struct pci_devinst *pi)
{
	free(pi->pi_msix.table);
	pi->pi_msix.table = NULL;
}

void
msix_reset(struct pci_devinst *pi)
{
	int i;

	pi->pi_msix.enabled = 0;
	pi->pi_msix.function_mask = 0;
	for (i = 0; i < pi->pi_msix.table_count; i++) {
		pi->pi_msix.table[i].vector_control = PCIM_MSIX_VCTRL_MASK;
		pi->pi_msix.table[i].addr = 0;
		pi->pi_msix.table[i].msg_data = 0;
	}
}

uint32_t
msix_cap_write(struct pci_devinst *pi, int off, int bytes, uint32_t val)
{
	/* Only a write of the whole control register changes anything. */
	if (off == PCIR_MSIX_CTRL && bytes == 2) {
		val &= PCIM_MSIXCTRL_MSIX_ENABLE | PCIM_MSIXCTRL_FUNCTION_MASK;
		pi->pi_msix.enabled = (int)(val & PCIM_MSIXCTRL_MSIX_ENABLE);
		pi->pi_msix.function_mask =
		    (int)(val & PCIM_MSIXCTRL_FUNCTION_MASK);
		val |= (uint32_t)(pi->pi_msix.table_count - 1) &
		    PCIM_MSIXCTRL_TABLE_SIZE;
	}
	return (val);
}

/* The table's bytes for an access, NULL if it is not allowed. */
static uint8_t *
table_at(struct pci_devinst *pi, uint64_t offset, int size)
{
	if (offset / MSIX_TABLE_ENTRY_SIZE >=
	    (uint64_t)pi->pi_msix.table_count)
		return (NULL);
	if (offset % (uint64_t)size != 0)
		return (NULL);
	return ((uint8_t *)(void *)pi->pi_msix.table + offset);
}

int
pci_emul_msix_twrite(struct pci_devinst *pi, uint64_t offset, int size,
    uint64_t value)
{
	uint32_t half;
	uint8_t *at;

	if (size != 4 && size != 8)
		return (-1);
	at = table_at(pi, offset, size);
	if (at == NULL)
		return (-1);
	if (size == 8)
		memcpy(at, &value, sizeof(value));
	else {
		half = (uint32_t)value;
		memcpy(at, &half, sizeof(half));
	}
	return (0);
}

uint64_t
pci_emul_msix_tread(struct pci_devinst *pi, uint64_t offset, int size)
{
	uint64_t value;
	uint32_t half;
	uint8_t *at;

	if (size != 1 && size != 4 && size != 8)
		return (UINT64_MAX);
	if (offset >= pi->pi_msix.pba_offset && offset <
	    pi->pi_msix.pba_offset + (uint64_t)pi->pi_msix.pba_size)
		return (0);
	at = table_at(pi, offset, size);
	if (at == NULL)
		return (UINT64_MAX);
	if (size == 8) {
		memcpy(&value, at, sizeof(value));
		return (value);
	}
	if (size == 1)
		return (*at);
	memcpy(&half, at, sizeof(half));
	return (half);
}

void
pci_generate_msix(struct pci_devinst *pi, int msgnum)
{
	struct msix_table_entry *entry;

	if (pi->pi_msix.enabled == 0 || pi->pi_msi.enabled != 0 ||
	    pi->pi_msix.function_mask != 0)
		return;
	if (msgnum < 0 || msgnum >= pi->pi_msix.table_count)
		return;
	entry = &pi->pi_msix.table[msgnum];
	if ((entry->vector_control & PCIM_MSIX_VCTRL_MASK) == 0)
		machine_raise_msi(pi->pi_vmctx, entry->addr, entry->msg_data);
}
