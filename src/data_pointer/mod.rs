// SPDX-License-Identifier: BSD-2-Clause

//! From a command's data pointer to the guest memory it names.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod prp;

pub(crate) use prp::Prp;

use crate::host::Host;
use crate::memory::Segment;
use crate::wire::PAGE_SIZE;
use crate::wire::status::Status;

/// The most bytes one command moves (MDTS 2 MiB).
pub(crate) const MAX_TRANSFER: usize = 2 << 20;

/// The most segments a transfer can consist of: one per page, and one more if
/// it does not start at a page's start.
pub(crate) const MAX_SEGMENTS: usize = MAX_TRANSFER / PAGE_SIZE + 1;

/// Where a command's data lies in guest memory, in order. Kept from command to
/// command: filling it allocates nothing.
pub(crate) struct Segments {
    list: Vec<Segment>,
    /// Guest-physical end of the last segment, to find neighbours.
    end: u64,
    /// A page of a PRP list: copied once, then only the copy is looked at.
    entries: Box<[u8; PAGE_SIZE]>,
}

impl Default for Segments {
    fn default() -> Segments {
        Segments {
            list: Vec::with_capacity(MAX_SEGMENTS),
            end: 0,
            entries: Box::new([0; PAGE_SIZE]),
        }
    }
}

impl Segments {
    pub(crate) fn as_slice(&self) -> &[Segment] {
        &self.list
    }

    fn clear(&mut self) {
        self.list.clear();
        self.end = 0;
    }

    /// Appends `len` bytes at guest-physical `address`, as part of the last
    /// segment where they follow it in guest and host memory.
    fn push(&mut self, host: &dyn Host, address: u64, len: usize) -> Result<(), Status> {
        let segment = host.map(address, len).ok_or(Status::DATA_TRANSFER_ERROR.do_not_retry())?;
        let follows = address == self.end;
        self.end = address.wrapping_add(len as u64);
        if follows
            && let Some(last) = self.list.last_mut()
            && let Some(joined) = last.join(&segment)
        {
            *last = joined;
            return Ok(());
        }
        self.list.push(segment);
        Ok(())
    }

    /// Copies `data` to the guest: as much as the segments hold.
    pub(crate) fn write(&self, data: &[u8]) -> Result<(), Status> {
        let mut rest = data;
        for segment in &self.list {
            let (now, later) = rest.split_at(rest.len().min(segment.len()));
            segment.write(now).ok_or(Status::DATA_TRANSFER_ERROR)?;
            rest = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
