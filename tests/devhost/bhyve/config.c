/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Stand-in for bhyve's configuration: a tree of names and strings.
 */

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

struct entry {
	struct entry	*next;
	char		*name;
	char		*value;		/* NULL for a node */
	nvlist_t	*node;		/* NULL for a value */
};

struct nvlist {
	struct entry	*first;
};

static struct nvlist root;

/* What get_config_value_node() returned last. */
static char last_value[8192];

static void *
must(void *p)
{
	if (p == NULL)
		abort();
	return (p);
}

static void
clear(nvlist_t *nvl)
{
	struct entry *e;

	while ((e = nvl->first) != NULL) {
		nvl->first = e->next;
		if (e->node != NULL) {
			clear(e->node);
			free(e->node);
		}
		free(e->name);
		free(e->value);
		free(e);
	}
}

/* The entry whose name is the first len bytes of `name', which is added if
 * `add' is set. */
static struct entry *
lookup(nvlist_t *nvl, const char *name, size_t len, bool add)
{
	struct entry *e, **at;

	for (at = &nvl->first; (e = *at) != NULL; at = &e->next) {
		if (strlen(e->name) == len && memcmp(e->name, name, len) == 0)
			return (e);
	}
	if (!add)
		return (NULL);
	e = must(calloc(1, sizeof(*e)));
	e->name = must(malloc(len + 1));
	memcpy(e->name, name, len);
	e->name[len] = '\0';
	*at = e;
	return (e);
}

/* The node at the first len bytes of a dotted path. */
static nvlist_t *
walk(const char *path, size_t len, bool create)
{
	const char *end;
	struct entry *e;
	nvlist_t *nvl;
	size_t part;

	nvl = &root;
	while (len > 0) {
		end = memchr(path, '.', len);
		part = end == NULL ? len : (size_t)(end - path);
		e = lookup(nvl, path, part, create);
		if (e == NULL || e->value != NULL)
			return (NULL);
		if (e->node == NULL)
			e->node = must(calloc(1, sizeof(*e->node)));
		nvl = e->node;
		path += part;
		len -= part;
		if (len > 0) {
			path++;
			len--;
		}
	}
	return (nvl);
}

void
init_config(void)
{
	clear(&root);
}

nvlist_t *
create_config_node(const char *path)
{
	return (walk(path, strlen(path), true));
}

nvlist_t *
find_config_node(const char *path)
{
	return (walk(path, strlen(path), false));
}

const char *
get_config_value_node(const nvlist_t *parent, const char *name)
{
	struct entry *e;
	nvlist_t *nvl;

	/*
	 * The result of the call before is spoilt: whoever still uses it gets
	 * to see that.
	 */
	memset(last_value, '?', strlen(last_value));

	/* lookup() changes nothing unless it is told to add. */
	memcpy(&nvl, &parent, sizeof(nvl));
	e = lookup(nvl == NULL ? &root : nvl, name, strlen(name), false);
	if (e == NULL || e->value == NULL)
		return (NULL);
	assert(strlen(e->value) < sizeof(last_value));
	strcpy(last_value, e->value);
	return (last_value);
}

const char *
get_config_value(const char *path)
{
	const char *dot;
	nvlist_t *nvl;

	dot = strrchr(path, '.');
	if (dot == NULL)
		return (get_config_value_node(NULL, path));
	nvl = walk(path, (size_t)(dot - path), false);
	return (nvl == NULL ? NULL : get_config_value_node(nvl, dot + 1));
}

void
set_config_value_node(nvlist_t *parent, const char *name, const char *value)
{
	struct entry *e;
	char *copy;

	/* The value may be what was got last. */
	copy = must(strdup(value));
	e = lookup(parent == NULL ? &root : parent, name, strlen(name), true);
	if (e->node != NULL) {
		fprintf(stderr, "%s is a node, not a value\n", name);
		exit(4);
	}
	free(e->value);
	e->value = copy;
}

void
set_config_value(const char *path, const char *value)
{
	const char *dot;
	nvlist_t *nvl;

	dot = strrchr(path, '.');
	if (dot == NULL) {
		set_config_value_node(NULL, path, value);
		return;
	}
	nvl = walk(path, (size_t)(dot - path), true);
	if (nvl == NULL) {
		fprintf(stderr, "%s: a value is in the way\n", path);
		exit(4);
	}
	set_config_value_node(nvl, dot + 1, value);
}

const char *
nvlist_next(const nvlist_t *nvl, int *typep, void **cookiep)
{
	struct entry *e;

	e = *cookiep;
	e = e == NULL ? nvl->first : e->next;
	*cookiep = e;
	if (e == NULL)
		return (NULL);
	*typep = e->node != NULL ? NV_TYPE_NVLIST : NV_TYPE_STRING;
	return (e->name);
}
