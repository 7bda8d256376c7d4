// SPDX-License-Identifier: BSD-2-Clause

//! The only door to guest memory.
//!
//! Guest memory is shared with running vCPUs: its contents may change between
//! any two reads. So nothing here ever forms a Rust reference to it. A
//! [`Segment`] is an address and a length that [`crate::host::Host::map`] has
//! vouched for; all access is by bounds-checked copies and by aligned atomic
//! loads and stores.
//!
//! The memory of a `ram=` disk lives under the same rules (two commands may
//! overlap), so it is a [`Region`] made of the same stuff.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A run of bytes that stays mapped for the life of the virtual machine.
///
/// It has the layout of C's `struct iovec`, so that a list of segments goes to
/// `preadv(2)` and `pwritev(2)` as it is.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Segment(libc::iovec);

// SAFETY: a segment is an address that stays mapped and writable for the life
// of the VM (see `Segment::new`); every access through it is a raw copy or an
// atomic operation, which needs no exclusive ownership.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

impl Segment {
    /// A segment of no bytes.
    pub const EMPTY: Segment =
        Segment(libc::iovec { iov_base: NonNull::<u8>::dangling().as_ptr().cast(), iov_len: 0 });

    /// Vouches for `len` bytes at `base`.
    ///
    /// # Safety
    /// The bytes must stay mapped, readable and writable until no controller
    /// can use them any more, and must not be accessed through Rust
    /// references meanwhile.
    pub unsafe fn new(base: NonNull<u8>, len: usize) -> Segment {
        Segment(libc::iovec { iov_base: base.as_ptr().cast(), iov_len: len })
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.iov_len
    }

    /// Whether it holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.iov_len == 0
    }

    /// The `len` bytes from `offset` on; `None` if they are not all inside.
    pub fn slice(&self, offset: usize, len: usize) -> Option<Segment> {
        let end = offset.checked_add(len)?;
        if end > self.len() {
            return None;
        }
        Some(Segment(libc::iovec {
            iov_base: self.base().wrapping_add(offset).cast(),
            iov_len: len,
        }))
    }

    /// Joins `next` to this segment when it starts right where this one ends.
    ///
    /// The caller must only join what the host maps as one range: neighbours
    /// in the guest's address space that are neighbours here as well.
    pub fn join(&self, next: &Segment) -> Option<Segment> {
        if self.base().wrapping_add(self.len()) != next.base() {
            return None;
        }
        let len = self.len().checked_add(next.len())?;
        Some(Segment(libc::iovec { iov_base: self.0.iov_base, iov_len: len }))
    }

    /// Copies all of `from` to the start of this segment; `None`, and nothing
    /// copied, if it does not fit.
    pub fn write(&self, from: &[u8]) -> Option<()> {
        if from.len() > self.len() {
            return None;
        }
        // SAFETY: the destination has room (checked) and is mapped and
        // writable; a Rust slice never overlaps guest memory.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), self.base(), from.len()) };
        Some(())
    }

    /// Fills all of `to` from the start of this segment; `None`, and nothing
    /// copied, if the segment is shorter.
    pub fn read(&self, to: &mut [u8]) -> Option<()> {
        if to.len() > self.len() {
            return None;
        }
        // SAFETY: the source is long enough (checked) and mapped; a Rust slice
        // never overlaps guest memory.
        unsafe { ptr::copy_nonoverlapping(self.base(), to.as_mut_ptr(), to.len()) };
        Some(())
    }

    /// Copies all of `from` to the start of this segment; `None`, and nothing
    /// copied, if it does not fit. The two may overlap.
    pub fn copy_from(&self, from: &Segment) -> Option<()> {
        if from.len() > self.len() {
            return None;
        }
        // SAFETY: both ranges are mapped, the destination has room (checked).
        unsafe { ptr::copy(from.base(), self.base(), from.len()) };
        Some(())
    }

    /// Copies all of `from` to the start of this segment, past the CPU's caches
    /// where both allow it: what is stored is not first read, and takes no room
    /// in a cache. `None`, and nothing copied, if it does not fit. The two must
    /// not overlap, else what is copied is unspecified.
    ///
    /// Other threads may see the bytes before what this thread stored earlier,
    /// unless there was an atomic read-modify-write in between; and they see
    /// them before anything that it stores later.
    pub fn stream_from(&self, from: &Segment) -> Option<()> {
        #[cfg(target_arch = "x86_64")]
        if from.len() <= self.len() && stream::fits(self.base(), from.len()) {
            // SAFETY: both ranges are mapped, the destination has room and is
            // aligned (checked).
            unsafe { stream::copy(from.base(), self.base(), from.len()) };
            return Some(());
        }
        self.copy_from(from)
    }

    /// Sets every byte to zero.
    pub fn zero(&self) {
        // SAFETY: the range is mapped and writable.
        unsafe { ptr::write_bytes(self.base(), 0, self.len()) };
    }

    /// The aligned 64-bit word at byte `offset`, for atomic access; `None` if
    /// it is not inside or not aligned.
    fn word64(&self, offset: usize) -> Option<&AtomicU64> {
        let at = self.slice(offset, 8)?.base().cast::<u64>();
        if !at.is_aligned() {
            return None;
        }
        // SAFETY: eight mapped, aligned bytes that are valid for the life of
        // the VM, which outlives `self`'s borrow.
        Some(unsafe { AtomicU64::from_ptr(at) })
    }

    /// Stores the 64-bit little-endian `value` at byte `offset` in one access;
    /// `None` if it is not inside or not aligned.
    pub fn store64(&self, offset: usize, value: u64, order: Ordering) -> Option<()> {
        self.word64(offset)?.store(value.to_le(), order);
        Some(())
    }

    /// Loads the 64-bit little-endian value at byte `offset` in one access;
    /// `None` if it is not inside or not aligned.
    pub fn load64(&self, offset: usize, order: Ordering) -> Option<u64> {
        Some(u64::from_le(self.word64(offset)?.load(order)))
    }

    /// The aligned 32-bit word at byte `offset`, as [`Segment::word64`].
    fn word32(&self, offset: usize) -> Option<&AtomicU32> {
        let at = self.slice(offset, 4)?.base().cast::<u32>();
        if !at.is_aligned() {
            return None;
        }
        // SAFETY: as in `word64`, for four bytes.
        Some(unsafe { AtomicU32::from_ptr(at) })
    }

    /// Stores the 32-bit little-endian `value` at byte `offset` in one access;
    /// `None` if it is not inside or not aligned.
    pub fn store32(&self, offset: usize, value: u32, order: Ordering) -> Option<()> {
        self.word32(offset)?.store(value.to_le(), order);
        Some(())
    }

    /// Loads the 32-bit little-endian value at byte `offset` in one access;
    /// `None` if it is not inside or not aligned.
    pub fn load32(&self, offset: usize, order: Ordering) -> Option<u32> {
        Some(u32::from_le(self.word32(offset)?.load(order)))
    }

    /// Stores the 32-bit little-endian `value` at byte `offset` if `current` is
    /// there, in one access; `None` if it is not, or if the word is not inside
    /// or not aligned.
    pub fn exchange32(
        &self,
        offset: usize,
        current: u32,
        value: u32,
        order: Ordering,
    ) -> Option<()> {
        let word = self.word32(offset)?;
        word.compare_exchange(current.to_le(), value.to_le(), order, Ordering::Relaxed).ok()?;
        Some(())
    }

    /// The list as C's `struct iovec` array, for system calls.
    pub fn as_iovec(segments: &[Segment]) -> *const libc::iovec {
        segments.as_ptr().cast()
    }

    fn base(&self) -> *mut u8 {
        self.0.iov_base.cast()
    }
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Segment({:p}, {})", self.0.iov_base, self.0.iov_len)
    }
}

