/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What the C glue offers the Rust library.  bhyve's structures change between
 * releases, so the library never looks into one: it calls these.
 */

#ifndef _BHYVE_NVME_HOST_H_
#define	_BHYVE_NVME_HOST_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nvlist;
struct pci_devinst;

/* Levels of nvme_host_log(), as in syslog(3). */
#define	NVME_HOST_ERROR		3
#define	NVME_HOST_WARNING	4
#define	NVME_HOST_INFO		6
#define	NVME_HOST_DEBUG		7

/* What a write to configuration space touches, of what concerns the device. */
#define	NVME_HOST_CFG_OTHER	0	/* nothing: bhyve handles it alone */
#define	NVME_HOST_CFG_MSIX	1	/* the MSI-X capability */
#define	NVME_HOST_CFG_FLR	2	/* Initiate Function Level Reset is set */

/*
 * The device instance.
 */

/* The library's own pointer, NULL before nvme_host_set_softc(). */
void	*nvme_host_softc(const struct pci_devinst *pi);
void	 nvme_host_set_softc(struct pci_devinst *pi, void *softc);

/* PCI address of the function. */
void	 nvme_host_location(const struct pci_devinst *pi, uint8_t *bus,
	    uint8_t *slot, uint8_t *func);

/* Name of the virtual machine; NULL if it has none.  Valid until the next
 * call of an nvme_host_config function. */
const char *nvme_host_vm_name(void);

/*
 * Configuration of one device: names and values, all strings.
 */

/* The value of "name", NULL if it is not set; valid until the next call. */
const char *nvme_host_config_value(const struct nvlist *nvl, const char *name);

/* The next name after the one *cookie stands for (start with NULL), NULL at
 * the end.  Child nodes are passed over. */
const char *nvme_host_config_next(const struct nvlist *nvl, void **cookie);

/* Sets "name" to "value". */
void	 nvme_host_config_set(struct nvlist *nvl, const char *name,
	    const char *value);

/* Sets each of the comma-separated "name=value" or "name" (= true) in opts;
 * returns 0, or -1 if they are malformed. */
int	 nvme_host_config_parse(struct nvlist *nvl, const char *opts);

/*
 * The PCI function.
 */

/* Fills configuration space, allocates BAR0 (16 KiB of 64-bit memory) and adds
 * the MSI-X capability (table in BAR4) and the PCI Express capability (root
 * complex integrated endpoint).  Returns 0, or -1 if bhyve refuses. */
int	 nvme_host_pci_init(struct pci_devinst *pi, uint16_t vectors);

/* Puts the device into the firmware's boot order; returns 0, or -1 if bhyve
 * refuses or has no boot order. */
int	 nvme_host_boot_device(struct pci_devinst *pi, int bootindex);

/* Classifies a write of configuration space: one of NVME_HOST_CFG_*. */
int	 nvme_host_cfg_classify(struct pci_devinst *pi, int offset, int bytes,
	    uint32_t value);

/* Carries out a write that nvme_host_cfg_classify() found to be
 * NVME_HOST_CFG_MSIX, as bhyve would by itself. */
void	 nvme_host_cfg_write_msix(struct pci_devinst *pi, int offset, int bytes,
	    uint32_t value);

/* Carries out a write that nvme_host_cfg_classify() found to be
 * NVME_HOST_CFG_FLR: MSI-X is disabled and its vectors are masked and cleared,
 * as at power-on; the write's other bits are stored.  (bhyve by itself would
 * store the FLR bit, which must read 0: a guest that changes another bit of the
 * register would reset the function again.)  Base addresses and the command
 * register keep their values: every guest restores them after an FLR. */
void	 nvme_host_cfg_write_flr(struct pci_devinst *pi, int offset, int bytes,
	    uint32_t value);

/*
 * Guest memory and interrupts.  Called from any thread.
 */

/* The host's address of len bytes of guest memory at gpa; NULL unless all of
 * them are RAM of one contiguous range.  Stays valid for the life of the VM. */
void	*nvme_host_map(struct pci_devinst *pi, uint64_t gpa, size_t len);

/* Whether the vector would be delivered now: MSI-X is enabled and neither the
 * function nor the vector is masked. */
bool	 nvme_host_msix_deliverable(const struct pci_devinst *pi,
	    uint16_t vector);

/* Raises the vector; dropped if it is masked or disabled. */
void	 nvme_host_msix_raise(struct pci_devinst *pi, uint16_t vector);

/* The guest's accesses to the MSI-X table and pending bit array. */
void	 nvme_host_msix_write(struct pci_devinst *pi, uint64_t offset, int size,
	    uint64_t value);
uint64_t nvme_host_msix_read(struct pci_devinst *pi, uint64_t offset, int size);

/* One line for the operator, without a line end. */
void	 nvme_host_log(int level, const char *line);

#endif /* !_BHYVE_NVME_HOST_H_ */
