// SPDX-License-Identifier: BSD-2-Clause

//! PRPs against a model that is as plain as the specification's text. SGLs are
//! in a file of their own.

mod sgl;

use super::*;
use crate::host::testing::Ram;
use crate::memory::Region;
use crate::sync::{AtomicU32, Ordering};
use crate::wire::command::Command;

const PAGE: u64 = PAGE_SIZE as u64;
const PAGES: u64 = 2048;

fn ram() -> Ram {
    let region = Region::zeroed((PAGES * PAGE) as usize).unwrap();
    // Every page says in each word where it is, so that order can be checked.
    for at in (0..PAGES * PAGE).step_by(8) {
        region.segment().slice(at as usize, 8).unwrap().write(&at.to_le_bytes()).unwrap();
    }
    Ram(region)
}

impl Ram {
    fn put(&self, at: u64, value: u64) {
        self.0.segment().slice(at as usize, 8).unwrap().write(&value.to_le_bytes()).unwrap();
    }
}

fn resolve(ram: &Ram, prp1: u64, prp2: u64, len: usize) -> Result<Segments, Status> {
    let mut command = Command::zeroed();
    command.dptr = [prp1.into(), prp2.into()];
    let mut segments = Segments::default();
    Prp::of(&command).segments(ram, len, &mut segments)?;
    Ok(segments)
}

fn bytes(segments: &Segments) -> Vec<u8> {
    let mut all = Vec::new();
    for segment in segments.as_slice() {
        let mut part = vec![0; segment.len()];
        segment.read(&mut part).unwrap();
        all.extend(part);
    }
    all
}

/// What `pages` hold, from `offset` in the first on, `len` bytes.
fn expected(ram: &Ram, pages: &[u64], offset: u64, len: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for page in pages {
        let mut part = vec![0; PAGE_SIZE];
        ram.map(*page, PAGE_SIZE).unwrap().read(&mut part).unwrap();
        all.extend(part);
    }
    all[offset as usize..offset as usize + len].to_vec()
}

/// Lays out a list for `pages` that begins at `list` and goes on, page by page,
/// at `next`.
fn lay_list(ram: &Ram, list: u64, next: &[u64], pages: &[u64]) {
    let (mut at, mut next) = (list, next.iter());
    for (index, page) in pages.iter().enumerate() {
        let last_slot = at % PAGE == PAGE - 8;
        if last_slot && index + 1 < pages.len() {
            let page = *next.next().expect("a page for the rest of the list");
            ram.put(at, page);
            at = page;
        }
        ram.put(at, *page);
        at += 8;
    }
}

#[test]
fn one_page_and_two() {
    let ram = ram();
    let one = resolve(&ram, 5 * PAGE + 4, u64::MAX, 4092).unwrap();
    assert_eq!(bytes(&one), expected(&ram, &[5 * PAGE], 4, 4092));
    let two = resolve(&ram, 5 * PAGE + 512, 9 * PAGE, 4096).unwrap();
    assert_eq!(bytes(&two), expected(&ram, &[5 * PAGE, 9 * PAGE], 512, 4096));
    assert_eq!(two.as_slice().len(), 2);
    let none = resolve(&ram, 3, 3, 0).unwrap();
    assert!(none.as_slice().is_empty());
}

#[test]
fn neighbours_become_one_segment() {
    let ram = ram();
    let two = resolve(&ram, 5 * PAGE, 6 * PAGE, 8192).unwrap();
    assert_eq!(two.as_slice().len(), 1);
    let pages: Vec<u64> = (100..612).map(|page| page * PAGE).collect();
    lay_list(&ram, PAGE, &[2 * PAGE], &pages[1..]);
    let all = resolve(&ram, pages[0], PAGE, 2 << 20).unwrap();
    assert_eq!(all.as_slice().len(), 1);
    assert_eq!(all.as_slice()[0].len(), 2 << 20);
}

/// A host that maps no range across a multiple of `piece` bytes, as bhyve does
/// none across the end of low memory.
struct Pieces {
    ram: Ram,
    piece: u64,
    maps: AtomicU32,
}

