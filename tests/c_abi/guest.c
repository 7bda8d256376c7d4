/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The guest of the C program.
 */

#include <sys/types.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "devhost.h"
#include "guest.h"

#define	WAIT_MS		120000

static uint8_t memory[GUEST_PAGES * PAGE] __attribute__((aligned(PAGE)));
static size_t next_page;

static unsigned interrupts[VECTORS];
static unsigned strays;

static void *
map(void *arg, uint64_t gpa, size_t len)
{
	(void)arg;
	if (gpa < GUEST_BASE || gpa - GUEST_BASE > sizeof(memory) ||
	    len > sizeof(memory) - (gpa - GUEST_BASE))
		return (NULL);
	return (memory + (gpa - GUEST_BASE));
}

static void
msi(void *arg, uint64_t address, uint32_t data)
{
	(void)arg;
	if (address == MSI_ADDRESS && data < VECTORS)
		__atomic_fetch_add(&interrupts[data], 1, __ATOMIC_SEQ_CST);
	else
		__atomic_fetch_add(&strays, 1, __ATOMIC_SEQ_CST);
}

struct vmctx *
guest_machine(void)
{
	return (devhost_vm_open(NULL, map, msi));
}

void *
guest_page(uint64_t *gpa)
{
	if (next_page == GUEST_PAGES) {
		fprintf(stderr, "out of guest memory\n");
		exit(1);
	}
	*gpa = GUEST_BASE + next_page * PAGE;
	return (memory + next_page++ * PAGE);
}

unsigned
guest_interrupts(int vector)
{
	return (__atomic_load_n(&interrupts[vector], __ATOMIC_SEQ_CST));
}

unsigned
guest_strays(void)
{
	return (__atomic_load_n(&strays, __ATOMIC_SEQ_CST));
}

void
guest_pause(void)
{
	struct timespec ms = { 0, 1000000 };

	nanosleep(&ms, NULL);
}

bool
guest_wait_interrupts(int vector, unsigned many)
{
	int i;

	for (i = 0; i < WAIT_MS; i++) {
		if (guest_interrupts(vector) >= many)
			return (true);
		guest_pause();
	}
	return (false);
}

uint32_t
reg_read(struct pci_devinst *pi, uint64_t reg)
{
	return ((uint32_t)devhost_bar_read(pi, 0, reg, 4));
}

void
reg_write(struct pci_devinst *pi, uint64_t reg, uint32_t value)
{
	devhost_bar_write(pi, 0, reg, 4, value);
}

bool
csts_wait(struct pci_devinst *pi, uint32_t mask, uint32_t value)
{
	int i;

	for (i = 0; i < WAIT_MS; i++) {
		if ((reg_read(pi, REG_CSTS) & mask) == value)
			return (true);
		guest_pause();
	}
	return (false);
}

void
queue_make(struct queue *q, struct pci_devinst *pi, uint16_t id,
    uint16_t entries)
{
	memset(q, 0, sizeof(*q));
	q->pi = pi;
	q->id = id;
	q->entries = entries;
	q->phase = 1;
	q->sq = guest_page(&q->sq_gpa);
	q->cq = guest_page(&q->cq_gpa);
}

void
queue_submit(struct queue *q, struct command *c)
{
	c->cid = ++q->cid;
	q->sq[q->tail] = *c;
	q->tail = (uint16_t)((q->tail + 1) % q->entries);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	reg_write(q->pi, REG_DOORBELLS + q->id * 8, q->tail);
}

int
queue_wait(struct queue *q, uint32_t *result)
{
	struct completion *c;
	uint16_t status;
	int i;

	c = &q->cq[q->head];
	for (i = 0; i < WAIT_MS; i++) {
		status = __atomic_load_n(&c->status, __ATOMIC_ACQUIRE);
		if ((status & 1) == q->phase)
			break;
		guest_pause();
	}
	if (i == WAIT_MS) {
		fprintf(stderr, "queue %d: no completion, CSTS %#x\n", q->id,
		    reg_read(q->pi, REG_CSTS));
		return (-1);
	}
	if (c->cid != q->cid || c->sqid != q->id || c->sqhd != q->tail) {
		fprintf(stderr, "queue %d: completion of %d (%d), head %d\n",
		    q->id, c->cid, c->sqid, c->sqhd);
		return (-1);
	}
	if (result != NULL)
		*result = c->result;
	q->head = (uint16_t)((q->head + 1) % q->entries);
	if (q->head == 0)
		q->phase ^= 1;
	reg_write(q->pi, REG_DOORBELLS + q->id * 8 + 4, q->head);
	return (status >> 1);
}

int
queue_run(struct queue *q, struct command *c, uint32_t *result)
{
	queue_submit(q, c);
	return (queue_wait(q, result));
}

int
cap_find(struct pci_devinst *pi, int id)
{
	int at, hops;

	at = (int)devhost_cfg_read(pi, 0x34, 1);
	for (hops = 0; at >= 0x40 && hops < 48; hops++) {
		if ((int)devhost_cfg_read(pi, at, 1) == id)
			return (at);
		at = (int)devhost_cfg_read(pi, at + 1, 1);
	}
	return (0);
}

void
msix_program(struct pci_devinst *pi, int vector, bool masked)
{
	uint64_t at;

	at = (uint64_t)vector * 16;
	devhost_bar_write(pi, MSIX_BAR, at, 8, MSI_ADDRESS);
	devhost_bar_write(pi, MSIX_BAR, at + 8, 4, (uint64_t)vector);
	msix_mask(pi, vector, masked);
}

void
msix_mask(struct pci_devinst *pi, int vector, bool masked)
{
	devhost_bar_write(pi, MSIX_BAR, (uint64_t)vector * 16 + 12, 4, masked);
}
