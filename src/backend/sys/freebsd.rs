// SPDX-License-Identifier: BSD-2-Clause

//! FreeBSD: regular files, and disks, which are character devices without a
//! cache in the kernel.
//!
//! # Synchronous calls, and why not aio(4)
//!
//! A worker is one I/O in the store, and `ioslots` is the depth. `aio(4)` with
//! `kqueue(2)` would let fewer threads keep as many, but:
//!
//! * On files it is the kernel's own pool of threads, 32 for the whole host,
//!   and a 4 KiB read from the cache costs 5 to 8 times what `pread(2)` does.
//! * On devices it is asynchronous, at 0.75 to 1.3 times the cost of `pread`,
//!   for at most 16 segments (`vfs.aio.max_buf_aio`) of at most 1 MiB together,
//!   each a multiple of the sector; else EOPNOTSUPP. A guest's 128 KiB are
//!   often 32 scattered pages, so a buffer and a synchronous way would be
//!   needed beside it.
//! * It cannot flush a device, which is what a database waits for, and 256
//!   requests at once are all that a process gets for all its disks.
//!
//! So it saves no CPU where most disks are, and more depth on a device is had
//! by `ioslots`, up to 256. `docs/storage.md` tells users.
//!
//! # The size
//!
//! EVFILT_VNODE of `kevent(2)` tells of a file that becomes larger or smaller:
//! `ftruncate(2)` is NOTE_ATTRIB, and a write of somebody else beyond the end
//! is NOTE_EXTEND, for a guest is never let there. NOTE_WRITE is not asked for:
//! it would be one event for each write of the guest. As it is, a file that is
//! watched costs each write one look at its attributes in the kernel, and each
//! read and write a look at who watches. A file on NFS that another host
//! changes gives no event, so a file is asked all the same, once a minute.
//!
//! A disk device is asked, DIOCGMEDIASIZE every two seconds. NOTE_ATTRIB comes
//! from md(4), but not from a disk that is gone, and what ZFS does with its
//! volumes is not known.
//!
//! # The write cache
//!
//! A volatile write cache is reported for every file and device that is written
//! to. Nothing here proves that there is none: a device whose disk has a cache
//! takes `fsync(2)`, O_SYNC and O_DIRECT and flushes nothing, a disk without
//! one takes DIOCGFLUSH, and UFS sends no flush to the disk below it.

use super::{
    Calls, Errno, FileType, Kind, Policy, Request, Sectors, ask_attribute, ask_u32, ask_u64,
};
use crate::memory::{Segment, total_len};

/// The policy of FreeBSD.
#[derive(Debug)]
pub struct FreeBsd;

/// A device runs each segment as a request of its own, one after the other, so
/// that many small segments cost many times one large request: 32 of 4 KiB take
/// 29 times as long as one of 128 KiB on an NVMe disk, whose copy takes a few
/// microseconds. Requests in parallel would ask the disk for 32 times as many
/// operations for the same bytes. From this mean length in bytes on, a request
/// is long enough for that not to matter, and a copy is the greater cost.
const LONG: u64 = 128 * 1024;

impl Policy for FreeBsd {
    const ALLOWED: &'static str = "an existing regular file or disk device";

    fn kind(file_type: FileType) -> Option<Kind> {
        match file_type {
            FileType::Regular => Some(Kind::Regular),
            FileType::Character => Some(Kind::Device),
            FileType::Directory | FileType::Block | FileType::Other => None,
        }
    }

    fn size<C: Calls>(calls: &C, file: &C::File, kind: Kind) -> Result<u64, Errno> {
        match kind {
            Kind::Regular => Ok(calls.fstat(file)?.size),
            Kind::Device => ask_u64(calls, file, Request::DIOCGMEDIASIZE),
        }
    }

    fn tells_of_size(kind: Kind) -> bool {
        kind == Kind::Regular
    }

