/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The one file that is compiled against bhyve's headers.  It registers the
 * device "nvme" and offers the Rust library what bhyve keeps in macros, inline
 * functions and structures (host.h).
 *
 * It has to be an object of its own in bhyve's link: nothing refers to an
 * entry of a linker set, so from an archive it would silently be left out.
 */

#include <sys/param.h>
#include <sys/types.h>
#include <sys/linker_set.h>
#include <sys/nv.h>

#include <machine/vmm.h>

#include <dev/pci/pcireg.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <vmmapi.h>

#include "config.h"
#include "debug.h"
#include "pci_emul.h"

#include "bhyve_nvme.h"
#include "host.h"

/*
 * Up to early 2023 (14-CURRENT) the callbacks of a device had the VM and the
 * vCPU as further arguments.  The boot order came later in that year and is
 * in every release from 14.0 on.
 */
#if defined(__FreeBSD_version) && __FreeBSD_version < 1400080
#define	GLUE_VCPU_ARGUMENTS
#endif
#if !defined(__FreeBSD_version) || __FreeBSD_version >= 1400097
#define	GLUE_BOOT_ORDER
#endif
/*
 * GLUE_TEARDOWN is for a bhyve that can unplug devices (struct pci_devemu has
 * pe_teardown): no release's number tells, so the build says so.
 */

#define	GLUE_VENDOR	0xfb5d
#define	GLUE_DEVICE	0x0a0a

#define	GLUE_REGS_BAR	0
#define	GLUE_REGS_SIZE	(16 * 1024)	/* less makes Windows refuse it */
#define	GLUE_MSIX_BAR	4

#define	GLUE_CAPS_START		0x40	/* behind the header */
#define	GLUE_MSIXCAP_SIZE	12

/*
 * The offset of a capability in configuration space; 0 if it is not there.
 * The guest can write to the list's head, so no step of the walk trusts it.
 */
static int
glue_find_cap(struct pci_devinst *pi, uint8_t id)
{
	int hops, off;

	off = pci_get_cfgdata8(pi, PCIR_CAP_PTR);
	for (hops = 0; hops < PCI_REGMAX / 4; hops++) {
		if (off < GLUE_CAPS_START || off > PCI_REGMAX - 15 ||
		    (off & 3) != 0)
			return (0);
		if (pci_get_cfgdata8(pi, off + PCICAP_ID) == id)
			return (off);
		off = pci_get_cfgdata8(pi, off + PCICAP_NEXTPTR);
	}
	return (0);
}

/*
 * The bits of a write of `bytes' bytes at `offset' that the 16-bit register at
 * `reg' holds in `mask'.
 */
static uint32_t
glue_bits(int offset, int bytes, int reg, uint16_t mask)
{
	int at, i;
	uint32_t bits;

	bits = 0;
	for (i = 0; i < bytes && i < 4; i++) {
		at = offset + i - reg;
		if (at == 0 || at == 1)
			bits |= (uint32_t)((mask >> (8 * at)) & 0xff) <<
			    (8 * i);
	}
	return (bits);
}

void *
nvme_host_softc(const struct pci_devinst *pi)
{
	return (pi->pi_arg);
}

void
nvme_host_set_softc(struct pci_devinst *pi, void *softc)
{
	pi->pi_arg = softc;
}

void
nvme_host_location(const struct pci_devinst *pi, uint8_t *bus, uint8_t *slot,
    uint8_t *func)
{
	*bus = pi->pi_bus;
	*slot = pi->pi_slot;
	*func = pi->pi_func;
}

const char *
nvme_host_vm_name(void)
{
	return (get_config_value("name"));
}

const char *
nvme_host_config_value(const struct nvlist *nvl, const char *name)
{
	return (get_config_value_node(nvl, name));
}

const char *
nvme_host_config_next(const struct nvlist *nvl, void **cookie)
{
	const char *name;
	int type;

	while ((name = nvlist_next(nvl, &type, cookie)) != NULL) {
		if (type == NV_TYPE_STRING)
			break;
	}
	return (name);
}

