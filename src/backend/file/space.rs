// SPDX-License-Identifier: BSD-2-Clause

//! Zeroes, and space that is given back.

use std::sync::atomic::Ordering;

use super::bounce::BUFFER;
use super::store::File;
use super::transfer::Stop;
use crate::backend::Error;
use crate::backend::sys::{Calls, Errno, Policy, Way, retry, unsupported};
use crate::memory::{Region, Segment};

/// The most bytes that are deallocated by one call, unless a unit of the store
/// is longer: what FreeBSD sends to a disk at once by default. A ZFS volume
/// locks the whole range until the call is done, and I/O to it waits.
const AT_ONCE: u64 = 128 << 20;

impl<C: Calls, P: Policy> File<C, P> {
    /// Makes a range read as zeroes, by the first of these that can be: a
    /// hole, if the space may be given back and holes read as zeroes; the
    /// system's own way; writing. A store that never gives space back
    /// (`nodelete`) is only written: some file systems zero a range by giving
    /// its space back and taking other.
    pub(super) fn zero(&self, offset: u64, len: u64, deallocate: bool) -> Result<(), Error> {
        let end = self.check(offset, len)?;
        if len == 0 {
            return Ok(());
        }
        if deallocate && self.can_deallocate && P::deallocated_is_zero(self.kind) {
            let punched = retry(|| P::deallocate(&self.calls, &self.file, self.kind, offset, len));
            if let Some(done) = self.settled(Way::Write, end, punched) {
                return done;
            }
        }
        if !self.nodelete && !self.only_writes.load(Ordering::Relaxed) {
            let zeroed = retry(|| P::zero(&self.calls, &self.file, offset, len));
            if let Some(done) = self.settled(Way::Write, end, zeroed) {
                return done;
            }
            self.only_writes.store(true, Ordering::Relaxed);
        }
        self.write_out_zeroes(offset, len).map_err(|stop| self.meaning(Way::Write, end, &stop))
    }

    /// Gives back the whole units of a range. They are those of the physical
    /// sector: of less, the store would have to read the rest and write it
    /// again. The size is looked at again before each part, for the store may
    /// become smaller meanwhile.
    pub(super) fn give_back(&self, offset: u64, len: u64) -> Result<(), Error> {
        let end = self.check(offset, len)?;
        let unit = u64::from(self.physical);
        let mut at = offset.checked_next_multiple_of(unit).unwrap_or(end);
        let last = end - end % unit;
        while self.can_deallocate && at < last {
            let part = (last - at).min(AT_ONCE.max(unit));
            let until = self.check(at, part)?;
            let (calls, file) = (&self.calls, &self.file);
            let done = retry(|| P::deallocate(calls, file, self.kind, at, part));
            match self.settled(Way::Write, until, done) {
                Some(Ok(())) => at = until,
                Some(error) => return error,
                None => break,
            }
        }
        Ok(())
    }

    /// What became of a call; `None` if it cannot do this here.
    fn settled(&self, way: Way, end: u64, result: Result<(), Errno>) -> Option<Result<(), Error>> {
        match result {
            Ok(()) => Some(Ok(())),
            Err(errno) if unsupported(errno) => None,
            Err(errno) => Some(Err(self.meaning(way, end, &Stop::Failed(errno)))),
        }
    }

    /// Writes zeroes, a buffer at a time.
    fn write_out_zeroes(&self, mut offset: u64, mut len: u64) -> Result<(), Stop> {
        let zeroes = self
            .zeroes
            .get_or_init(|| Region::zeroed(BUFFER))
            .as_ref()
            .map_or(Segment::EMPTY, Region::segment);
        while len > 0 {
            let part = usize::try_from(len).map_or(BUFFER, |len| len.min(BUFFER));
            let part = zeroes.slice(0, part).ok_or(Stop::Failed(Errno(libc::ENOMEM)))?;
            self.straight(Way::Write, offset, &[part], part.len() as u64)?;
            offset = offset.saturating_add(part.len() as u64);
            len = len.saturating_sub(part.len() as u64);
        }
        Ok(())
    }
}