/// The total length in bytes of a list of segments.
pub fn total_len(segments: &[Segment]) -> u64 {
    segments.iter().map(|s| s.len() as u64).sum()
}

/// Zero-filled memory of our own, shared in the same way as guest memory: the
/// store of a `ram=` disk, and the guest of an in-process test.
pub struct Region {
    segment: Segment,
    allocation: Segment,
    layout: Layout,
}

impl Region {
    const PAGE: usize = 4096;

    /// Page-aligned memory of `len` bytes, all zero; `None` when the host has
    /// not so much, or for zero bytes. The host's pages are taken as they are
    /// first touched.
    pub fn zeroed(len: usize) -> Option<Region> {
        if len == 0 {
            return None;
        }
        // Aligned here and not by the allocator: for an ordinary layout that
        // has fresh zero pages, but what is aligned further it clears by hand,
        // and so takes all of it at once.
        let layout = Layout::from_size_align(len.checked_add(Self::PAGE)?, 8).ok()?;
        // SAFETY: the layout's size is not zero.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        // SAFETY: the allocation lives as long as the region, and nothing but
        // segments of it is ever handed out.
        let allocation = unsafe { Segment::new(base, layout.size()) };
        let segment = allocation.slice(Self::PAGE - base.addr().get() % Self::PAGE, len)?;
        Some(Region { segment, allocation, layout })
    }

    /// All of it. The segment must not be used once the region is dropped:
    /// whoever drops a region has first made sure that no controller uses it.
    pub fn segment(&self) -> Segment {
        self.segment
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this very layout.
        unsafe { dealloc(self.allocation.base(), self.layout) };
    }
}

/// Copies by stores that go past the caches.
#[cfg(target_arch = "x86_64")]
mod stream {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