void
nvme_host_config_set(struct nvlist *nvl, const char *name, const char *value)
{
	set_config_value_node(nvl, name, value);
}

int
nvme_host_config_parse(struct nvlist *nvl, const char *opts)
{
	return (pci_parse_legacy_config(nvl, opts) == 0 ? 0 : -1);
}

int
nvme_host_pci_init(struct pci_devinst *pi, uint16_t vectors)
{
	int cap;

	pci_set_cfgdata16(pi, PCIR_VENDOR, GLUE_VENDOR);
	pci_set_cfgdata16(pi, PCIR_DEVICE, GLUE_DEVICE);
	pci_set_cfgdata8(pi, PCIR_CLASS, PCIC_STORAGE);
	pci_set_cfgdata8(pi, PCIR_SUBCLASS, PCIS_STORAGE_NVM);
	pci_set_cfgdata8(pi, PCIR_PROGIF,
	    PCIP_STORAGE_NVM_ENTERPRISE_NVMHCI_1_0);

	if (vectors == 0 || vectors > MAX_MSIX_TABLE_ENTRIES)
		return (-1);
	if (pci_emul_alloc_bar(pi, GLUE_REGS_BAR, PCIBAR_MEM64,
	    GLUE_REGS_SIZE) != 0)
		return (-1);
	if (pci_emul_add_msixcap(pi, vectors, GLUE_MSIX_BAR) != 0)
		return (-1);
	if (pci_emul_add_pciecap(pi, PCIEM_TYPE_ROOT_INT_EP) != 0)
		return (-1);

	/* bhyve's capability offers no FLR by itself. */
	cap = glue_find_cap(pi, PCIY_EXPRESS);
	if (cap == 0)
		return (-1);
	pci_set_cfgdata32(pi, cap + PCIER_DEVICE_CAP,
	    pci_get_cfgdata32(pi, cap + PCIER_DEVICE_CAP) | PCIEM_CAP_FLR);
	return (0);
}

#ifdef GLUE_BOOT_ORDER
int
nvme_host_boot_device(struct pci_devinst *pi, int bootindex)
{
	return (pci_emul_add_boot_device(pi, bootindex) == 0 ? 0 : -1);
}
#else
int
nvme_host_boot_device(struct pci_devinst *pi __unused, int bootindex __unused)
{
	return (-1);
}
#endif

int
nvme_host_cfg_classify(struct pci_devinst *pi, int offset, int bytes,
    uint32_t value)
{
	int cap;

	cap = glue_find_cap(pi, PCIY_MSIX);
	if (cap != 0 && offset + bytes > cap &&
	    offset < cap + GLUE_MSIXCAP_SIZE)
		return (NVME_HOST_CFG_MSIX);

	cap = glue_find_cap(pi, PCIY_EXPRESS);
	if (cap != 0 && (value & glue_bits(offset, bytes,
	    cap + PCIER_DEVICE_CTL, PCIEM_CTL_INITIATE_FLR)) != 0)
		return (NVME_HOST_CFG_FLR);

	return (NVME_HOST_CFG_OTHER);
}

void
nvme_host_cfg_write_msix(struct pci_devinst *pi, int offset, int bytes,
    uint32_t value)
{
	pci_emul_capwrite(pi, offset, bytes, value, 0, 0);
}