    fn sectors<C: Calls>(
        calls: &C,
        file: &C::File,
        kind: Kind,
        _direct: bool,
    ) -> Result<Sectors, Errno> {
        match kind {
            Kind::Regular => Ok(Sectors { logical: 512, physical: calls.fstat(file)?.block_size }),
            Kind::Device => {
                let logical = ask_u32(calls, file, Request::DIOCGSECTORSIZE)?;
                // A provider that begins inside a stripe has no block of ours
                // at a stripe's start: better to promise nothing. One that
                // cannot tell its stripes has none.
                let stripe = ask_u64(calls, file, Request::DIOCGSTRIPESIZE).unwrap_or(0);
                let begin = ask_u64(calls, file, Request::DIOCGSTRIPEOFFSET).unwrap_or(0);
                Ok(Sectors { logical, physical: if begin == 0 { stripe } else { 0 } })
            }
        }
    }

    /// A read-only device does not open for writing.
    fn refuses_writes<C: Calls>(_calls: &C, _file: &C::File, _kind: Kind) -> Result<bool, Errno> {
        Ok(false)
    }

    /// Files take anything. A device refuses a list with a segment that is no
    /// multiple of its sector, whatever the sum, and is slow at many small
    /// ones.
    fn takes(kind: Kind, sector: u32, segments: &[Segment]) -> bool {
        match kind {
            Kind::Regular => true,
            Kind::Device => {
                let whole = |s: &Segment| s.len().is_multiple_of(sector as usize);
                let long = |n: u64| total_len(segments) >= n.saturating_mul(LONG);
                segments.iter().all(whole) && (segments.len() == 1 || long(segments.len() as u64))
            }
        }
    }

    /// `fsync(2)` on a device succeeds and does nothing: only DIOCGFLUSH makes
    /// the disk flush its cache.
    fn flush<C: Calls>(calls: &C, file: &C::File, kind: Kind) -> Result<(), Errno> {
        match kind {
            Kind::Regular => calls.fsync(file),
            Kind::Device => match calls.ioctl(file, Request::DIOCGFLUSH, &mut []) {
                // The disk has no cache that could be flushed: what it has
                // completed is as stable as it gets.
                Err(Errno(libc::EOPNOTSUPP)) => Ok(()),
                result => result,
            },
        }
    }

    /// Devices take O_SYNC and make nothing of it.
    fn syncs_writes(kind: Kind) -> bool {
        kind == Kind::Regular
    }

    /// UFS takes fspacectl(2) too, but writes zeroes and frees nothing.
    fn can_deallocate<C: Calls>(calls: &C, file: &C::File, kind: Kind) -> bool {
        match kind {
            Kind::Regular => calls.deallocates(file).unwrap_or(false),
            Kind::Device => ask_attribute(calls, file, "GEOM::candelete").is_ok_and(|can| can != 0),
        }
    }

    /// What a device returns after DIOCGDELETE is the disk's own business.
    fn deallocated_is_zero(kind: Kind) -> bool {
        kind == Kind::Regular
    }

    fn deallocate<C: Calls>(
        calls: &C,
        file: &C::File,
        kind: Kind,
        offset: u64,
        len: u64,
    ) -> Result<(), Errno> {
        match kind {
            Kind::Regular => free_space(calls, file, offset, len),
            Kind::Device => {
                let mut range = [0; 16];
                range[..8].copy_from_slice(&offset.to_ne_bytes());
                range[8..].copy_from_slice(&len.to_ne_bytes());
                calls.ioctl(file, Request::DIOCGDELETE, &mut range)
            }
        }
    }

    fn zero<C: Calls>(_calls: &C, _file: &C::File, _offset: u64, _len: u64) -> Result<(), Errno> {
        Err(Errno(libc::EOPNOTSUPP))
    }

    /// Buffers that could not be written stay dirty, and devices have none.
    fn forgets(_kind: Kind, _direct: bool) -> bool {
        false
    }
}

/// `fspacectl(2)` may do a part and say what is left. A call that leaves as
/// much as there was has given up.
fn free_space<C: Calls>(
    calls: &C,
    file: &C::File,
    mut offset: u64,
    mut len: u64,
) -> Result<(), Errno> {
    while len > 0 {
        let (next, left) = super::retry(|| calls.fspacectl(file, offset, len))?;
        if left >= len {
            return Err(Errno(libc::EIO));
        }
        (offset, len) = (next, left);
    }
    Ok(())
}