impl Host for Pieces {
    fn map(&self, address: u64, len: usize) -> Option<Segment> {
        self.maps.fetch_add(1, Ordering::Relaxed);
        let in_one = len as u64 <= self.piece - address % self.piece;
        in_one.then(|| self.ram.map(address, len)).flatten()
    }

    fn msix_deliverable(&self, _: u16) -> bool {
        false
    }

    fn msix_raise(&self, _: u16) {}

    fn msix_table_write(&self, _: u64, _: usize, _: u64) {}

    fn msix_table_read(&self, _: u64, _: usize) -> u64 {
        0
    }
}

/// Neighbours are mapped at once where the host has them as one, and each by
/// itself where it has not.
#[test]
fn neighbours_are_mapped_at_once_if_they_can_be() {
    let list = PAGE;
    let pages: Vec<u64> = (100..132).map(|page| page * PAGE).collect();
    for (piece, maps) in [(PAGES * PAGE, 3), (104 * PAGE, 2 + 1 + 31), (PAGE, 2 + 1 + 31)] {
        let pieces = Pieces { ram: ram(), piece, maps: AtomicU32::new(0) };
        lay_list(&pieces.ram, list, &[], &pages[1..]);
        let mut command = Command::zeroed();
        command.dptr = [pages[0].into(), list.into()];
        let mut segments = Segments::default();
        Prp::of(&command).segments(&pieces, 32 * PAGE_SIZE, &mut segments).unwrap();
        assert_eq!(pieces.maps.load(Ordering::Relaxed), maps, "{piece:#x}");
        assert!(bytes(&segments) == expected(&pieces.ram, &pages, 0, 32 * PAGE_SIZE));
    }
}

/// What a list names first that is wrong is what is told.
#[test]
fn the_first_wrong_entry_is_told() {
    let ram = ram();
    let (end, list) = (PAGES * PAGE, PAGE);
    let absent = Some(Status::DATA_TRANSFER_ERROR.do_not_retry());
    let misaligned = Some(Status::PRP_OFFSET_INVALID.do_not_retry());
    for (pages, error) in [
        ([end - PAGE, end, 4], absent),
        ([end - PAGE, 4, end], misaligned),
        ([end - PAGE, end - PAGE + 8, end], misaligned),
        ([7 * PAGE, 8 * PAGE, end], absent),
        ([!(PAGE - 1), 0, PAGE], absent),
    ] {
        lay_list(&ram, list, &[], &pages);
        assert_eq!(resolve(&ram, 5 * PAGE, list, 4 * 4096).err(), error, "{pages:x?}");
    }
}

/// The last slot of a list's page is a pointer only when more than one entry
/// is still to come: 511, 512 and 513 entries, and lists that begin anywhere
/// in a page, down to its very last slot.
#[test]
fn lists_of_every_length_from_every_slot() {
    let ram = ram();
    for slot in [0, 1, 255, 506, 507, 508, 509, 510, 511] {
        for entries in [2, 3, 4, 5, 6, 7, 255, 256, 257, 510, 511, 512] {
            for offset in [0, 4, 512, 4092] {
                let pages: Vec<u64> =
                    (0..=entries).map(|index| (100 + index * 1531 % 1900) * PAGE).collect();
                let list = PAGE + slot * 8;
                lay_list(&ram, list, &[2 * PAGE, 3 * PAGE], &pages[1..]);
                let room = pages.len() * PAGE_SIZE - offset as usize;
                for len in [room, room - PAGE_SIZE + 4] {
                    if len > MAX_TRANSFER {
                        continue;
                    }
                    let found = resolve(&ram, pages[0] + offset, list, len).unwrap();
                    assert!(
                        bytes(&found) == expected(&ram, &pages, offset, len),
                        "slot {slot}, {entries} entries, offset {offset}, {len} bytes"
                    );
                    assert!(found.as_slice().len() <= MAX_SEGMENTS);
                }
            }
        }
    }
}

