// SPDX-License-Identifier: BSD-2-Clause

//! Physical region pages: a command's pointers to its data.

use super::error::Error;
use super::memory::{Buffer, Memory, PAGE};
use std::sync::Arc;

/// Both pointers of a command, and the lists behind the second.
pub struct Prp {
    /// The first pointer.
    pub prp1: u64,
    /// The second: 0, a page, or a list.
    pub prp2: u64,
    lists: Vec<Buffer>,
}

impl Prp {
    /// These two values, whatever they mean.
    pub fn raw(prp1: u64, prp2: u64) -> Prp {
        Prp { prp1, prp2, lists: Vec::new() }
    }

    /// Points to `pages`: the first may have an offset, all others start a
    /// page. With more than two, a list is made that starts at byte
    /// `list_offset` (a multiple of 8, less than a page) of its page; where it
    /// does not fit, its last entry points to the next page of the list.
    pub fn new(memory: &Arc<Memory>, pages: &[u64], list_offset: usize) -> Result<Prp, Error> {
        match *pages {
            [] => return Ok(Prp::raw(0, 0)),
            [one] => return Ok(Prp::raw(one, 0)),
            [one, two] => return Ok(Prp::raw(one, two)),
            _ => {}
        }
        Prp::list(memory, pages[0], &pages[1..], list_offset)
    }

    /// Points to `first` and to a list of `rest`, however short that is.
    pub fn list(
        memory: &Arc<Memory>,
        first: u64,
        rest: &[u64],
        list_offset: usize,
    ) -> Result<Prp, Error> {
        assert!(list_offset.is_multiple_of(8) && list_offset < PAGE as usize, "a list's start");
        let mut lists: Vec<Buffer> = Vec::new();
        let mut left = rest;
        let mut at = list_offset;
        loop {
            let page = memory.alloc(PAGE as usize)?;
            let room = (PAGE as usize - at) / 8;
            // The chain takes the last slot, only where entries are left over.
            let here = if left.len() > room { room - 1 } else { left.len() };
            for (slot, entry) in left[..here].iter().enumerate() {
                page.write(at + slot * 8, &entry.to_le_bytes());
            }
            if let Some(before) = lists.last() {
                before.write(PAGE as usize - 8, &page.address().to_le_bytes());
            }
            lists.push(page);
            left = &left[here..];
            if left.is_empty() {
                break;
            }
            at = 0;
        }
        let prp2 = lists[0].address() + list_offset as u64;
        Ok(Prp { prp1: first, prp2, lists })
    }

    /// The pages of the list, in order: for tests that bend them.
    pub fn lists(&self) -> &[Buffer] {
        &self.lists
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bhyve::Machine;

    fn entry(list: &Buffer, slot: usize) -> u64 {
        let mut bytes = [0; 8];
        list.read(slot * 8, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    #[test]
    fn the_last_slot_is_a_chain_only_if_more_follows() {
        let machine = Machine::with_ram(64 * PAGE);
        let memory = Memory::all(&machine);
        let pages: Vec<u64> = (1..=514).map(|page| page * PAGE).collect();

        let full = Prp::new(&memory, &pages[..513], 0).unwrap();
        assert_eq!(full.lists().len(), 1);
        assert_eq!(entry(&full.lists()[0], 511), pages[512]);

        let chained = Prp::new(&memory, &pages[..514], 0).unwrap();
        assert_eq!(chained.lists().len(), 2);
        assert_eq!(entry(&chained.lists()[0], 510), pages[511]);
        assert_eq!(entry(&chained.lists()[0], 511), chained.lists()[1].address());
        assert_eq!(entry(&chained.lists()[1], 0), pages[512]);
        assert_eq!(entry(&chained.lists()[1], 1), pages[513]);

        let late = Prp::new(&memory, &pages[..4], 4096 - 16).unwrap();
        assert_eq!(late.prp2 % PAGE, 4080);
        assert_eq!(entry(&late.lists()[0], 510), pages[1]);
        assert_eq!(entry(&late.lists()[0], 511), late.lists()[1].address());
        assert_eq!(entry(&late.lists()[1], 1), pages[3]);
    }

    #[test]
    fn short_transfers_need_no_list() {
        let machine = Machine::with_ram(4 * PAGE);
        let memory = Memory::all(&machine);
        let prp = Prp::new(&memory, &[0x1004, 0x5000], 0).unwrap();
        assert_eq!((prp.prp1, prp.prp2, prp.lists().len()), (0x1004, 0x5000, 0));
        assert_eq!(Prp::new(&memory, &[0x1004], 0).unwrap().prp2, 0);
    }
}
