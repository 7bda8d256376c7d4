#!/usr/sbin/dtrace -s
/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Interrupts a second, by vector: 0 is the admin queue's, the others are those
 * of the I/O queues.
 *
 *	dtrace -s interrupts.d -p PID		PID is that of bhyve
 *
 * Far fewer interrupts than commands is as it should be: one covers many.
 */

#pragma D option quiet

pid$target::nvme_host_msix_raise:entry
{
	@raised[arg1] = count();
}

tick-1s
{
	printf("%Y\n", walltimestamp);
	printa("  vector %5d  %@d/s\n", @raised);
	trunc(@raised);
}