#[test]
fn what_is_misaligned_is_refused() {
    let ram = ram();
    let invalid = Some(Status::PRP_OFFSET_INVALID.do_not_retry());
    for low in [1, 2, 3] {
        assert_eq!(resolve(&ram, 5 * PAGE + low, 0, 512).err(), invalid);
    }
    for low in [4, 8, 512, 4092] {
        assert_eq!(resolve(&ram, 5 * PAGE, 6 * PAGE + low, 8192).err(), invalid, "PRP2 + {low}");
    }
    for low in [1, 2, 4] {
        assert_eq!(
            resolve(&ram, 5 * PAGE, 6 * PAGE + low, 3 * 4096).err(),
            invalid,
            "list + {low}"
        );
    }
    lay_list(&ram, PAGE, &[], &[7 * PAGE, 8 * PAGE + 8]);
    assert_eq!(resolve(&ram, 5 * PAGE, PAGE, 3 * 4096).err(), invalid, "entry with an offset");
    // A pointer to the next page of the list that has an offset.
    let pages: Vec<u64> = (100..400).map(|page| page * PAGE).collect();
    let list = PAGE + 500 * 8;
    lay_list(&ram, list, &[2 * PAGE], &pages);
    ram.put(PAGE + 511 * 8, 2 * PAGE + 8);
    assert_eq!(resolve(&ram, 99 * PAGE, list, 200 * 4096).err(), invalid, "pointer with an offset");
}

#[test]
fn what_is_no_memory_is_refused() {
    let ram = ram();
    let end = PAGES * PAGE;
    let error = Some(Status::DATA_TRANSFER_ERROR.do_not_retry());
    for address in [end, end + PAGE, 0xc000_0000, 1 << 63, !(PAGE - 1)] {
        assert_eq!(resolve(&ram, address, 0, 512).err(), error, "PRP1 {address:#x}");
        assert_eq!(resolve(&ram, 5 * PAGE, address, 8192).err(), error, "PRP2 {address:#x}");
        assert_eq!(resolve(&ram, 5 * PAGE, address, 3 * 4096).err(), error, "list {address:#x}");
        lay_list(&ram, PAGE, &[], &[7 * PAGE, address]);
        assert_eq!(resolve(&ram, 5 * PAGE, PAGE, 3 * 4096).err(), error, "entry {address:#x}");
    }
    // The last page is memory; contiguous pages do not run past it.
    assert!(resolve(&ram, end - PAGE, 0, 4096).is_ok());
    assert_eq!(resolve(&ram, end - PAGE, end, 8192).err(), error);
    // PRP1 = 0 is an address like any other.
    assert!(resolve(&ram, 0, 0, 4096).is_ok());
}

/// A list that is chained to itself ends with the transfer.
#[test]
fn a_list_chained_to_itself_ends() {
    let ram = ram();
    let list = 3 * PAGE;
    for slot in 0..512 {
        ram.put(list + slot * 8, list);
    }
    let found = resolve(&ram, 5 * PAGE, list, MAX_TRANSFER).unwrap();
    assert_eq!(crate::memory::total_len(found.as_slice()), MAX_TRANSFER as u64);
}

/// The list is read once: what the guest changes afterwards has no effect.
#[test]
fn the_list_is_copied() {
    let ram = ram();
    lay_list(&ram, PAGE, &[], &[7 * PAGE, 8 * PAGE]);
    let found = resolve(&ram, 5 * PAGE, PAGE, 3 * 4096).unwrap();
    lay_list(&ram, PAGE, &[], &[9 * PAGE, 10 * PAGE]);
    assert_eq!(bytes(&found), expected(&ram, &[5 * PAGE, 7 * PAGE, 8 * PAGE], 0, 3 * 4096));
}

#[test]
fn writing_fills_the_segments_in_order() {
    let ram = ram();
    let found = resolve(&ram, 5 * PAGE + 4000, 9 * PAGE, 200).unwrap();
    let data: Vec<u8> = (0..200).collect();
    found.write(&data).unwrap();
    assert_eq!(expected(&ram, &[5 * PAGE, 9 * PAGE], 4000, 200), data);
}
