/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Stand-in for libvmmapi and bhyve's messages.
 */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <vmmapi.h>

#include "debug.h"
#include "devhost.h"
#include "machine.h"

struct vmctx {
	void		*arg;
	devhost_map_fn	*map;
	devhost_msi_fn	*msi;
};

static devhost_log_fn *log_sink;

struct vmctx *
devhost_vm_open(void *arg, devhost_map_fn *map, devhost_msi_fn *msi)
{
	struct vmctx *ctx;

	ctx = malloc(sizeof(*ctx));
	if (ctx != NULL) {
		ctx->arg = arg;
		ctx->map = map;
		ctx->msi = msi;
	}
	return (ctx);
}

void
devhost_vm_close(struct vmctx *ctx)
{
	free(ctx);
}

void *
vm_map_gpa(struct vmctx *ctx, vm_paddr_t gaddr, size_t len)
{
	return (ctx->map(ctx->arg, gaddr, len));
}

void
machine_raise_msi(struct vmctx *ctx, uint64_t address, uint32_t data)
{
	ctx->msi(ctx->arg, address, data);
}

void
devhost_log_set(devhost_log_fn *sink)
{
	__atomic_store_n(&log_sink, sink, __ATOMIC_RELEASE);
}

void
devhost_eprintln(const char *fmt, ...)
{
	char line[4096];
	devhost_log_fn *sink;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);

	sink = __atomic_load_n(&log_sink, __ATOMIC_ACQUIRE);
	if (sink != NULL)
		sink(line);
	else
		fprintf(stderr, "%s\n", line);
}
