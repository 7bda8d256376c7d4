/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The guest of the C program: its memory, its interrupts, and as much of an
 * NVMe driver as the checks need.
 */

#ifndef _GUEST_H_
#define	_GUEST_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pci_devinst;
struct vmctx;

#define	PAGE		4096
#define	GUEST_BASE	0x100000	/* guest address of the memory */
#define	GUEST_PAGES	512
#define	MSI_ADDRESS	0xfee00000
#define	VECTORS		64

/* Registers in BAR 0. */
#define	REG_CAP		0x00
#define	REG_VS		0x08
#define	REG_CC		0x14
#define	REG_CSTS	0x1c
#define	REG_AQA		0x24
#define	REG_ASQ		0x28
#define	REG_ACQ		0x30
#define	REG_DOORBELLS	0x1000

#define	CC_ENABLE	0x00460001
#define	CC_SHN_NORMAL	0x00004000
#define	CSTS_RDY	0x1
#define	CSTS_SHST	0xc
#define	CSTS_SHST_DONE	0x8

#define	MSIX_BAR	4

struct command {
	uint8_t		opcode;
	uint8_t		flags;
	uint16_t	cid;
	uint32_t	nsid;
	uint64_t	reserved;
	uint64_t	metadata;
	uint64_t	prp1;
	uint64_t	prp2;
	uint32_t	cdw[6];		/* 10 to 15 */
};

struct completion {
	uint32_t	result;
	uint32_t	reserved;
	uint16_t	sqhd;
	uint16_t	sqid;
	uint16_t	cid;
	uint16_t	status;		/* with the phase in bit 0 */
};

/* A submission and a completion queue of the same number. */
struct queue {
	struct pci_devinst	*pi;
	uint64_t		 sq_gpa, cq_gpa;
	struct command		*sq;
	struct completion	*cq;
	uint16_t		 id, entries, tail, head, phase, cid;
};

/* A machine with this guest's memory and interrupts. */
struct vmctx	*guest_machine(void);

/* A zeroed page of the guest's, here and there. */
void		*guest_page(uint64_t *gpa);

/* Messages that vector has brought. */
unsigned	 guest_interrupts(int vector);

/* Messages that went to another address or had a senseless number. */
unsigned	 guest_strays(void);

/* Waits ten seconds at most until vector has brought so many messages. */
bool		 guest_wait_interrupts(int vector, unsigned many);

/* A pause of a millisecond. */
void		 guest_pause(void);

uint32_t	 reg_read(struct pci_devinst *pi, uint64_t reg);
void		 reg_write(struct pci_devinst *pi, uint64_t reg,
		    uint32_t value);

/* Waits ten seconds at most until the bits of CSTS have a value. */
bool		 csts_wait(struct pci_devinst *pi, uint32_t mask,
		    uint32_t value);

/* A queue in fresh pages; the controller is not told. */
void		 queue_make(struct queue *q, struct pci_devinst *pi,
		    uint16_t id, uint16_t entries);

/* Submits *c without waiting. */
void		 queue_submit(struct queue *q, struct command *c);

/* Waits ten seconds at most for the next completion; its status (without the
 * phase), or -1 if none comes or it is not the last command's. */
int		 queue_wait(struct queue *q, uint32_t *result);

/* Both. */
int		 queue_run(struct queue *q, struct command *c,
		    uint32_t *result);

/* The offset of a capability in configuration space, 0 without it. */
int		 cap_find(struct pci_devinst *pi, int id);

/* Gives a vector its message, masked or not. */
void		 msix_program(struct pci_devinst *pi, int vector, bool masked);
void		 msix_mask(struct pci_devinst *pi, int vector, bool masked);

#endif /* !_GUEST_H_ */
