/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Drives the library as bhyve does, from C: through the entry that
 * PCI_EMUL_SET registered.  The one argument is the path of a file of 1 MiB
 * that becomes a disk.
 */

#include <sys/types.h>

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "bhyve_nvme.h"
#include "config.h"
#include "devhost.h"
#include "guest.h"
#include "host.h"
#include "pci_emul.h"

#define	ADMIN_ENTRIES	16
#define	IO_ENTRIES	8
#define	BLOCK		512

static int passed, failed;
static char said[4096];

#define	CHECK(what, right)	check((what), (right), __LINE__)

static void
check(const char *what, bool right, int line)
{
	if (right) {
		passed++;
		printf("ok    %s\n", what);
	} else {
		failed++;
		printf("FAIL  %s (line %d)\n", what, line);
	}
}

static void
collect(const char *line)
{
	size_t used;

	used = strlen(said);
	snprintf(said + used, sizeof(said) - used, "%s\n", line);
}

static bool
config_is(const char *path, const char *expected)
{
	const char *value;

	value = get_config_value(path);
	return (value != NULL && strcmp(value, expected) == 0);
}

/* bhyve's configuration hands out a string that the next call overwrites. */
static bool
value_is_spoilt(void)
{
	const char *value;

	value = get_config_value("name");
	(void)get_config_value("pci.0.4.0.ser");
	return (strcmp(value, "vm0") != 0);
}

/* A device of a -s option, in a configuration of its own; NULL if it does not
 * start. */
static struct pci_devinst *
device(struct vmctx *ctx, const char *option)
{
	char opt[1024];

	init_config();
	set_config_value("name", "vm0");
	snprintf(opt, sizeof(opt), "%s", option);
	if (pci_parse_slot(opt) != 0)
		return (NULL);
	return (devhost_init(ctx));
}

/* Sets up the admin queue, enables, and waits until the controller is ready. */
static bool
enable(struct pci_devinst *pi, struct queue *admin)
{
	queue_make(admin, pi, 0, ADMIN_ENTRIES);
	reg_write(pi, REG_AQA, (ADMIN_ENTRIES - 1) << 16 | (ADMIN_ENTRIES - 1));
	devhost_bar_write(pi, 0, REG_ASQ, 8, admin->sq_gpa);
	devhost_bar_write(pi, 0, REG_ACQ, 8, admin->cq_gpa);
	reg_write(pi, REG_CC, CC_ENABLE);
	return (csts_wait(pi, CSTS_RDY, CSTS_RDY));
}

static int
identify(struct queue *admin, uint32_t cns, uint32_t nsid, uint64_t gpa)
{
	struct command c;

	memset(&c, 0, sizeof(c));
	c.opcode = 0x06;
	c.nsid = nsid;
	c.prp1 = gpa;
	c.cdw[0] = cns;
	return (queue_run(admin, &c, NULL));
}

/* Creates both queues of a pair, with interrupts by the vector of its number. */
static bool
create_pair(struct queue *admin, struct queue *q, uint16_t id)
{
	struct command c;

	queue_make(q, admin->pi, id, IO_ENTRIES);
	memset(&c, 0, sizeof(c));
	c.opcode = 0x05;
	c.prp1 = q->cq_gpa;
	c.cdw[0] = (uint32_t)(IO_ENTRIES - 1) << 16 | id;
	c.cdw[1] = (uint32_t)id << 16 | 3;
	if (queue_run(admin, &c, NULL) != 0)
		return (false);
	memset(&c, 0, sizeof(c));
	c.opcode = 0x01;
	c.prp1 = q->sq_gpa;
	c.cdw[0] = (uint32_t)(IO_ENTRIES - 1) << 16 | id;
	c.cdw[1] = (uint32_t)id << 16 | 1;
	return (queue_run(admin, &c, NULL) == 0);
}

static bool
delete_pair(struct queue *admin, uint16_t id)
{
	struct command c;

	memset(&c, 0, sizeof(c));
	c.opcode = 0x00;
	c.cdw[0] = id;
	if (queue_run(admin, &c, NULL) != 0)
		return (false);
	memset(&c, 0, sizeof(c));
	c.opcode = 0x04;
	c.cdw[0] = id;
	return (queue_run(admin, &c, NULL) == 0);
}

