#!/usr/sbin/dtrace -s
/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * How long the host takes for each system call that the device makes for the
 * guest's I/O, in microseconds, by call and thread: reads, writes, flushes
 * (fsync for files, ioctl for disks) and deallocations (fspacectl for files,
 * ioctl for disks).
 *
 *	dtrace -s store-latency.d -p PID	PID is that of bhyve
 *
 * The device's threads are named nvme-SLOT:FUNCTION.  Where the time is
 * here, the disk or file system is what is slow; where it is not, look at
 * vcpu-time.d.
 */

#pragma D option quiet

syscall::pread*:entry,
syscall::pwrite*:entry,
syscall::fsync:entry,
syscall::fdatasync:entry,
syscall::ioctl:entry,
syscall::fspacectl:entry
/pid == $target && substr(stringof(curthread->td_name), 0, 5) == "nvme-"/
{
	self->began = timestamp;
}

syscall::pread*:return,
syscall::pwrite*:return,
syscall::fsync:return,
syscall::fdatasync:return,
syscall::ioctl:return,
syscall::fspacectl:return
/self->began/
{
	@time[probefunc, stringof(curthread->td_name)] =
	    quantize((timestamp - self->began) / 1000);
	self->began = 0;
}

END
{
	printa("%s on %s, us %@d\n", @time);
}
