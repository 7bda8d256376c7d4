/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The main program of the model that tests/overlay.sh builds: it lists the
 * devices, or starts the one that -s names.
 */

#include <sys/types.h>
#include <sys/linker_set.h>
#include <sys/nv.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vmmapi.h>

#include "config.h"
#include "debug.h"
#include "pci_emul.h"

#include "devhost.h"
#include "pci_slot.h"

SET_DECLARE(pci_devemu_set, struct pci_devemu);

static void *
map_nothing(void *arg __unused, uint64_t gpa __unused, size_t len __unused)
{
	return (NULL);
}

static void
raise_nothing(void *arg __unused, uint64_t address __unused,
    uint32_t data __unused)
{
}

int
main(int argc, char *argv[])
{
	struct pci_devemu **entry;
	struct vmctx *ctx;

	if (argc != 3 || strcmp(argv[1], "-s") != 0)
		return (2);
	if (strcmp(argv[2], "help") == 0) {
		SET_FOREACH(entry, pci_devemu_set)
			printf("%s\n", (*entry)->pe_emu);
		return (0);
	}
	init_config();
	set_config_value("name", "vm0");
	if (pci_parse_slot(argv[2]) != 0)
		return (4);
	ctx = devhost_vm_open(NULL, map_nothing, raise_nothing);
	if (ctx == NULL || devhost_init(ctx) == NULL)
		return (4);
	SET_FOREACH(entry, pci_devemu_set) {
#ifdef MODEL_UNPLUG
		if (strcmp((*entry)->pe_emu, "nvme") == 0)
			printf("%s\n", (*entry)->pe_teardown != NULL ?
			    "can be unplugged" : "cannot be unplugged");
#endif
	}
	exit(0);
}
