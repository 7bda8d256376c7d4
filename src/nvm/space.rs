// SPDX-License-Identifier: BSD-2-Clause

//! Commands that change blocks without data of the guest's: Write Zeroes and
//! Dataset Management.

use super::execute::{Nvm, write_status};
use super::scratch::Scratch;
use crate::backend::Error;
use crate::data_pointer::{self, Direction};
use crate::engine::Unfinished;
use crate::wire::command::Command;
use crate::wire::status::Status;

/// Bytes of one range of Dataset Management: attributes, length in blocks
/// (32 bits each), starting LBA.
const RANGE_SIZE: usize = 16;

/// The most ranges of one command.
const MAX_RANGES: usize = 256;

/// A range of bytes, as start and end.
pub(crate) type Range = (u64, u64);

impl Nvm {
    /// Has the blocks read as zeroes. With the Deallocate bit (DEAC) their
    /// space is given back, where that still makes them zero.
    pub(super) fn write_zeroes(&self, command: &Command) -> Result<(), Status> {
        const DEALLOCATE: u32 = 1 << 25;
        let blocks = self.blocks_of(command)?;
        let deallocate = self.offers.dsm && command.cdw12.get() & DEALLOCATE != 0;
        let _changing = self.exclusion.change(blocks.offset, blocks.len);
        self.backend.write_zeroes(blocks.offset, blocks.len, deallocate).map_err(write_status)?;
        let durable = blocks.fua || self.writes_through();
        self.make_durable_after(durable)
    }

    /// Has `len` bytes from `offset` on read as zeroes, for a format: nothing
    /// else is under way.
    pub(crate) fn erase(&self, offset: u64, len: u64) -> Result<(), Error> {
        self.backend.write_zeroes(offset, len, self.offers.dsm)
    }

    /// Gives back the space of ranges of blocks. The other attributes, of the
    /// command and of each range, are hints that nothing is made of.
    ///
    /// The list is copied once, and all of it is checked before anything is
    /// done. Ranges that meet are one: so the cost is that of freeing each
    /// block once, whatever the list says, and more units of the store are
    /// whole. Where there are more, each is a part of the command.
    pub(super) fn dataset_management(
        &self,
        command: &Command,
        scratch: &mut Scratch,
    ) -> Result<(), Unfinished> {
        const DEALLOCATE: u32 = 1 << 2;
        self.check_namespace(command)?;
        let count = usize::try_from(command.cdw10.get() & 0xff).unwrap_or(0).saturating_add(1);
        let mut list = [0; MAX_RANGES * RANGE_SIZE];
        let list =
            list.get_mut(..count.saturating_mul(RANGE_SIZE)).ok_or(Status::INTERNAL_ERROR)?;
        let (segments, from) = (&mut scratch.segments, Direction::FromGuest);
        data_pointer::resolve(command, &*self.host, list.len(), from, segments)?;
        segments.read(list)?;

        let ranges = &mut scratch.ranges;
        ranges.clear();
        for range in list.chunks_exact(RANGE_SIZE) {
            let (blocks, slba) = parse(range).ok_or(Status::INTERNAL_ERROR)?;
            // No blocks are in every namespace, wherever they are.
            if blocks > 0 {
                let (offset, len) = self.range(slba, blocks)?;
                ranges.push((offset, offset.saturating_add(len)));
            }
        }
        if command.cdw11.get() & DEALLOCATE == 0 {
            return Ok(());
        }
        join_neighbours(ranges);
        match ranges.as_slice() {
            [] => {}
            [range] => self.free(range)?,
            _ => return Err(Unfinished::InParts),
        }
        Ok(self.all_freed()?)
    }

    /// Gives back the space of one range.
    pub(super) fn free(&self, (start, end): &Range) -> Result<(), Status> {
        let len = end.saturating_sub(*start);
        let _changing = self.exclusion.change(*start, len);
        self.backend.deallocate(*start, len).map_err(write_status)
    }

    /// All ranges of a command have been freed.
    pub(super) fn all_freed(&self) -> Result<(), Status> {
        let durable = self.writes_through();
        self.make_durable_after(durable)
    }
}

/// Length in blocks and starting LBA of one range.
fn parse(range: &[u8]) -> Option<(u64, u64)> {
    let length = range.get(4..)?.first_chunk()?;
    let slba = range.get(8..)?.first_chunk()?;
    Some((u64::from(u32::from_le_bytes(*length)), u64::from_le_bytes(*slba)))
}

/// Sorts ranges, and makes one of those that overlap or
/// meet.
fn join_neighbours(ranges: &mut Vec<Range>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        let joined = next.0 <= last.1;
        if joined {
            last.1 = last.1.max(next.1);
        }
        joined
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_sorted_and_joined() {
        for (given, expected) in [
            (vec![], vec![]),
            (vec![(5, 9)], vec![(5, 9)]),
            (vec![(5, 9), (0, 5)], vec![(0, 9)]),
            (vec![(5, 9), (0, 4)], vec![(0, 4), (5, 9)]),
            (vec![(0, 100), (5, 9), (50, 120), (120, 121), (200, 201)], vec![(0, 121), (200, 201)]),
            (vec![(7, 8); 256], vec![(7, 8)]),
        ] {
            let mut ranges = given.clone();
            join_neighbours(&mut ranges);
            assert_eq!(ranges, expected, "{given:?}");
        }
    }
}
