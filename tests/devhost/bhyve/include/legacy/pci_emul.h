/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Stand-in for bhyve's PCI emulation, as it was in 14-CURRENT of July 2022:
 * callbacks take the VM and the vCPU.  The order of the members is made up; that it
 * differs between the two generations is the point.
 */

#ifndef _PCI_EMUL_H_
#define	_PCI_EMUL_H_

#include <sys/types.h>
#include <sys/linker_set.h>
#include <sys/nv.h>

#include <dev/pci/pcireg.h>

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#ifndef __unused
#define	__unused	__attribute__((unused))
#endif

#define	PCI_BARMAX		PCIR_MAX_BAR_0
#define	MSIX_TABLE_ENTRY_SIZE	16
#define	MAX_MSIX_TABLE_ENTRIES	2048

struct vmctx;
struct pci_devinst;

struct pci_devemu {
	char	*pe_emu;
	int	(*pe_init)(struct vmctx *, struct pci_devinst *, nvlist_t *);
	int	(*pe_legacy_config)(nvlist_t *, const char *);
	const char *pe_alias;
	int	(*pe_cfgwrite)(struct vmctx *, int vcpu, struct pci_devinst *,
		    int offset, int bytes, uint32_t val);
	int	(*pe_cfgread)(struct vmctx *, int vcpu, struct pci_devinst *,
		    int offset, int bytes, uint32_t *val);
	void	(*pe_barwrite)(struct vmctx *, int vcpu, struct pci_devinst *,
		    int baridx, uint64_t offset, int size, uint64_t value);
	uint64_t (*pe_barread)(struct vmctx *, int vcpu, struct pci_devinst *,
		    int baridx, uint64_t offset, int size);
};
#define	PCI_EMUL_SET(x)	DATA_SET(pci_devemu_set, x);

enum pcibar_type {
	PCIBAR_NONE,
	PCIBAR_IO,
	PCIBAR_MEM32,
	PCIBAR_MEM64,
	PCIBAR_MEMHI64,
};

struct pcibar {
	enum pcibar_type type;
	uint64_t	size;
	uint64_t	addr;
};

struct msix_table_entry {
	uint64_t	addr;
	uint32_t	msg_data;
	uint32_t	vector_control;
};

struct pci_devinst {
	struct pci_devemu *pi_d;
	struct vmctx	*pi_vmctx;
	uint8_t		 pi_bus, pi_slot, pi_func;
	int		 pi_prevcap;
	int		 pi_capend;
	struct {
		int	enabled;
	} pi_msi;
	struct {
		int	enabled;
		int	table_bar;
		int	pba_bar;
		uint32_t table_offset;
		int	table_count;
		uint32_t pba_offset;
		int	pba_size;
		int	function_mask;
		struct msix_table_entry *table;
	} pi_msix;
	void		*pi_arg;
	unsigned char	 pi_cfgdata[PCI_REGMAX + 1];
	struct pcibar	 pi_bar[PCI_BARMAX + 1];
};

int	 pci_emul_alloc_bar(struct pci_devinst *pi, int idx,
	    enum pcibar_type type, uint64_t size);
int	 pci_emul_add_msixcap(struct pci_devinst *pi, int msgnum, int barnum);
int	 pci_emul_add_pciecap(struct pci_devinst *pi, int pcie_device_type);
void	 pci_emul_capwrite(struct pci_devinst *pi, int offset, int bytes,
	    uint32_t val, uint8_t capoff, int capid);
int	 pci_emul_msix_twrite(struct pci_devinst *pi, uint64_t offset, int size,
	    uint64_t value);
uint64_t pci_emul_msix_tread(struct pci_devinst *pi, uint64_t offset, int size);
void	 pci_generate_msix(struct pci_devinst *pi, int msgnum);
int	 pci_parse_legacy_config(nvlist_t *nvl, const char *opt);
int	 pci_parse_slot(char *opt);

static inline void
pci_set_cfgdata8(struct pci_devinst *pi, int offset, uint8_t val)
{
	assert(offset <= PCI_REGMAX);
	*(uint8_t *)(void *)(pi->pi_cfgdata + offset) = val;
}

static inline uint8_t
pci_get_cfgdata8(struct pci_devinst *pi, int offset)
{
	assert(offset <= PCI_REGMAX);
	return (*(uint8_t *)(void *)(pi->pi_cfgdata + offset));
}

static inline void
pci_set_cfgdata16(struct pci_devinst *pi, int offset, uint16_t val)
{
	assert(offset <= PCI_REGMAX - 1 && (offset & 1) == 0);
	*(uint16_t *)(void *)(pi->pi_cfgdata + offset) = val;
}

static inline uint16_t
pci_get_cfgdata16(struct pci_devinst *pi, int offset)
{
	assert(offset <= PCI_REGMAX - 1 && (offset & 1) == 0);
	return (*(uint16_t *)(void *)(pi->pi_cfgdata + offset));
}

static inline void
pci_set_cfgdata32(struct pci_devinst *pi, int offset, uint32_t val)
{
	assert(offset <= PCI_REGMAX - 3 && (offset & 3) == 0);
	*(uint32_t *)(void *)(pi->pi_cfgdata + offset) = val;
}

static inline uint32_t
pci_get_cfgdata32(struct pci_devinst *pi, int offset)
{
	assert(offset <= PCI_REGMAX - 3 && (offset & 3) == 0);
	return (*(uint32_t *)(void *)(pi->pi_cfgdata + offset));
}

#endif /* !_PCI_EMUL_H_ */