/* Reads (2) or writes (1) so many blocks. */
static int
transfer(struct queue *q, uint8_t opcode, uint64_t lba, uint32_t blocks,
    uint64_t prp1, uint64_t prp2)
{
	struct command c;

	memset(&c, 0, sizeof(c));
	c.opcode = opcode;
	c.nsid = 1;
	c.prp1 = prp1;
	c.prp2 = prp2;
	c.cdw[0] = (uint32_t)lba;
	c.cdw[1] = (uint32_t)(lba >> 32);
	c.cdw[2] = blocks - 1;
	return (queue_run(q, &c, NULL));
}

static int
flush(struct queue *q)
{
	struct command c;

	memset(&c, 0, sizeof(c));
	c.opcode = 0x00;
	c.nsid = 1;
	return (queue_run(q, &c, NULL));
}

static void
fill(uint8_t *bytes, size_t len, unsigned seed)
{
	size_t i;

	for (i = 0; i < len; i++)
		bytes[i] = (uint8_t)(seed + i * 7 + i / 256);
}

static void
check_pci(struct pci_devinst *pi)
{
	uint64_t size;
	uint8_t bus, func, slot;
	int cap;

	nvme_host_location(pi, &bus, &slot, &func);
	CHECK("the slot of the option", bus == 0 && slot == 4 && func == 0);
	CHECK("vendor and device",
	    devhost_cfg_read(pi, 0, 4) == 0x0a0afb5d);
	CHECK("class, subclass, interface",
	    devhost_cfg_read(pi, 8, 4) >> 8 == 0x010802);
	CHECK("BAR 0 is 16 KiB of 64-bit memory",
	    devhost_bar_info(pi, 0, &size) == DEVHOST_BAR_MEM64 &&
	    size == 16384);
	devhost_cfg_write(pi, 0x10, 4, 0xffffffff);
	devhost_cfg_write(pi, 0x14, 4, 0xffffffff);
	CHECK("BAR 0 tells its size",
	    devhost_cfg_read(pi, 0x10, 4) == 0xffffc004 &&
	    devhost_cfg_read(pi, 0x14, 4) == 0xffffffff);
	cap = cap_find(pi, 0x11);
	CHECK("MSI-X: 17 vectors in BAR 4", cap != 0 &&
	    devhost_cfg_read(pi, cap + 2, 2) == 16 &&
	    devhost_cfg_read(pi, cap + 4, 4) == MSIX_BAR);
	CHECK("vectors are masked at first",
	    devhost_bar_read(pi, MSIX_BAR, 12, 4) == 1);
	cap = cap_find(pi, 0x10);
	CHECK("PCI Express: integrated endpoint, with FLR", cap != 0 &&
	    (devhost_cfg_read(pi, cap + 2, 2) >> 4 & 0xf) == 9 &&
	    (devhost_cfg_read(pi, cap + 4, 4) >> 28 & 1) == 1);
	devhost_cfg_write(pi, 4, 2, 6);
	CHECK("the command register", devhost_cfg_read(pi, 4, 2) == 6);
}

/* What bhyve's own MSI-X loses, the library keeps: nothing here is raised by
 * bhyve when it is unmasked. */
static void
check_masks(struct pci_devinst *pi, struct queue *admin, uint64_t gpa)
{
	unsigned seen;
	int control;

	control = cap_find(pi, 0x11) + 2;

	CHECK("identify while MSI-X is disabled",
	    identify(admin, 1, 0, gpa) == 0);
	CHECK("no interrupt yet", guest_interrupts(0) == 0 &&
	    !nvme_host_msix_deliverable(pi, 0));
	msix_program(pi, 0, false);
	msix_program(pi, 1, false);
	devhost_cfg_write(pi, control, 2, 0x8000);
	CHECK("the control word", devhost_cfg_read(pi, control, 2) == 0x8010);
	CHECK("enabling MSI-X brings it", guest_wait_interrupts(0, 1));
	CHECK("deliverable now", nvme_host_msix_deliverable(pi, 0) &&
	    !nvme_host_msix_deliverable(pi, 17));

	seen = guest_interrupts(0);
	CHECK("identify with interrupts", identify(admin, 1, 0, gpa) == 0);
	CHECK("it brings one", guest_wait_interrupts(0, seen + 1));

	seen = guest_interrupts(0);
	msix_mask(pi, 0, true);
	CHECK("identify with vector 0 masked",
	    identify(admin, 1, 0, gpa) == 0);
	guest_pause();
	CHECK("a masked vector is silent", guest_interrupts(0) == seen);
	msix_mask(pi, 0, false);
	CHECK("unmasking brings it", guest_wait_interrupts(0, seen + 1));

	seen = guest_interrupts(0);
	devhost_cfg_write(pi, control, 2, 0xc000);
	CHECK("identify with the function masked",
	    identify(admin, 1, 0, gpa) == 0);
	guest_pause();
	CHECK("a masked function is silent", guest_interrupts(0) == seen);
	devhost_cfg_write(pi, control, 2, 0x8000);
	CHECK("unmasking the function brings it",
	    guest_wait_interrupts(0, seen + 1));
	CHECK("the other vector was never raised", guest_interrupts(1) == 0);
}

