// SPDX-License-Identifier: BSD-2-Clause

//! Pages of our own memory, and how the host gets them back.

use crate::memory::Segment;
use std::ffi::c_void;
use std::sync::OnceLock;

/// Bytes of a page; a power of two.
pub(crate) fn page_size() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(|| {
        // SAFETY: touches no memory of ours.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(size).ok().filter(|size| size.is_power_of_two()).unwrap_or(4096)
    })
}

/// Makes `memory`, which is private and anonymous, read as zeroes, and gives
/// the whole pages in it back to the host.
pub(crate) fn give_back(memory: &Segment) {
    let (base, page) = (start(memory), page_size());
    let end = base.saturating_add(memory.len());
    let (first, last) = (base.next_multiple_of(page), end / page * page);
    let Some(pages) = memory.slice(first - base, last.saturating_sub(first)) else {
        return memory.zero();
    };
    if pages.is_empty() {
        return memory.zero();
    }
    for edge in [memory.slice(0, first - base), memory.slice(last - base, end - last)] {
        edge.iter().for_each(Segment::zero);
    }
    discard(&pages);
}

/// The pages are gone at once, and come back zero when they are touched. What
/// is locked into memory is refused.
#[cfg(not(target_os = "freebsd"))]
fn discard(pages: &Segment) {
    if !advise(pages, libc::MADV_DONTNEED) {
        pages.zero();
    }
}

/// The host takes the pages when it wants them, without writing them to swap.
/// Until then they hold what they held, so that has to be zeroes already. In
/// pieces, for zeroing what was never touched takes memory.
#[cfg(target_os = "freebsd")]
fn discard(pages: &Segment) {
    const PIECE: usize = 1 << 20;
    let mut at = 0;
    while let Some(piece) = pages.slice(at, PIECE.min(pages.len() - at)) {
        if piece.is_empty() {
            break;
        }
        piece.zero();
        // Refused, they are zero all the same.
        advise(&piece, libc::MADV_FREE);
        at += piece.len();
    }
}

/// `madvise(2)` for whole pages; whether it was taken.
fn advise(pages: &Segment, advice: libc::c_int) -> bool {
    let at = start(pages) as *mut c_void;
    // SAFETY: the pages are mapped, of our own, and used by raw copies alone,
    // which may find them zero at any time.
    unsafe { libc::madvise(at, pages.len(), advice) == 0 }
}

/// The address of the first byte.
fn start(memory: &Segment) -> usize {
    // SAFETY: the list has the one segment that it was made of.
    unsafe { (*Segment::as_iovec(std::slice::from_ref(memory))).iov_base as usize }
}

/// Bytes of the whole pages of `memory` that are in the host's memory.
#[cfg(all(test, target_os = "linux"))]
pub(crate) fn resident(memory: &Segment) -> usize {
    let (base, page) = (start(memory), page_size());
    let first = base.next_multiple_of(page);
    let len = (base + memory.len()).saturating_sub(first) / page * page;
    let mut pages = vec![0u8; len / page];
    // SAFETY: one byte for each page of a mapped range.
    let result = unsafe { libc::mincore(first as *mut c_void, len, pages.as_mut_ptr()) };
    assert_eq!(result, 0, "mincore");
    pages.iter().filter(|page| **page & 1 != 0).count() * page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Region;

    /// From any byte to any other, about the pages' ends.
    #[test]
    fn what_is_given_back_is_zero_and_nothing_beside_it() {
        let page = page_size();
        let region = Region::zeroed(4 * page).unwrap();
        let all = region.segment();
        let mut bytes = vec![0; all.len()];
        let ends = [0, 1, 512, page - 1, page, page + 1, 2 * page, 3 * page - 512, 4 * page];
        for from in ends {
            for to in ends.into_iter().filter(|to| *to >= from) {
                all.write(&vec![7; all.len()]).unwrap();
                give_back(&all.slice(from, to - from).unwrap());
                all.read(&mut bytes).unwrap();
                let zero = |at: &usize| (from..to).contains(at);
                assert!((0..bytes.len()).all(|at| (bytes[at] == 0) == zero(&at)), "{from}..{to}");
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_host_has_the_pages_back() {
        let page = page_size();
        let region = Region::zeroed(64 * page).unwrap();
        let all = region.segment();
        all.write(&vec![7; all.len()]).unwrap();
        assert!(resident(&all) >= 63 * page);
        // All but an edge of the first and of the last.
        give_back(&all.slice(1, 64 * page - 2).unwrap());
        assert!(resident(&all) <= 3 * page, "{} bytes", resident(&all));
        // Nor are any taken for what was never touched.
        give_back(&all);
        assert!(resident(&all) <= 2 * page, "{} bytes", resident(&all));
    }
}
