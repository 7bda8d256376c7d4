// SPDX-License-Identifier: BSD-2-Clause

//! Linux: regular files and block devices, both behind the page cache.

use super::{Calls, Errno, Fallocate, FileType, Kind, Policy, Request, Sectors, ask_u32, ask_u64};
use crate::memory::{Region, Segment};

/// The policy of Linux.
#[derive(Debug)]
pub struct Linux;

impl Policy for Linux {
    const ALLOWED: &'static str = "an existing regular file or block device";

    fn kind(file_type: FileType) -> Option<Kind> {
        match file_type {
            FileType::Regular => Some(Kind::Regular),
            FileType::Block => Some(Kind::Device),
            FileType::Directory | FileType::Character | FileType::Other => None,
        }
    }

    fn size<C: Calls>(calls: &C, file: &C::File, kind: Kind) -> Result<u64, Errno> {
        match kind {
            Kind::Regular => Ok(calls.fstat(file)?.size),
            Kind::Device => ask_u64(calls, file, Request::BLKGETSIZE64),
        }
    }

    /// The stand-in asks.
    fn tells_of_size(_kind: Kind) -> bool {
        false
    }

    fn sectors<C: Calls>(
        calls: &C,
        file: &C::File,
        kind: Kind,
        direct: bool,
    ) -> Result<Sectors, Errno> {
        match kind {
            Kind::Regular => {
                let logical = if direct { direct_unit(calls, file)? } else { 512 };
                Ok(Sectors { logical, physical: calls.fstat(file)?.block_size })
            }
            Kind::Device => Ok(Sectors {
                logical: ask_u32(calls, file, Request::BLKSSZGET)?,
                physical: u64::from(ask_u32(calls, file, Request::BLKPBSZGET)?),
            }),
        }
    }

    fn refuses_writes<C: Calls>(calls: &C, file: &C::File, kind: Kind) -> Result<bool, Errno> {
        match kind {
            Kind::Regular => Ok(false),
            Kind::Device => Ok(ask_u32(calls, file, Request::BLKROGET)? != 0),
        }
    }

    /// Neither the page cache nor, with aligned memory, O_DIRECT needs a
    /// buffer of ours.
    fn takes(_kind: Kind, _sector: u32, _segments: &[Segment]) -> bool {
        true
    }

    /// Writes the page cache back and flushes the disk's own cache, for files
    /// and devices alike. The size never changes, so data is all there is.
    fn flush<C: Calls>(calls: &C, file: &C::File, _kind: Kind) -> Result<(), Errno> {
        calls.fdatasync(file)
    }

    fn syncs_writes(_kind: Kind) -> bool {
        true
    }

    /// Which file systems and devices cannot is not known before it is tried.
    fn can_deallocate<C: Calls>(_calls: &C, _file: &C::File, _kind: Kind) -> bool {
        true
    }

    fn deallocated_is_zero(_kind: Kind) -> bool {
        true
    }

    fn deallocate<C: Calls>(
        calls: &C,
        file: &C::File,
        _kind: Kind,
        offset: u64,
        len: u64,
    ) -> Result<(), Errno> {
        calls.fallocate(file, Fallocate::PunchHole, offset, len)
    }

    fn zero<C: Calls>(calls: &C, file: &C::File, offset: u64, len: u64) -> Result<(), Errno> {
        calls.fallocate(file, Fallocate::ZeroRange, offset, len)
    }

    /// Pages that could not be written back are marked clean, and the error is
    /// reported once.
    fn forgets(_kind: Kind, direct: bool) -> bool {
        !direct
    }
}

/// The smallest unit that O_DIRECT reads of this file: that of the disk below
/// its file system, found by trying.
fn direct_unit<C: Calls>(calls: &C, file: &C::File) -> Result<u32, Errno> {
    const UNITS: [u32; 4] = [512, 1024, 2048, 4096];
    let buffer = Region::zeroed(4096).ok_or(Errno(libc::ENOMEM))?;
    for unit in UNITS {
        let Some(segment) = buffer.segment().slice(0, unit as usize) else { break };
        match super::retry(|| calls.preadv(file, 0, &[segment])) {
            Err(Errno(libc::EINVAL)) => {}
            Err(errno) => return Err(errno),
            Ok(_) => return Ok(unit),
        }
    }
    Err(Errno(libc::EINVAL))
}