static void
check_io(struct queue *admin, uint64_t blocks)
{
	struct command c;
	struct queue q;
	uint64_t gpa[2];
	uint8_t *page[2], want[2 * PAGE];
	uint32_t result;
	unsigned seen;
	int i;

	memset(&c, 0, sizeof(c));
	c.opcode = 0x09;
	c.cdw[0] = 0x07;
	c.cdw[1] = 0x00010001;
	CHECK("two queue pairs are granted",
	    queue_run(admin, &c, &result) == 0 && result == 0x00010001);
	CHECK("create a queue pair", create_pair(admin, &q, 1));

	page[0] = guest_page(&gpa[0]);
	page[1] = guest_page(&gpa[1]);
	seen = guest_interrupts(1);
	fill(want, sizeof(want), 3);
	memcpy(page[0], want, PAGE);
	memcpy(page[1], want + PAGE, PAGE);
	CHECK("write 8 KiB", transfer(&q, 1, 8, 16, gpa[0], gpa[1]) == 0);
	CHECK("its interrupt comes by vector 1",
	    guest_wait_interrupts(1, seen + 1));
	CHECK("flush", flush(&q) == 0);
	memset(page[0], 0, PAGE);
	memset(page[1], 0, PAGE);
	CHECK("read it, the pages swapped",
	    transfer(&q, 2, 8, 16, gpa[1], gpa[0]) == 0);
	CHECK("the data is right", memcmp(page[1], want, PAGE) == 0 &&
	    memcmp(page[0], want + PAGE, PAGE) == 0);
	CHECK("beyond the end is refused",
	    (transfer(&q, 2, blocks, 1, gpa[0], 0) & 0x7ff) == 0x080);
	CHECK("memory that is not there is refused",
	    transfer(&q, 2, 0, 1, 0x10, 0) != 0);

	/* Around the ring more than once: the phase turns. */
	for (i = 0; i < 3 * IO_ENTRIES; i++) {
		fill(page[0], BLOCK, (unsigned)i);
		if (transfer(&q, 1, (uint64_t)(i + 32), 1, gpa[0], 0) != 0)
			break;
	}
	CHECK("three times around the queue", i == 3 * IO_ENTRIES);
	CHECK("the last block", transfer(&q, 2, blocks - 1, 1, gpa[1], 0) == 0);
	CHECK("delete the queue pair", delete_pair(admin, 1));
}

static void
check_life(struct pci_devinst *pi)
{
	struct queue admin;
	uint64_t gpa;
	uint8_t *page;
	int cap;

	page = guest_page(&gpa);
	CHECK("disabled at first", reg_read(pi, REG_CSTS) == 0 &&
	    (reg_read(pi, REG_CC) & 1) == 0);
	CHECK("CAP by 8 bytes and by 4",
	    devhost_bar_read(pi, 0, REG_CAP, 8) ==
	    (reg_read(pi, REG_CAP) |
	    (uint64_t)reg_read(pi, REG_CAP + 4) << 32));
	CHECK("enable", enable(pi, &admin));
	check_masks(pi, &admin, gpa);
	CHECK("the serial number of the option",
	    memcmp(page + 4, "C-ABI               ", 20) == 0);
	CHECK("identify the namespace", identify(&admin, 0, 1, gpa) == 0);
	CHECK("64 MiB in blocks of 512 bytes",
	    page[0] == 0 && page[1] == 0 && page[2] == 2 &&
	    page[128 + 4 * (page[26] & 0xf) + 2] == 9);
	check_io(&admin, 64 << 11);

	reg_write(pi, REG_CC, CC_ENABLE | CC_SHN_NORMAL);
	CHECK("shutdown", csts_wait(pi, CSTS_SHST, CSTS_SHST_DONE));
	reg_write(pi, REG_CC, 0);
	CHECK("disable", csts_wait(pi, CSTS_RDY, 0));

	CHECK("enable again", enable(pi, &admin));
	cap = cap_find(pi, 0x10);
	devhost_cfg_write(pi, cap + 8, 2, 0x8000);
	CHECK("function level reset", csts_wait(pi, CSTS_RDY, 0) &&
	    (reg_read(pi, REG_CC) & 1) == 0);
	CHECK("its bit reads 0", devhost_cfg_read(pi, cap + 8, 2) == 0);
	CHECK("MSI-X is as at first",
	    devhost_cfg_read(pi, cap_find(pi, 0x11) + 2, 2) == 16 &&
	    devhost_bar_read(pi, MSIX_BAR, 12, 4) == 1);
	CHECK("enable after the reset", enable(pi, &admin));
	CHECK("identify after the reset", identify(&admin, 1, 0, gpa) == 0);
}

