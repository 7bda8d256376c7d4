// SPDX-License-Identifier: BSD-2-Clause

//! FreeBSD: regular files, and disks, which are character devices without a
//! cache in the kernel.

use super::{Calls, Errno, FileType, Kind, Policy, Request, Sectors, ask_u32, ask_u64};
use crate::memory::{Segment, total_len};

/// The policy of FreeBSD.
#[derive(Debug)]
pub struct FreeBsd;

/// A device runs each segment as a request of its own, one after the other, so
/// that many small segments cost many times one large request. From this mean
/// length in bytes on, a request is long enough for that not to matter, and a
/// copy is the greater cost.
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

    /// Buffers that could not be written stay dirty, and devices have none.
    fn forgets(_kind: Kind, _direct: bool) -> bool {
        false
    }
}
