// SPDX-License-Identifier: BSD-2-Clause

//! Moving data, whatever the system makes of it: short transfers, too many
//! segments, segments it refuses, a store that ends early.

use std::sync::atomic::Ordering;

use super::bounce::{BUFFER, Cursor};
use super::store::File;
use crate::backend::sys::{Calls, Errno, Kind, MAX_SEGMENTS, Policy, Way, error, retry};
use crate::backend::{Backend, Error};
use crate::memory::{Segment, total_len};

/// Why a transfer stopped.
pub(super) enum Stop {
    /// A call failed.
    Failed(Errno),
    /// A call did nothing, and said that it was well.
    Ended,
}

impl<C: Calls, P: Policy> File<C, P> {
    /// Reads or writes all of `segments`, or says why not.
    pub(super) fn transfer(
        &self,
        way: Way,
        offset: u64,
        segments: &[Segment],
    ) -> Result<(), Error> {
        let len = total_len(segments);
        let end = self.check(offset, len)?;
        let done = if P::takes(self.kind, self.unit, segments) {
            match self.straight(way, offset, segments, len) {
                // O_DIRECT on Linux wants aligned memory.
                Err(Stop::Failed(Errno(libc::EINVAL))) if self.direct => {
                    self.bounced(way, offset, segments)
                }
                done => done,
            }
        } else {
            self.bounced(way, offset, segments)
        };
        done.map_err(|stop| self.meaning(way, end, &stop))
    }

    /// The end of a range that the store can do. Looked at before any call: a
    /// write past the end would make a file grow, and a device deletes what is
    /// inside before it says that the rest is not.
    pub(super) fn check(&self, offset: u64, len: u64) -> Result<u64, Error> {
        let end = offset.checked_add(len).ok_or(Error::OutOfRange)?;
        if end > self.size.load(Ordering::Relaxed) {
            return Err(Error::OutOfRange);
        }
        if self.kind == Kind::Device && !(offset | len).is_multiple_of(u64::from(self.unit)) {
            return Err(Error::Invalid);
        }
        Ok(end)
    }

    /// Hands the segments, `len` bytes in all, to the system as they are.
    pub(super) fn straight(
        &self,
        way: Way,
        offset: u64,
        segments: &[Segment],
        len: u64,
    ) -> Result<(), Stop> {
        if len == 0 {
            return Ok(());
        }
        let list = segments.get(..MAX_SEGMENTS).unwrap_or(segments);
        let moved = self.call(way, offset, list)?;
        if moved as u64 == len {
            return Ok(());
        }
        self.go_on(way, offset, segments, moved)
    }

    /// One call, which moves at least one byte.
    fn call(&self, way: Way, offset: u64, list: &[Segment]) -> Result<usize, Stop> {
        let moved = retry(|| match way {
            Way::Read => self.calls.preadv(&self.file, offset, list),
            Way::Write | Way::Flush => self.calls.pwritev(&self.file, offset, list),
        })
        .map_err(Stop::Failed)?;
        if moved == 0 { Err(Stop::Ended) } else { Ok(moved) }
    }

    /// What is left of the segments from `offset` on after `moved` bytes.
    #[cold]
    fn go_on(
        &self,
        way: Way,
        mut offset: u64,
        segments: &[Segment],
        mut moved: usize,
    ) -> Result<(), Stop> {
        let mut cursor = Cursor::new(segments);
        loop {
            offset = offset.saturating_add(moved as u64);
            cursor.advance(moved);
            if cursor.is_at_end() {
                return Ok(());
            }
            // Only after a short transfer is the list a copy. It is all that is
            // left: to send the begun segment alone could tear a sector that
            // the guest may take to be written as a whole.
            let copy;
            let list = match cursor.ahead() {
                Some(list) => list,
                None => {
                    copy = cursor.remaining();
                    &copy
                }
            };
            moved = self.call(way, offset, list.get(..MAX_SEGMENTS).unwrap_or(list))?;
        }
    }

    /// Sends the data through a buffer, as much at a time as it holds.
    fn bounced(&self, way: Way, mut offset: u64, segments: &[Segment]) -> Result<(), Stop> {
        let buffer = self.pool.take().ok_or(Stop::Failed(Errno(libc::ENOMEM)))?;
        let mut cursor = Cursor::new(segments);
        let mut left = total_len(segments);
        while left > 0 {
            let part = buffer.first(usize::try_from(left).map_or(BUFFER, |n| n.min(BUFFER)));
            match way {
                Way::Read => {
                    self.straight(way, offset, &[part], part.len() as u64)?;
                    cursor.scatter(&part);
                }
                Way::Write | Way::Flush => {
                    cursor.gather(&part);
                    self.straight(way, offset, &[part], part.len() as u64)?;
                }
            }
            offset = offset.saturating_add(part.len() as u64);
            left = left.saturating_sub(part.len() as u64);
        }
        Ok(())
    }

    /// What it means that a transfer that should have reached `end` stopped.
    #[cold]
    pub(super) fn meaning(&self, way: Way, end: u64, stop: &Stop) -> Error {
        let error = match stop {
            Stop::Failed(errno) => error(way, *errno),
            Stop::Ended => Error::Io,
        };
        // A store that has become smaller says so in many ways: by doing
        // nothing, with EIO (FreeBSD's devices) or ENOSPC (Linux's).
        let shrunk = matches!(stop, Stop::Ended) || self.kind == Kind::Device;
        if shrunk && matches!(self.refresh(), Ok(size) if end > size) {
            return Error::OutOfRange;
        }
        error
    }
}