void
nvme_host_cfg_write_flr(struct pci_devinst *pi, int offset, int bytes,
    uint32_t value)
{
	int cap, word;

	cap = glue_find_cap(pi, PCIY_EXPRESS);
	if (cap != 0) {
		value &= ~glue_bits(offset, bytes, cap + PCIER_DEVICE_CTL,
		    PCIEM_CTL_INITIATE_FLR);
		pci_emul_capwrite(pi, offset, bytes, value, 0, 0);
	}

	cap = glue_find_cap(pi, PCIY_MSIX);
	if (cap != 0)
		pci_emul_capwrite(pi, cap + PCIR_MSIX_CTRL, 2, 0, 0, 0);

	/* Mask first: the other words must not change under a live vector. */
	for (word = 0; word < pi->pi_msix.table_count * 4; word += 4) {
		(void)pci_emul_msix_twrite(pi, (word + 3) * 4, 4,
		    PCIM_MSIX_VCTRL_MASK);
		(void)pci_emul_msix_twrite(pi, word * 4, 4, 0);
		(void)pci_emul_msix_twrite(pi, (word + 1) * 4, 4, 0);
		(void)pci_emul_msix_twrite(pi, (word + 2) * 4, 4, 0);
	}
}

void *
nvme_host_map(struct pci_devinst *pi, uint64_t gpa, size_t len)
{
	return (vm_map_gpa(pi->pi_vmctx, gpa, len));
}

bool
nvme_host_msix_deliverable(const struct pci_devinst *pi, uint16_t vector)
{
	if (vector >= pi->pi_msix.table_count)
		return (false);
	return (pi->pi_msix.enabled != 0 && pi->pi_msix.function_mask == 0 &&
	    (pi->pi_msix.table[vector].vector_control &
	    PCIM_MSIX_VCTRL_MASK) == 0);
}

void
nvme_host_msix_raise(struct pci_devinst *pi, uint16_t vector)
{
	pci_generate_msix(pi, vector);
}

void
nvme_host_msix_write(struct pci_devinst *pi, uint64_t offset, int size,
    uint64_t value)
{
	(void)pci_emul_msix_twrite(pi, offset, size, value);
}

uint64_t
nvme_host_msix_read(struct pci_devinst *pi, uint64_t offset, int size)
{
	return (pci_emul_msix_tread(pi, offset, size));
}

void
nvme_host_log(int level __unused, const char *line)
{
	EPRINTLN("%s", line);
}

#ifdef GLUE_VCPU_ARGUMENTS
static int
glue_init(struct vmctx *ctx __unused, struct pci_devinst *pi, nvlist_t *nvl)
{
	return (pci_nvme_init(pi, nvl));
}

static int
glue_cfgwrite(struct vmctx *ctx __unused, int vcpu __unused,
    struct pci_devinst *pi, int offset, int bytes, uint32_t value)
{
	return (pci_nvme_cfgwrite(pi, offset, bytes, value));
}

static void
glue_barwrite(struct vmctx *ctx __unused, int vcpu __unused,
    struct pci_devinst *pi, int baridx, uint64_t offset, int size,
    uint64_t value)
{
	pci_nvme_write(pi, baridx, offset, size, value);
}

static uint64_t
glue_barread(struct vmctx *ctx __unused, int vcpu __unused,
    struct pci_devinst *pi, int baridx, uint64_t offset, int size)
{
	return (pci_nvme_read(pi, baridx, offset, size));
}
#else
#define	glue_init	pci_nvme_init
#define	glue_cfgwrite	pci_nvme_cfgwrite
#define	glue_barwrite	pci_nvme_write
#define	glue_barread	pci_nvme_read
#endif

/* An array: the member was not always const. */
static char glue_name[] = "nvme";

static const struct pci_devemu glue_nvme = {
	.pe_emu = glue_name,
	.pe_init = glue_init,
	.pe_legacy_config = pci_nvme_legacy_config,
#ifdef GLUE_TEARDOWN
	.pe_teardown = pci_nvme_teardown,
#endif
	.pe_cfgwrite = glue_cfgwrite,
	.pe_barwrite = glue_barwrite,
	.pe_barread = glue_barread,
};
#ifdef GLUE_VCPU_ARGUMENTS
PCI_EMUL_SET(glue_nvme)		/* it brings its own semicolon */
#else
PCI_EMUL_SET(glue_nvme);
#endif
