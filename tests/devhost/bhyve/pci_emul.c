/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Stand-in for bhyve's PCI emulation: a device's life, its configuration space
 * and base address registers.  Compiled against either
 * generation of headers; DEVHOST_VCPU_ARGUMENTS says that callbacks take the
 * VM and the vCPU.
 */

#include <sys/types.h>
#include <sys/nv.h>

#include <dev/pci/pcireg.h>

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "debug.h"
#include "devhost.h"
#include "pci_emul.h"
#include "pci_msix.h"
#include "pci_slot.h"

#define	CAP_START	0x40

/* Bits of the command register that a guest can change. */
#define	CMD_WRITABLE	0x077f

/* Where BARs are put, and how far apart. */
#define	BAR_BASE32	0xc0000000UL
#define	BAR_BASE64	0xd000000000UL
#define	BAR_DEVICE_GAP	0x100000UL
#define	BAR_GAP		0x20000UL

#ifdef DEVHOST_VCPU_ARGUMENTS
#define	CALL(pi, member, ...)						\
	((*(pi)->pi_d->member)((pi)->pi_vmctx, 0, (pi), __VA_ARGS__))
#define	CALL_INIT(pi, nvl)						\
	((*(pi)->pi_d->pe_init)((pi)->pi_vmctx, (pi), (nvl)))
#else
#define	CALL(pi, member, ...)						\
	((*(pi)->pi_d->member)((pi), __VA_ARGS__))
#define	CALL_INIT(pi, nvl)						\
	((*(pi)->pi_d->pe_init)((pi), (nvl)))
#endif

static uint32_t
cfg_get(struct pci_devinst *pi, int offset, int bytes)
{
	if (bytes == 1)
		return (pci_get_cfgdata8(pi, offset));
	if (bytes == 2)
		return (pci_get_cfgdata16(pi, offset));
	return (pci_get_cfgdata32(pi, offset));
}

static void
cfg_set(struct pci_devinst *pi, int offset, int bytes, uint32_t val)
{
	if (bytes == 1)
		pci_set_cfgdata8(pi, offset, (uint8_t)val);
	else if (bytes == 2)
		pci_set_cfgdata16(pi, offset, (uint16_t)val);
	else
		pci_set_cfgdata32(pi, offset, val);
}

int
pci_emul_alloc_bar(struct pci_devinst *pi, int idx, enum pcibar_type type,
    uint64_t size)
{
	uint64_t addr, base, rounded;
	uint32_t lobits;

	assert(idx >= 0 && idx <= PCI_BARMAX);
	assert(type == PCIBAR_MEM32 ||
	    (type == PCIBAR_MEM64 && idx < PCI_BARMAX));

	for (rounded = 16; rounded < size; rounded <<= 1)
		;
	assert(rounded <= BAR_GAP);
	base = type == PCIBAR_MEM64 ? BAR_BASE64 : BAR_BASE32;
	lobits = PCIM_BAR_MEM_SPACE |
	    (type == PCIBAR_MEM64 ? PCIM_BAR_MEM_64 : PCIM_BAR_MEM_32);
	addr = base + (uint64_t)(pi->pi_slot * MAXFUNCS + pi->pi_func) *
	    BAR_DEVICE_GAP + (uint64_t)idx * BAR_GAP;

	pi->pi_bar[idx].type = type;
	pi->pi_bar[idx].size = rounded;
	pi->pi_bar[idx].addr = addr;
	pci_set_cfgdata32(pi, PCIR_BAR(idx), (uint32_t)addr | lobits);
	if (type == PCIBAR_MEM64) {
		pi->pi_bar[idx + 1].type = PCIBAR_MEMHI64;
		pci_set_cfgdata32(pi, PCIR_BAR(idx + 1),
		    (uint32_t)(addr >> 32));
	}
	return (0);
}

