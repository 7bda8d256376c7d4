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
mod sgl;

pub(crate) use prp::Prp;
#[allow(unused_imports, reason = "for documentation")]
pub(crate) use sgl::MAX_DESCRIPTORS;
pub(crate) use sgl::{Direction, Sgl};

use crate::host::Host;
use crate::memory::{Region, Segment};
use crate::wire::PAGE_SIZE;
use crate::wire::command::{Command, psdt};
use crate::wire::status::Status;

/// The most bytes one command moves (MDTS 2 MiB).
pub(crate) const MAX_TRANSFER: usize = 2 << 20;

/// The most segments a transfer by PRPs can consist of: one per page, and one
/// more if it does not start at a page's start.
pub(crate) const MAX_SEGMENTS: usize = MAX_TRANSFER / PAGE_SIZE + 1;

/// Where a command's data lies in guest memory, in order. Kept from command to
/// command: filling it allocates nothing.
pub(crate) struct Segments {
    list: Vec<Segment>,
    /// Guest-physical end of the last segment, to find neighbours.
    end: u64,
    /// A page of a PRP list or of an SGL segment: copied once, then only the
    /// copy is looked at.
    entries: Box<[u8; PAGE_SIZE]>,
    /// Memory for what the guest does not want to read.
    sink: Option<Region>,
}

/// Bytes of the memory for what the guest does not want to read.
const SINK: usize = 64 << 10;

/// Fills `segments` with the `len` bytes of guest memory that the command's
/// data pointer names.
///
/// # Errors
/// As [`Prp::segments`] and [`Sgl::segments`]; Invalid Field for a data pointer
/// of another kind.
#[inline(always)]
pub(crate) fn resolve(
    command: &Command,
    host: &dyn Host,
    len: usize,
    direction: Direction,
    segments: &mut Segments,
) -> Result<(), Status> {
    match command.psdt() {
        psdt::PRP => Prp::of(command).segments(host, len, segments),
        psdt::SGL => Sgl::of(command).segments(host, len, direction, segments),
        _ => Err(Status::INVALID_FIELD.do_not_retry()),
    }
}

impl Default for Segments {
    fn default() -> Segments {
        Segments {
            list: Vec::with_capacity(MAX_SEGMENTS),
            end: 0,
            entries: Box::new([0; PAGE_SIZE]),
            sink: None,
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

    /// Appends `len` bytes that are written to and never read.
    fn push_sink(&mut self, len: usize) -> Result<(), Status> {
        if self.sink.is_none() {
            self.sink = Region::zeroed(SINK);
        }
        let sink = self.sink.as_ref().ok_or(Status::INTERNAL_ERROR)?.segment();
        let mut rest = len;
        while rest > 0 {
            let part = sink.slice(0, rest.min(SINK)).ok_or(Status::INTERNAL_ERROR)?;
            self.list.push(part);
            rest = rest.saturating_sub(part.len());
        }
        self.end = 0;
        Ok(())
    }

    /// Copies from the guest as much as `data` and the segments hold.
    pub(crate) fn read(&self, data: &mut [u8]) -> Result<(), Status> {
        let mut rest = data;
        for segment in &self.list {
            let (now, later) = rest.split_at_mut(rest.len().min(segment.len()));
            segment.read(now).ok_or(Status::DATA_TRANSFER_ERROR)?;
            rest = later;
        }
        Ok(())
    }

    /// Whether the bytes from byte `at` on are those of `other`. Each is read
    /// once.
    pub(crate) fn equals(&self, at: usize, other: &Segment) -> Result<bool, Status> {
        const PIECE: usize = 4096;
        let (mut ours, mut theirs) = ([0; PIECE], [0; PIECE]);
        let (mut skip, mut done) = (at, 0usize);
        for segment in &self.list {
            while skip < segment.len() && done < other.len() {
                let len = segment
                    .len()
                    .saturating_sub(skip)
                    .min(other.len().saturating_sub(done))
                    .min(PIECE);
                let (Some(ours), Some(theirs)) = (ours.get_mut(..len), theirs.get_mut(..len))
                else {
                    return Err(Status::INTERNAL_ERROR);
                };
                let copied = segment
                    .slice(skip, len)
                    .and_then(|part| part.read(ours))
                    .and_then(|()| other.slice(done, len))
                    .and_then(|part| part.read(theirs));
                copied.ok_or(Status::DATA_TRANSFER_ERROR)?;
                if ours != theirs {
                    return Ok(false);
                }
                (skip, done) = (skip.saturating_add(len), done.saturating_add(len));
            }
            skip = skip.saturating_sub(segment.len());
        }
        Ok(done == other.len())
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
