/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What the Rust library offers the C glue.  Made by "make header" from
 * src/abi.rs: change that.
 */

#ifndef _BHYVE_NVME_H_
#define _BHYVE_NVME_H_

#include <stdint.h>

struct nvlist;
struct pci_devinst;

/*
 * Makes the device `pi` as the options in `nvl` say, with everything that has
 * to be opened. Returns 0; or -1 with errno set, after a line that says why.
 *
 * Safety:
 * `pi` and `nvl` are what bhyve's `pe_init` gets, on its main thread; `pi`
 * lives until the process ends or `pci_nvme_teardown` has returned 0.
 */
int pci_nvme_init(struct pci_devinst *pi, struct nvlist *nvl);

/*
 * A guest's write of `size` bytes (1, 2, 4 or 8) of `value` at `offset` in
 * the BAR `baridx`. Never waits.
 *
 * Safety:
 * `pi` is an instance that `pci_nvme_init` has made.
 */
void pci_nvme_write(struct pci_devinst *pi,
                    int baridx,
                    uint64_t offset,
                    int size,
                    uint64_t value);

/*
 * A guest's read of `size` bytes (1, 2, 4 or 8) at `offset` in the BAR
 * `baridx`. Never waits.
 *
 * Safety:
 * `pi` is an instance that `pci_nvme_init` has made.
 */
uint64_t pci_nvme_read(struct pci_devinst *pi,
                       int baridx,
                       uint64_t offset,
                       int size);

/*
 * A guest's write of `bytes` bytes of `value` at `offset` in configuration
 * space. Returns 0 if it is done with, or 1 if bhyve is to handle it as usual.
 *
 * Safety:
 * `pi` is an instance that `pci_nvme_init` has made.
 */
int pci_nvme_cfgwrite(struct pci_devinst *pi,
                      int offset,
                      int bytes,
                      uint32_t value);

/*
 * Puts the options `opts` of a `-s slot,nvme,opts` command line into the
 * device's node. Returns 0, or -1 if they are malformed.
 *
 * Safety:
 * `nvl` is what bhyve's `pe_legacy_config` gets, on its main thread; `opts`
 * is a C string or null.
 */
int pci_nvme_legacy_config(struct nvlist *nvl, const char *opts);

/*
 * Takes the device down: no command is started any more, and when 0 is
 * returned none runs and guest memory is not touched again. Returns -1 with
 * errno EBUSY, and the device stays, if commands do not end within ten
 * seconds. Nothing is flushed: a guest that wants that shuts down first.
 *
 * Safety:
 * `pi` is an instance that `pci_nvme_init` has made, and no other call for it
 * is under way or follows.
 */
int pci_nvme_teardown(struct pci_devinst *pi);

#endif  /* _BHYVE_NVME_H_ */