#ifndef DEVHOST_VCPU_ARGUMENTS
int
pci_emul_add_boot_device(struct pci_devinst *const pi, const int bootindex)
{
	char path[64], place[16];

	/* Two devices cannot share a place. */
	snprintf(path, sizeof(path), "bootorder.%d", bootindex);
	if (bootindex < 0 || get_config_value(path) != NULL)
		return (EEXIST);
	snprintf(place, sizeof(place), "%d.%d.%d", pi->pi_bus, pi->pi_slot,
	    pi->pi_func);
	set_config_value(path, place);
	return (0);
}
#endif

/* Appends a capability of `len' bytes; its link to the next one is set here. */
static int
add_capability(struct pci_devinst *pi, const uint8_t *cap, int len)
{
	int at;

	assert(len > 2);
	at = pi->pi_capend == 0 ? CAP_START : pi->pi_capend + 1;
	at = (at + 3) & ~3;
	if (at + len > PCI_REGMAX + 1)
		return (-1);
	memcpy(pi->pi_cfgdata + at, cap, (size_t)len);
	pci_set_cfgdata8(pi, at + PCICAP_NEXTPTR, 0);
	if (pi->pi_capend == 0) {
		pci_set_cfgdata8(pi, PCIR_CAP_PTR, (uint8_t)at);
		pci_set_cfgdata16(pi, PCIR_STATUS, (uint16_t)(
		    pci_get_cfgdata16(pi, PCIR_STATUS) |
		    PCIM_STATUS_CAPPRESENT));
	} else {
		pci_set_cfgdata8(pi, pi->pi_prevcap + PCICAP_NEXTPTR,
		    (uint8_t)at);
	}
	pi->pi_prevcap = at;
	pi->pi_capend = at + ((len + 3) & ~3) - 1;
	return (0);
}

int
pci_emul_add_msixcap(struct pci_devinst *pi, int msgnum, int barnum)
{
	uint8_t cap[MSIX_CAP_BYTES];
	int bytes;

	bytes = msix_init(pi, msgnum, barnum, cap);
	pci_emul_alloc_bar(pi, barnum, PCIBAR_MEM32, (uint64_t)bytes);
	return (add_capability(pi, cap, sizeof(cap)));
}

int
pci_emul_add_pciecap(struct pci_devinst *pi, int type)
{
	uint8_t cap[60];

	/* Version 2 of the capability; all else of it is 0 for this type. */
	assert(type == PCIEM_TYPE_ROOT_INT_EP);
	memset(cap, 0, sizeof(cap));
	cap[PCICAP_ID] = PCIY_EXPRESS;
	cap[2] = (uint8_t)(2 | type);
	cap[3] = (uint8_t)(type >> 8);
	return (add_capability(pi, cap, sizeof(cap)));
}

void
pci_emul_capwrite(struct pci_devinst *pi, int offset, int bytes, uint32_t val,
    uint8_t capoff, int capid)
{
	int next;

	if ((offset & (bytes - 1)) != 0)
		return;
	if (capoff == 0) {
		capoff = CAP_START;
		for (;;) {
			next = pci_get_cfgdata8(pi, capoff + PCICAP_NEXTPTR);
			if (next == 0 || (offset >= capoff && offset < next))
				break;
			capoff = (uint8_t)next;
		}
		assert(offset >= capoff);
		capid = pci_get_cfgdata8(pi, capoff);
	}

	/* Identity and link are read-only, also within a wider write. */
	if (offset == capoff && bytes == 4) {
		offset += 2;
		bytes = 2;
		val >>= 16;
	} else if (offset <= capoff + 1)
		return;

	if (capid == PCIY_MSIX)
		val = msix_cap_write(pi, offset - capoff, bytes, val);
	cfg_set(pi, offset, bytes, val);
}

