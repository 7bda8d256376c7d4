/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The stand-in's own face: what stands for the guest, its vCPUs and bhyve's
 * main program.
 *
 * bhyve's configuration has no locks: config.h, pci_parse_slot() and
 * devhost_init() are for one thread at a time.  All else may be called from
 * any thread, several at once.
 */

#ifndef _DEVHOST_H_
#define	_DEVHOST_H_

#include <stddef.h>
#include <stdint.h>

struct nvlist;
struct pci_devinst;
struct vmctx;

#define	DEVHOST_CFG_BYTES	256

/* Kinds of base address registers, as devhost_bar_info() tells them. */
#define	DEVHOST_BAR_NONE	0
#define	DEVHOST_BAR_MEM32	1
#define	DEVHOST_BAR_MEM64	2

/* The host's address of guest memory, NULL unless all of it lies in one
 * contiguous range of RAM; called from any thread. */
typedef void	*devhost_map_fn(void *arg, uint64_t gpa, size_t len);

/* Receives a message-signalled interrupt; called from any thread. */
typedef void	 devhost_msi_fn(void *arg, uint64_t address, uint32_t data);

/* Receives one line for the operator; called from any thread. */
typedef void	 devhost_log_fn(const char *line);

/* A virtual machine; arg is handed to both functions.  NULL if out of
 * memory.  It must outlive its devices. */
struct vmctx *devhost_vm_open(void *arg, devhost_map_fn *map,
	    devhost_msi_fn *msi);
void	 devhost_vm_close(struct vmctx *ctx);

/* Where lines go; NULL for standard error. */
void	 devhost_log_set(devhost_log_fn *sink);

/* Initialises the first device that the configuration tree describes, through
 * the entry that PCI_EMUL_SET registered.  NULL if that fails, after a line
 * that says so. */
struct pci_devinst *devhost_init(struct vmctx *ctx);

/* Takes the place of a device's own pe_init. */
typedef int	 devhost_init_fn(void *arg, struct pci_devinst *pi,
		    struct nvlist *nvl);

/* devhost_init() with init, unless that is NULL, in place of pe_init. */
struct pci_devinst *devhost_init_by(struct vmctx *ctx, devhost_init_fn *init,
	    void *arg);

/* Stops and frees a device; -1, and nothing is freed, if it cannot stop. */
int	 devhost_teardown(struct pci_devinst *pi);

/* A vCPU's access to memory behind a BAR: 1, 2, 4 or 8 bytes, inside it.
 * Eight bytes reach the device as two accesses, low half first. */
uint64_t devhost_bar_read(struct pci_devinst *pi, int bar, uint64_t offset,
	    int size);
void	 devhost_bar_write(struct pci_devinst *pi, int bar, uint64_t offset,
	    int size, uint64_t value);

/* Kind and size in bytes of a BAR. */
int	 devhost_bar_info(const struct pci_devinst *pi, int bar,
	    uint64_t *size);

/* A vCPU's access to configuration space: 1, 2 or 4 bytes.  What is not
 * aligned reads as ones and is not written. */
uint32_t devhost_cfg_read(struct pci_devinst *pi, int offset, int bytes);
void	 devhost_cfg_write(struct pci_devinst *pi, int offset, int bytes,
	    uint32_t value);

/* All of configuration space, and back: for a reset of the host.  The MSI-X
 * state follows the restored capability; all vectors are masked and cleared. */
void	 devhost_cfg_save(const struct pci_devinst *pi,
	    uint8_t saved[DEVHOST_CFG_BYTES]);
void	 devhost_cfg_restore(struct pci_devinst *pi,
	    const uint8_t saved[DEVHOST_CFG_BYTES]);

#endif /* !_DEVHOST_H_ */
