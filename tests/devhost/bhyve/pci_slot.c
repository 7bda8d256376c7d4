/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Stand-in for bhyve's slots: devices of the linker set, and the options that
 * put them into the configuration.
 */

#include <sys/types.h>
#include <sys/linker_set.h>
#include <sys/nv.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "debug.h"
#include "pci_emul.h"
#include "pci_slot.h"

#define	MAXBUSES	256

SET_DECLARE(pci_devemu_set, struct pci_devemu);

struct pci_devemu *
slot_device(const char *name)
{
	struct pci_devemu **pde;

	SET_FOREACH(pde, pci_devemu_set) {
		if (strcmp((*pde)->pe_emu, name) == 0)
			return (*pde);
	}
	return (NULL);
}

int
pci_parse_legacy_config(nvlist_t *nvl, const char *opt)
{
	char *copy, *name, *next, *value;

	if (opt == NULL)
		return (0);
	copy = strdup(opt);
	if (copy == NULL)
		return (-1);
	for (name = copy; name != NULL; name = next) {
		next = strchr(name, ',');
		if (next != NULL)
			*next++ = '\0';
		value = strchr(name, '=');
		if (value != NULL)
			*value++ = '\0';
		set_config_value_node(nvl, name,
		    value != NULL ? value : "true");
	}
	free(copy);
	return (0);
}

int
pci_parse_slot(char *opt)
{
	char path[32], *config, *emul, *slot;
	struct pci_devemu *pde;
	nvlist_t *nvl;
	int bus, error, func, num;

	error = -1;
	slot = strdup(opt);
	if (slot == NULL)
		return (-1);
	config = NULL;
	emul = strchr(slot, ',');
	if (emul != NULL) {
		*emul++ = '\0';
		config = strchr(emul, ',');
		if (config != NULL)
			*config++ = '\0';
	} else {
		EPRINTLN("Invalid PCI slot info field \"%s\"", opt);
		goto done;
	}

	if (sscanf(slot, "%d:%d:%d", &bus, &num, &func) != 3) {
		bus = 0;
		if (sscanf(slot, "%d:%d", &num, &func) != 2) {
			func = 0;
			if (sscanf(slot, "%d", &num) != 1)
				num = -1;
		}
	}
	if (bus < 0 || bus >= MAXBUSES || num < 0 || num >= MAXSLOTS ||
	    func < 0 || func >= MAXFUNCS) {
		EPRINTLN("Invalid PCI slot info field \"%s\"", opt);
		goto done;
	}
	pde = slot_device(emul);
	if (pde == NULL) {
		EPRINTLN("pci slot %d:%d:%d: unknown device \"%s\"", bus, num,
		    func, emul);
		goto done;
	}
	snprintf(path, sizeof(path), "pci.%d.%d.%d", bus, num, func);
	if (find_config_node(path) != NULL) {
		EPRINTLN("pci slot %d:%d:%d already occupied!", bus, num, func);
		goto done;
	}
	nvl = create_config_node(path);
	set_config_value_node(nvl, "device",
	    pde->pe_alias != NULL ? pde->pe_alias : pde->pe_emu);
	if (pde->pe_legacy_config != NULL)
		error = (*pde->pe_legacy_config)(nvl, config);
	else
		error = pci_parse_legacy_config(nvl, config);
done:
	free(slot);
	return (error);
}

nvlist_t *
slot_first(int *bus, int *slot, int *func)
{
	char path[32];
	nvlist_t *nvl;

	for (*bus = 0; *bus < MAXBUSES; (*bus)++) {
		snprintf(path, sizeof(path), "pci.%d", *bus);
		if (find_config_node(path) == NULL)
			continue;
		for (*slot = 0; *slot < MAXSLOTS; (*slot)++) {
			for (*func = 0; *func < MAXFUNCS; (*func)++) {
				snprintf(path, sizeof(path), "pci.%d.%d.%d",
				    *bus, *slot, *func);
				nvl = find_config_node(path);
				if (nvl != NULL)
					return (nvl);
			}
		}
	}
	return (NULL);
}