static void
bar_register_write(struct pci_devinst *pi, int idx, uint32_t val)
{
	struct pcibar *bar;
	uint64_t mask;

	bar = &pi->pi_bar[idx];
	switch (bar->type) {
	case PCIBAR_MEM32:
	case PCIBAR_MEM64:
		mask = ~(bar->size - 1);
		val &= (uint32_t)mask;
		bar->addr = (bar->type == PCIBAR_MEM64 ?
		    bar->addr & ~0xffffffffUL : 0) | val;
		if (bar->type == PCIBAR_MEM64)
			val |= PCIM_BAR_MEM_64;
		break;
	case PCIBAR_MEMHI64:
		bar--;
		mask = ~(bar->size - 1) >> 32;
		val &= (uint32_t)mask;
		bar->addr = (bar->addr & 0xffffffffUL) | (uint64_t)val << 32;
		break;
	default:
		val = 0;
		break;
	}
	pci_set_cfgdata32(pi, PCIR_BAR(idx), val);
}

uint32_t
devhost_cfg_read(struct pci_devinst *pi, int offset, int bytes)
{
	uint32_t val;

	if ((bytes != 1 && bytes != 2 && bytes != 4) ||
	    (offset & (bytes - 1)) != 0 || offset < 0 || offset > PCI_REGMAX)
		return (0xffffffff);
	if (pi->pi_d->pe_cfgread != NULL &&
	    CALL(pi, pe_cfgread, offset, bytes, &val) == 0)
		return (val);
	return (cfg_get(pi, offset, bytes));
}

void
devhost_cfg_write(struct pci_devinst *pi, int offset, int bytes, uint32_t value)
{
	uint32_t old, writable;

	if ((bytes != 1 && bytes != 2 && bytes != 4) ||
	    (offset & (bytes - 1)) != 0 || offset < 0 || offset > PCI_REGMAX)
		return;
	if (pi->pi_d->pe_cfgwrite != NULL &&
	    CALL(pi, pe_cfgwrite, offset, bytes, value) == 0)
		return;

	if (offset >= PCIR_BAR(0) && offset <= PCIR_BAR(PCI_BARMAX) + 3) {
		if (bytes == 4)
			bar_register_write(pi, (offset - PCIR_BAR(0)) / 4,
			    value);
	} else if (offset >= PCIR_BIOS && offset < PCIR_BIOS + 4) {
		/* No option ROM. */
	} else if (offset >= CAP_START && offset <= pi->pi_capend) {
		pci_emul_capwrite(pi, offset, bytes, value, 0, 0);
	} else if (offset >= PCIR_COMMAND && offset < PCIR_REVID) {
		writable = CMD_WRITABLE >> ((offset & 3) * 8);
		old = cfg_get(pi, offset, bytes);
		cfg_set(pi, offset, bytes,
		    (old & ~writable) | (value & writable));
	} else
		cfg_set(pi, offset, bytes, value);
}

uint64_t
devhost_bar_read(struct pci_devinst *pi, int bar, uint64_t offset, int size)
{
	uint64_t val;

	assert(bar >= 0 && bar <= PCI_BARMAX);
	assert(offset + (uint64_t)size <= pi->pi_bar[bar].size);
	if (size == 8) {
		val = CALL(pi, pe_barread, bar, offset, 4);
		val |= CALL(pi, pe_barread, bar, offset + 4, 4) << 32;
		return (val);
	}
	return (CALL(pi, pe_barread, bar, offset, size));
}

void
devhost_bar_write(struct pci_devinst *pi, int bar, uint64_t offset, int size,
    uint64_t value)
{
	assert(bar >= 0 && bar <= PCI_BARMAX);
	assert(offset + (uint64_t)size <= pi->pi_bar[bar].size);
	if (size == 8) {
		CALL(pi, pe_barwrite, bar, offset, 4, value & 0xffffffff);
		CALL(pi, pe_barwrite, bar, offset + 4, 4, value >> 32);
		return;
	}
	CALL(pi, pe_barwrite, bar, offset, size, value);
}

