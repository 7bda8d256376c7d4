// SPDX-License-Identifier: BSD-2-Clause

//! A command's buffer: contiguous for the driver, maybe not for the guest.

use super::error::Error;
use super::memory::{Buffer, Memory, PAGE};
use super::prp::Prp;
use std::sync::Arc;

/// A buffer of `len` bytes that starts `offset` bytes into its first page.
pub struct Data {
    memory: Arc<Memory>,
    hold: Buffer,
    /// Addresses of its pages, in the order of the data.
    pages: Vec<u64>,
    offset: usize,
    len: usize,
}

impl Data {
    /// `len` zeroed bytes in contiguous pages, from the start of a page.
    pub fn new(memory: &Arc<Memory>, len: usize) -> Result<Data, Error> {
        Data::contiguous(memory, len, 0)
    }

    /// `len` zeroed bytes in contiguous pages, `offset` bytes into the first.
    pub fn contiguous(memory: &Arc<Memory>, len: usize, offset: usize) -> Result<Data, Error> {
        let count = page_count(len, offset);
        let hold = memory.alloc(count * PAGE as usize)?;
        let pages = (0..count as u64).map(|page| hold.address() + page * PAGE).collect();
        Ok(Data { memory: memory.clone(), hold, pages, offset, len })
    }

    /// `len` zeroed bytes in pages of which no two are neighbours, in falling
    /// order, `offset` bytes into the first.
    pub fn scattered(memory: &Arc<Memory>, len: usize, offset: usize) -> Result<Data, Error> {
        let count = page_count(len, offset);
        let hold = memory.alloc(2 * count * PAGE as usize)?;
        let pages = (0..count as u64).rev().map(|page| hold.address() + 2 * page * PAGE).collect();
        Ok(Data { memory: memory.clone(), hold, pages, offset, len })
    }

    /// A zeroed buffer of the same shape in other pages.
    pub fn twin(&self) -> Result<Data, Error> {
        let hold = self.memory.alloc(self.hold.len())?;
        let (from, to) = (self.hold.address(), hold.address());
        let pages = self.pages.iter().map(|page| page - from + to).collect();
        Ok(Data { memory: self.memory.clone(), hold, pages, ..*self })
    }

    /// Where a twin has what this buffer has at guest address `address`; `None`
    /// if that is none of its own.
    pub fn in_twin(&self, twin: &Data, address: u64) -> Option<u64> {
        let at = address.checked_sub(self.hold.address())?;
        (at < self.hold.len() as u64).then(|| twin.hold.address() + at)
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What its pointers are: the first with the offset, then whole pages.
    pub fn pages(&self) -> Vec<u64> {
        let mut pages = self.pages.clone();
        if let Some(first) = pages.first_mut() {
            *first += self.offset as u64;
        }
        pages
    }

    /// Pointers to all of it, in the usual form.
    pub fn prp(&self) -> Result<Prp, Error> {
        self.prp_with_list_at(0)
    }

    /// Pointers to all of it; a list starts at byte `list_offset` of its page.
    pub fn prp_with_list_at(&self, list_offset: usize) -> Result<Prp, Error> {
        Prp::new(&self.memory, &self.pages(), list_offset)
    }

    /// Replaces the first bytes of the data by `from`.
    pub fn write(&self, from: &[u8]) {
        assert!(from.len() <= self.len, "inside the buffer");
        self.pieces(from.len(), |range, address| {
            self.memory.machine().write(address, &from[range]);
        });
    }

    /// All of the data.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.pieces(self.len, |range, address| {
            self.memory.machine().read(address, &mut bytes[range]);
        });
        bytes
    }

    /// Sets every byte of the pages to `byte`: the data, and what is around it.
    pub fn fill(&self, byte: u8) {
        self.hold.fill(byte);
    }

    /// How many bytes of its pages that are not data differ from `byte`: 0
    /// unless someone wrote where nobody may.
    pub fn spilt(&self, byte: u8) -> usize {
        let mut around = self.hold.to_vec();
        self.pieces(self.len, |range, address| {
            let start = (address - self.hold.address()) as usize;
            around[start..start + range.len()].fill(byte);
        });
        around.iter().filter(|&&found| found != byte).count()
    }

    /// Calls `each` with a range of the first `len` bytes of the data and the
    /// guest address of its start, page by page.
    fn pieces(&self, len: usize, mut each: impl FnMut(std::ops::Range<usize>, u64)) {
        let mut done = 0;
        let mut offset = self.offset;
        for page in &self.pages {
            let part = (PAGE as usize - offset).min(len - done);
            if part == 0 {
                return;
            }
            each(done..done + part, page + offset as u64);
            done += part;
            offset = 0;
        }
        assert_eq!(done, len, "the pages hold the data");
    }
}

fn page_count(len: usize, offset: usize) -> usize {
    assert!(offset < PAGE as usize, "an offset into the first page");
    (offset + len).div_ceil(PAGE as usize).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bhyve::Machine;

    #[test]
    fn scattered_data_is_written_and_read_in_order() {
        let machine = Machine::with_ram(64 * PAGE);
        let memory = Memory::all(&machine);
        let data = Data::scattered(&memory, 10000, 100).unwrap();
        data.fill(0xee);
        let bytes: Vec<u8> = (0..10000u32).map(|i| (i % 251) as u8).collect();
        data.write(&bytes);
        assert_eq!(data.to_vec(), bytes);
        assert_eq!(data.spilt(0xee), 0);
        let pages = data.pages();
        assert_eq!(pages.len(), 3);
        assert_eq!(pages[0] % PAGE, 100);
        assert!(pages.windows(2).all(|two| two[1] + PAGE < two[0]));
        machine.write(pages[0] - 1, &[0]);
        assert_eq!(data.spilt(0xee), 1);

        let twin = data.twin().unwrap();
        assert_eq!(twin.to_vec(), vec![0; 10000]);
        for (page, other) in pages.iter().zip(twin.pages()) {
            assert_eq!(data.in_twin(&twin, *page), Some(other));
            assert_eq!(twin.in_twin(&data, *page), None);
        }
    }
}
