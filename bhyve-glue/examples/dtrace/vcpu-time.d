#!/usr/sbin/dtrace -s
/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * How long the device holds the guest's CPUs: the time of each access to its
 * registers, doorbells apart from the rest, in nanoseconds, and how many there
 * are in a second.
 *
 *	dtrace -s vcpu-time.d -p PID		PID is that of bhyve
 *
 * Doorbells should take a few microseconds.  With inline=true, and for small
 * commands to a RAM disk, the I/O itself is in that time.
 */

#pragma D option quiet

pid$target::pci_nvme_write:entry
{
	self->began = timestamp;
	self->doorbell = arg1 == 0 && arg2 >= 0x1000;
}

pid$target::pci_nvme_write:return
/self->began/
{
	this->what = self->doorbell ? "doorbells" : "registers";
	@time[this->what] = quantize(timestamp - self->began);
	@count[this->what] = count();
	self->began = 0;
	self->doorbell = 0;
}

tick-1s
{
	printf("%Y", walltimestamp);
	printa("  %s %@d/s", @count);
	printf("\n");
	trunc(@count);
}

END
{
	printa("%s, ns %@d\n", @time);
}