int
devhost_bar_info(const struct pci_devinst *pi, int bar, uint64_t *size)
{
	if (bar < 0 || bar > PCI_BARMAX) {
		*size = 0;
		return (DEVHOST_BAR_NONE);
	}
	*size = pi->pi_bar[bar].size;
	switch (pi->pi_bar[bar].type) {
	case PCIBAR_MEM32:
		return (DEVHOST_BAR_MEM32);
	case PCIBAR_MEM64:
		return (DEVHOST_BAR_MEM64);
	default:
		*size = 0;
		return (DEVHOST_BAR_NONE);
	}
}

void
devhost_cfg_save(const struct pci_devinst *pi,
    uint8_t saved[DEVHOST_CFG_BYTES])
{
	memcpy(saved, pi->pi_cfgdata, DEVHOST_CFG_BYTES);
}

void
devhost_cfg_restore(struct pci_devinst *pi,
    const uint8_t saved[DEVHOST_CFG_BYTES])
{
	int cap, idx;
	uint32_t val;

	msix_reset(pi);
	memcpy(pi->pi_cfgdata, saved, DEVHOST_CFG_BYTES);
	for (idx = 0; idx <= PCI_BARMAX; idx++) {
		memcpy(&val, saved + PCIR_BAR(idx), sizeof(val));
		bar_register_write(pi, idx, val);
	}
	for (cap = saved[PCIR_CAP_PTR]; cap >= CAP_START;
	    cap = saved[cap + PCICAP_NEXTPTR]) {
		if (saved[cap] == PCIY_MSIX)
			(void)msix_cap_write(pi, PCIR_MSIX_CTRL, 2,
			    pci_get_cfgdata16(pi, cap + PCIR_MSIX_CTRL));
	}
}

struct pci_devinst *
devhost_init(struct vmctx *ctx)
{
	return (devhost_init_by(ctx, NULL, NULL));
}

struct pci_devinst *
devhost_init_by(struct vmctx *ctx, devhost_init_fn *init, void *arg)
{
	const char *name;
	struct pci_devemu *pde;
	struct pci_devinst *pi;
	nvlist_t *nvl;
	int bus, error, func, slot;

	nvl = slot_first(&bus, &slot, &func);
	name = nvl == NULL ? NULL : get_config_value_node(nvl, "device");
	if (name == NULL) {
		EPRINTLN("no device is configured");
		return (NULL);
	}
	pde = slot_device(name);
	if (pde == NULL) {
		EPRINTLN("pci slot %d:%d:%d: unknown device \"%s\"", bus, slot,
		    func, name);
		return (NULL);
	}
	pi = calloc(1, sizeof(*pi));
	if (pi == NULL) {
		EPRINTLN("out of memory");
		return (NULL);
	}
	pi->pi_d = pde;
	pi->pi_vmctx = ctx;
	pi->pi_bus = (uint8_t)bus;
	pi->pi_slot = (uint8_t)slot;
	pi->pi_func = (uint8_t)func;
	pci_set_cfgdata8(pi, PCIR_INTLINE, 255);
	pci_set_cfgdata8(pi, PCIR_INTPIN, 0);
	pci_set_cfgdata8(pi, PCIR_COMMAND, PCIM_CMD_BUSMASTEREN);

	errno = 0;
	if (init != NULL)
		error = init(arg, pi, nvl);
	else
		error = CALL_INIT(pi, nvl);
	if (error != 0) {
		EPRINTLN("device emulation initialization error: %s",
		    strerror(errno));
		msix_free(pi);
		free(pi);
		return (NULL);
	}
	return (pi);
}

int
devhost_teardown(struct pci_devinst *pi)
{
#ifdef GLUE_TEARDOWN
	if (pi->pi_d->pe_teardown != NULL &&
	    (*pi->pi_d->pe_teardown)(pi) != 0)
		return (-1);
	msix_free(pi);
	free(pi);
	return (0);
#else
	/* As in most of bhyve's releases: devices live until exit(). */
	(void)pi;
	return (-1);
#endif
}
