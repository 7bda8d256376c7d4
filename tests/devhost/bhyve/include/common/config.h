/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Stand-in for bhyve's configuration: a tree of strings.
 */

#ifndef __CONFIG_H__
#define	__CONFIG_H__

#include <sys/nv.h>

/* Empties the tree; nodes handed out before are gone. */
void	 init_config(void);

/* The node at a dotted path; create makes what is missing. NULL where a value
 * is in the way, find also where there is none. */
nvlist_t *create_config_node(const char *path);
nvlist_t *find_config_node(const char *path);

/* A value, valid until the next call of either; NULL if it is not set. A
 * parent of NULL stands for the root. */
const char *get_config_value_node(const nvlist_t *parent, const char *name);
const char *get_config_value(const char *path);

void	 set_config_value_node(nvlist_t *parent, const char *name,
	    const char *value);
void	 set_config_value(const char *path, const char *value);

#endif /* !__CONFIG_H__ */