static void
check_file(struct vmctx *ctx, const char *path)
{
	char option[1024];
	struct pci_devinst *pi;
	struct queue admin, q;
	uint64_t gpa;
	uint8_t *page, got[PAGE];
	FILE *file;

	snprintf(option, sizeof(option), "0:5:0,nvme,%s,sectsz=512", path);
	pi = device(ctx, option);
	CHECK("a device on a file", pi != NULL);
	if (pi == NULL)
		return;
	CHECK("its path is in the configuration",
	    config_is("pci.0.5.0.path", path));
	page = guest_page(&gpa);
	fill(page, PAGE, 11);
	CHECK("enable it", enable(pi, &admin));
	CHECK("create its queue pair", create_pair(&admin, &q, 1));
	CHECK("write 4 KiB", transfer(&q, 1, 64, 8, gpa, 0) == 0);
	CHECK("flush the file", flush(&q) == 0);
	memset(got, 0, sizeof(got));
	file = fopen(path, "rb");
	CHECK("the file has it", file != NULL &&
	    fseek(file, 64 * BLOCK, SEEK_SET) == 0 &&
	    fread(got, 1, sizeof(got), file) == sizeof(got) &&
	    memcmp(got, page, sizeof(got)) == 0);
	if (file != NULL)
		fclose(file);
	CHECK("take it down", pci_nvme_teardown(pi) == 0);
}

static void
check_refusals(struct vmctx *ctx)
{
	devhost_log_set(collect);
	said[0] = '\0';
	CHECK("no device with maxq=abc",
	    device(ctx, "6,nvme,ram=1,maxq=abc") == NULL);
	CHECK("and a line says why", strstr(said, "maxq=abc") != NULL);
	said[0] = '\0';
	CHECK("no device on a missing file",
	    device(ctx, "6,nvme,/nonexistent/disk") == NULL);
	CHECK("and a line names it",
	    strstr(said, "/nonexistent/disk") != NULL);
	said[0] = '\0';
	CHECK("no slot 32", device(ctx, "32,nvme,ram=1") == NULL);
	CHECK("no device but ours", device(ctx, "6,nvm,ram=1") == NULL);
	devhost_log_set(NULL);
}

int
main(int argc, char **argv)
{
	struct pci_devinst *pi;
	struct vmctx *ctx;

	if (argc != 2) {
		fprintf(stderr, "usage: c_abi FILE\n");
		return (2);
	}
	ctx = guest_machine();
	CHECK("a machine", ctx != NULL);
	pi = device(ctx, "4,nvme,ram=64,sectsz=512,ser=C-ABI");
	CHECK("a device", pi != NULL);
	if (pi != NULL) {
		CHECK("the options are in the configuration",
		    config_is("pci.0.4.0.device", "nvme") &&
		    config_is("pci.0.4.0.ram", "64") &&
		    config_is("pci.0.4.0.ser", "C-ABI"));
		CHECK("a value lasts until the next call only",
		    value_is_spoilt());
		CHECK("the machine's name",
		    strcmp(nvme_host_vm_name(), "vm0") == 0);
		check_pci(pi);
		check_life(pi);
		/* While the first one lives on. */
		check_file(ctx, argv[1]);
		CHECK("take the first one down", pci_nvme_teardown(pi) == 0);
	}
	check_refusals(ctx);
	CHECK("no stray messages", guest_strays() == 0);

	printf("%d passed, %d failed\n", passed, failed);
	return (failed == 0 ? 0 : 1);
}
