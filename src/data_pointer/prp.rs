// SPDX-License-Identifier: BSD-2-Clause

//! Physical region pages (section 4.3).

use super::Segments;
use crate::host::Host;
use crate::wire::PAGE_SIZE;
use crate::wire::command::Command;
use crate::wire::status::Status;

const PAGE: u64 = PAGE_SIZE as u64;
const ENTRY: usize = 8;

/// The two PRP entries of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prp {
    prp1: u64,
    prp2: u64,
}

fn offset(address: u64) -> u64 {
    address % PAGE
}

/// Bytes from `address` to the end of its page.
fn to_page_end(address: u64) -> usize {
    PAGE_SIZE.saturating_sub(offset(address) as usize)
}

impl Prp {
    pub(crate) fn of(command: &Command) -> Prp {
        let [prp1, prp2] = command.dptr;
        Prp { prp1: prp1.get(), prp2: prp2.get() }
    }

    /// Fills `segments` with the `len` bytes of guest memory that the entries
    /// name.
    ///
    /// PRP1 may begin anywhere in a page, at a multiple of four bytes. What
    /// does not fit in its page is where PRP2 points, if it is at most a page;
    /// else PRP2 is the address of a list of page addresses, which may begin
    /// anywhere in a page, at a multiple of eight bytes. A list that goes on
    /// past the end of its page continues where the last entry in the page
    /// points; an entry is a pointer of this kind only if more than one page
    /// address is still to come.
    #[inline(always)]
    pub(crate) fn segments(
        self,
        host: &dyn Host,
        len: usize,
        segments: &mut Segments,
    ) -> Result<(), Status> {
        segments.clear();
        if len == 0 {
            return Ok(());
        }
        if self.prp1 & 3 != 0 {
            return Err(Status::PRP_OFFSET_INVALID.do_not_retry());
        }
        let first = len.min(to_page_end(self.prp1));
        segments.push(host, self.prp1, first)?;
        let rest = len.saturating_sub(first);
        if rest == 0 {
            return Ok(());
        }
        if rest <= PAGE_SIZE {
            return push_page(host, self.prp2, rest, segments);
        }
        if self.prp2 & 7 != 0 {
            return Err(Status::PRP_OFFSET_INVALID.do_not_retry());
        }
        follow_list(host, self.prp2, rest, segments)
    }
}

fn push_page(
    host: &dyn Host,
    page: u64,
    len: usize,
    segments: &mut Segments,
) -> Result<(), Status> {
    if offset(page) != 0 {
        return Err(Status::PRP_OFFSET_INVALID.do_not_retry());
    }
    segments.push(host, page, len)
}

/// Every round either ends the transfer or consumes at least one page of it,
/// but for a list of a single slot, whose pointer is then followed: so a list
/// chained to itself ends with the transfer.
fn follow_list(
    host: &dyn Host,
    list: u64,
    len: usize,
    segments: &mut Segments,
) -> Result<(), Status> {
    let (mut list, mut rest) = (list, len);
    while rest > 0 {
        let slots = to_page_end(list) / ENTRY;
        let pages = rest.div_ceil(PAGE_SIZE);
        let read = slots.min(pages);
        let bytes = read.saturating_mul(ENTRY);
        let mapped = host.map(list, bytes).ok_or(Status::DATA_TRANSFER_ERROR.do_not_retry())?;
        {
            let Some(copy) = segments.entries.get_mut(..bytes) else {
                return Err(Status::INTERNAL_ERROR);
            };
            mapped.read(copy).ok_or(Status::DATA_TRANSFER_ERROR)?;
        }
        // The page's last slot is a pointer only when it cannot hold all that
        // is left.
        let data = if pages > slots { slots.saturating_sub(1) } else { read };
        // Pages that follow each other, as address and bytes: mapped at once.
        let (mut start, mut run) = (0u64, 0usize);
        for index in 0..data {
            let page = entry(segments, index)?;
            let len = rest.min(PAGE_SIZE);
            if start.checked_add(run as u64) != Some(page) {
                push_pages(host, start, run, segments)?;
                (start, run) = (page, 0);
            }
            if offset(page) != 0 {
                return Err(Status::PRP_OFFSET_INVALID.do_not_retry());
            }
            run = run.saturating_add(len);
            rest = rest.saturating_sub(len);
        }
        push_pages(host, start, run, segments)?;
        if rest > 0 {
            list = entry(segments, data)?;
            if offset(list) != 0 {
                return Err(Status::PRP_OFFSET_INVALID.do_not_retry());
            }
        }
    }
    Ok(())
}

/// `len` bytes of pages that follow each other in guest memory.
fn push_pages(
    host: &dyn Host,
    start: u64,
    len: usize,
    segments: &mut Segments,
) -> Result<(), Status> {
    if len == 0 || segments.push(host, start, len).is_ok() {
        return Ok(());
    }
    // Pages of two mappings may be among them, or one that is no memory.
    let mut done = 0usize;
    while done < len {
        let part = len.saturating_sub(done).min(PAGE_SIZE);
        segments.push(host, start.wrapping_add(done as u64), part)?;
        done = done.saturating_add(part);
    }
    Ok(())
}

fn entry(segments: &Segments, index: usize) -> Result<u64, Status> {
    let at = index.saturating_mul(ENTRY);
    segments
        .entries
        .get(at..at.saturating_add(ENTRY))
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_le_bytes)
        .ok_or(Status::INTERNAL_ERROR)
}