    /// A cache line, in units of what one instruction moves.
    const LINE: usize = 4;
    const LINE_BYTES: usize = LINE * size_of::<__m128i>();

    /// Whether it is worth it, and possible: whole cache lines.
    pub(super) fn fits(to: *const u8, len: usize) -> bool {
        len != 0 && len.is_multiple_of(LINE_BYTES) && to.addr().is_multiple_of(LINE_BYTES)
    }

    /// # Safety
    /// `len` bytes are mapped at both places, and [`fits`] is true.
    pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
        let (from, to) = (from.cast::<__m128i>(), to.cast::<__m128i>());
        for at in (0..len / size_of::<__m128i>()).step_by(LINE) {
            for word in at..at + LINE {
                // SAFETY: inside the range, which is mapped.
                let bytes = unsafe { _mm_loadu_si128(from.wrapping_add(word)) };
                // SAFETY: as above, and aligned.
                unsafe { _mm_stream_si128(to.wrapping_add(word), bytes) };
            }
        }
        // Such stores are not ordered with others.
        // SAFETY: every x86-64 has the instruction.
        unsafe { _mm_sfence() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_stay_inside() {
        let region = Region::zeroed(8192).unwrap();
        let all = region.segment();
        assert_eq!(all.slice(4096, 4096).unwrap().len(), 4096);
        assert!(all.slice(4096, 4097).is_none());
        assert!(all.slice(8193, 0).is_none());
        assert!(all.slice(usize::MAX, 2).is_none());
    }

    #[test]
    fn neighbours_join_and_others_do_not() {
        let region = Region::zeroed(12288).unwrap();
        let all = region.segment();
        let (a, b, c) = (
            all.slice(0, 4096).unwrap(),
            all.slice(4096, 4096).unwrap(),
            all.slice(8192, 16).unwrap(),
        );
        assert_eq!(a.join(&b).unwrap().len(), 8192);
        assert_eq!(a.join(&b).unwrap().join(&c).unwrap().len(), 8208);
        assert!(a.join(&c).is_none());
        assert!(b.join(&a).is_none());
    }

    #[test]
    fn copies_are_bounded() {
        let region = Region::zeroed(16).unwrap();
        let all = region.segment();
        assert!(all.write(&[1; 17]).is_none());
        assert!(all.write(&[7; 16]).is_some());
        let mut out = [0; 16];
        assert!(all.read(&mut out).is_some());
        assert_eq!(out, [7; 16]);
        assert!(all.read(&mut [0; 17]).is_none());
        all.zero();
        all.read(&mut out).unwrap();
        assert_eq!(out, [0; 16]);
    }

    #[test]
    fn streamed_copies_are_exact_wherever_they_begin() {
        let (from, to) = (Region::zeroed(8192).unwrap(), Region::zeroed(8192).unwrap());
        let bytes: Vec<u8> = (0..8192u32).map(|at| ((at * 7) >> 3) as u8).collect();
        from.segment().write(&bytes).unwrap();
        for (at, source, len) in
            [(0, 0, 8192), (64, 4, 4096), (512, 1, 64), (4, 0, 4096), (64, 0, 100), (128, 9, 0)]
        {
            let to = to.segment();
            to.zero();
            let part = from.segment().slice(source, len).unwrap();
            to.slice(at, to.len() - at).unwrap().stream_from(&part).unwrap();
            let mut expected = vec![0; 8192];
            expected[at..at + len].copy_from_slice(&bytes[source..source + len]);
            let mut found = vec![0; 8192];
            to.read(&mut found).unwrap();
            assert_eq!(found, expected, "{len} bytes at {at}");
        }
        let small = to.segment().slice(0, 4096).unwrap();
        assert!(small.stream_from(&from.segment()).is_none());
    }

    #[test]
    fn a_region_begins_on_a_page() {
        for len in [1, 4096, 3 << 20] {
            let region = Region::zeroed(len).unwrap();
            assert_eq!(region.segment().len(), len);
            assert_eq!(region.segment().base().addr() % 4096, 0);
            region.segment().slice(len - 1, 1).unwrap().write(&[1]).unwrap();
        }
        assert!(Region::zeroed(0).is_none());
        assert!(Region::zeroed(usize::MAX).is_none());
    }

    #[test]
    fn words_are_little_endian_and_aligned() {
        let region = Region::zeroed(32).unwrap();
        let all = region.segment();
        all.store64(8, 0x0102_0304_0506_0708, Ordering::Release).unwrap();
        let mut out = [0; 16];
        all.read(&mut out).unwrap();
        assert_eq!(out[8..], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(all.load32(8, Ordering::Relaxed), Some(0x0506_0708));
        assert!(all.store64(4, 0, Ordering::Relaxed).is_none());
        assert!(all.store64(32, 0, Ordering::Relaxed).is_none());
        assert!(all.load32(2, Ordering::Relaxed).is_none());
    }
}
