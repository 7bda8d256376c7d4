// SPDX-License-Identifier: BSD-2-Clause

//! System calls, late, held, short or failing.

use super::strike::{End, Faults};
use bhyve_nvme::backend::SizeEvents;
use bhyve_nvme::backend::sys::{Calls, Errno, Fallocate, How, Request, Status, Way};
use bhyve_nvme::memory::{Segment, total_len};
use bhyve_nvme::sandbox::Rights;
use std::path::Path;
use std::sync::Arc;

/// The system calls `C`, of which each read, write and flush meets its faults
/// first. Opening a store and asking for its size never fails here.
pub struct FaultyCalls<C> {
    calls: C,
    faults: Faults,
}

impl<C: Calls> FaultyCalls<C> {
    /// `calls`, with `faults`.
    pub fn new(calls: C, faults: Faults) -> FaultyCalls<C> {
        FaultyCalls { calls, faults }
    }

    fn transfer(
        &self,
        way: Way,
        offset: u64,
        segments: &[Segment],
        call: impl FnOnce(&[Segment]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let len = total_len(segments);
        match self.faults.strike(way, offset, len) {
            End::Well => call(segments),
            End::Half => call(&first(segments, len.div_ceil(2))),
            End::Failed(errno) => Err(errno),
        }
    }

    /// A call that zeroes or deallocates is a write that cannot be short.
    fn erase<T>(
        &self,
        offset: u64,
        len: u64,
        call: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        match self.faults.strike(Way::Write, offset, len) {
            End::Well | End::Half => call(),
            End::Failed(errno) => Err(errno),
        }
    }

    fn flush(&self, call: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
        match self.faults.strike(Way::Flush, 0, 0) {
            End::Well | End::Half => call(),
            End::Failed(errno) => Err(errno),
        }
    }
}

/// The 64-bit number at byte `at` of an ioctl's argument.
fn number(argument: &[u8], at: usize) -> u64 {
    argument[at..at + 8].try_into().map_or(0, u64::from_ne_bytes)
}

/// The first `len` bytes of `segments`.
fn first(segments: &[Segment], len: u64) -> Vec<Segment> {
    let mut left = usize::try_from(len).unwrap_or(usize::MAX);
    let mut list = Vec::new();
    for segment in segments {
        let part = segment.len().min(left);
        list.extend(segment.slice(0, part).filter(|part| !part.is_empty()));
        left -= part;
    }
    list
}

impl<C: Calls> Calls for FaultyCalls<C> {
    type File = C::File;

    fn stat(&self, path: &Path) -> Result<Status, Errno> {
        self.calls.stat(path)
    }

    fn open(&self, path: &Path, how: How) -> Result<C::File, Errno> {
        self.calls.open(path, how)
    }

    fn fstat(&self, file: &C::File) -> Result<Status, Errno> {
        self.calls.fstat(file)
    }

    fn preadv(&self, file: &C::File, offset: u64, segments: &[Segment]) -> Result<usize, Errno> {
        self.transfer(Way::Read, offset, segments, |part| self.calls.preadv(file, offset, part))
    }

    fn pwritev(&self, file: &C::File, offset: u64, segments: &[Segment]) -> Result<usize, Errno> {
        self.transfer(Way::Write, offset, segments, |part| self.calls.pwritev(file, offset, part))
    }

    fn fsync(&self, file: &C::File) -> Result<(), Errno> {
        self.flush(|| self.calls.fsync(file))
    }

    fn fdatasync(&self, file: &C::File) -> Result<(), Errno> {
        self.flush(|| self.calls.fdatasync(file))
    }

    fn ioctl(&self, file: &C::File, request: Request, argument: &mut [u8]) -> Result<(), Errno> {
        if request == Request::DIOCGFLUSH {
            return self.flush(|| self.calls.ioctl(file, request, argument));
        }
        if request == Request::DIOCGDELETE {
            let (offset, len) = (number(argument, 0), number(argument, 8));
            return self.erase(offset, len, || self.calls.ioctl(file, request, argument));
        }
        self.calls.ioctl(file, request, argument)
    }

    fn fallocate(
        &self,
        file: &C::File,
        how: Fallocate,
        offset: u64,
        len: u64,
    ) -> Result<(), Errno> {
        self.erase(offset, len, || self.calls.fallocate(file, how, offset, len))
    }

    fn fspacectl(&self, file: &C::File, offset: u64, len: u64) -> Result<(u64, u64), Errno> {
        self.erase(offset, len, || self.calls.fspacectl(file, offset, len))
    }

    fn deallocates(&self, file: &C::File) -> Result<bool, Errno> {
        self.calls.deallocates(file)
    }

    fn watch_size(&self, file: &C::File) -> Result<Arc<dyn SizeEvents>, Errno> {
        self.calls.watch_size(file)
    }

    fn limit(&self, file: &C::File, rights: &Rights) -> Result<(), Errno> {
        self.calls.limit(file, rights)
    }
}
