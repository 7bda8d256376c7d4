// SPDX-License-Identifier: BSD-2-Clause

//! Buffers for what the system does not take as it is.

use std::sync::{Mutex, PoisonError};

use crate::memory::{Region, Segment};

/// Length of a buffer in bytes: what FreeBSD sends to a disk at once.
pub(super) const BUFFER: usize = 1 << 20;

/// As many buffers are kept when nobody uses them.
const KEPT: usize = 16;

/// Page-aligned buffers of [`BUFFER`] bytes. The host's memory is taken as a
/// buffer is first used, page by page.
pub(super) struct Pool {
    free: Mutex<Vec<Region>>,
}

impl Pool {
    pub(super) fn new() -> Pool {
        Pool { free: Mutex::new(Vec::new()) }
    }

    /// A buffer, with whatever was in it; `None` when the host has no memory.
    pub(super) fn take(&self) -> Option<Buffer<'_>> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Some(Buffer { region: Some(free.or_else(|| Region::zeroed(BUFFER))?), pool: self })
    }

    /// How many buffers nobody uses.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.free.lock().unwrap().len()
    }
}

/// A buffer that goes back to its pool when it is dropped.
pub(super) struct Buffer<'a> {
    region: Option<Region>,
    pool: &'a Pool,
}

impl Buffer<'_> {
    /// The first `len` bytes, [`BUFFER`] at most.
    pub(super) fn first(&self, len: usize) -> Segment {
        let whole = self.region.as_ref().map_or(Segment::EMPTY, Region::segment);
        whole.slice(0, len).unwrap_or(whole)
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        let mut free = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            free.extend(self.region.take());
        }
    }
}

/// A place in a list of segments, moving from its start to its end.
pub(super) struct Cursor<'a> {
    list: &'a [Segment],
    /// Bytes of the first segment of `list` that are behind.
    within: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(list: &'a [Segment]) -> Cursor<'a> {
        Cursor { list, within: 0 }
    }

    /// What is left of the segment it is in; `None` at the end.
    fn rest(&self) -> Option<Segment> {
        let first = self.list.first()?;
        first.slice(self.within, first.len().saturating_sub(self.within))
    }

    /// Whether nothing is left.
    pub(super) fn is_at_end(&self) -> bool {
        self.list.is_empty()
    }

    /// A copy of all that is left.
    pub(super) fn remaining(&self) -> Vec<Segment> {
        self.rest().into_iter().chain(self.list.iter().skip(1).copied()).collect()
    }

    /// All that is left, if it is at a segment's start.
    pub(super) fn ahead(&self) -> Option<&'a [Segment]> {
        (self.within == 0).then_some(self.list)
    }

    /// Moves on by `len` bytes, and past segments of no bytes, but not past
    /// the end.
    pub(super) fn advance(&mut self, len: usize) {
        self.within = self.within.saturating_add(len);
        while let Some((first, rest)) = self.list.split_first() {
            let Some(over) = self.within.checked_sub(first.len()) else { return };
            self.within = over;
            self.list = rest;
        }
        self.within = 0;
    }

    /// Copies from the list to all of `to`, and moves on.
    pub(super) fn gather(&mut self, to: &Segment) {
        self.each(to.len(), |at, part| {
            to.slice(at, part.len()).and_then(|to| to.copy_from(&part));
        });
    }

    /// Copies all of `from` to the list, and moves on.
    pub(super) fn scatter(&mut self, from: &Segment) {
        self.each(from.len(), |at, part| {
            from.slice(at, part.len()).and_then(|from| part.copy_from(&from));
        });
    }

    /// Gives `copy` the next `len` bytes in parts, each with its place in them.
    fn each(&mut self, len: usize, copy: impl Fn(usize, Segment)) {
        let mut at = 0;
        while at < len {
            let Some(rest) = self.rest() else { return };
            let part = rest.slice(0, rest.len().min(len - at)).unwrap_or(rest);
            copy(at, part);
            at += part.len();
            self.advance(part.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(total: &Segment, lengths: &[usize]) -> Vec<Segment> {
        let mut at = 0;
        let mut list = Vec::new();
        for len in lengths {
            list.push(total.slice(at, *len).unwrap());
            // A gap, so that a copy that runs on is seen.
            at += len + 16;
        }
        list
    }

    #[test]
    fn a_copy_there_and_back_is_whole() {
        let guest = Region::zeroed(8192).unwrap();
        let list = lengths(&guest.segment(), &[0, 3, 0, 0, 500, 1, 8, 0]);
        for (n, segment) in list.iter().enumerate() {
            segment.write(&vec![n as u8 + 1; segment.len()]).unwrap();
        }
        let pool = Pool::new();
        let buffer = pool.take().unwrap();
        let mut cursor = Cursor::new(&list);
        cursor.gather(&buffer.first(400));
        cursor.gather(&buffer.first(512).slice(400, 112).unwrap());
        assert!(cursor.rest().is_none());

        let mut bytes = [0; 512];
        buffer.first(512).read(&mut bytes).unwrap();
        let expected = [&[2; 3][..], &[5; 500], &[6], &[7; 8]].concat();
        assert_eq!(bytes[..], expected);

        guest.segment().zero();
        let mut cursor = Cursor::new(&list);
        cursor.scatter(&buffer.first(2));
        cursor.scatter(&buffer.first(512).slice(2, 510).unwrap());
        let mut found = vec![0; 1024];
        guest.segment().read(&mut found).unwrap();
        let gap = [0; 16];
        let expected =
            [&gap[..], &[2; 3], &gap, &gap, &gap, &[5; 500], &gap, &[6], &gap, &[7; 8]].concat();
        assert_eq!(found[..expected.len()], expected);
        assert!(found[expected.len()..].iter().all(|b| *b == 0));
    }

    #[test]
    fn a_cursor_never_passes_the_end() {
        let guest = Region::zeroed(4096).unwrap();
        let list = lengths(&guest.segment(), &[10, 20]);
        let mut cursor = Cursor::new(&list);
        assert_eq!(cursor.ahead().unwrap().len(), 2);
        cursor.advance(4);
        assert_eq!(cursor.rest().unwrap().len(), 6);
        assert!(cursor.ahead().is_none());
        cursor.advance(6);
        assert_eq!(cursor.ahead().unwrap().len(), 1);
        cursor.advance(usize::MAX);
        assert!(cursor.rest().is_none());
        assert!(cursor.ahead().unwrap().is_empty());
    }

    #[test]
    fn buffers_are_used_again_and_bounded() {
        let pool = Pool::new();
        let at = format!("{:?}", pool.take().unwrap().first(BUFFER));
        assert_eq!(pool.free(), 1);
        assert_eq!(format!("{:?}", pool.take().unwrap().first(BUFFER)), at);
        drop((0..KEPT + 4).map(|_| pool.take().unwrap()).collect::<Vec<_>>());
        assert_eq!(pool.free(), KEPT);
        assert_eq!(pool.take().unwrap().first(BUFFER + 1).len(), BUFFER);
    }
}
