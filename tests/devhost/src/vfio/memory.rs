// SPDX-License-Identifier: BSD-2-Clause

//! The guest's memory during one session.
//!
//! The library keeps pointers into guest memory for as long as it likes (see
//! `Host` in the library). So what was mapped stays mapped until the session
//! is over and the controller is quiescent; only the table of guest addresses
//! changes in between.
//!
//! Guest memory is mapped at the same distances as in the guest's address
//! space: what is contiguous for the guest is contiguous here, whichever files
//! it comes from and in whichever order. Without a virtual IOMMU files are
//! contiguous anyway; with one, a queue's pages lie all over the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::ptr::{self, NonNull};

use super::function::Range;

/// Guest addresses, lengths and file offsets are multiples of this.
const PAGE: u64 = 4096;

/// The most ranges at once.
const MAX_RANGES: usize = 65535;

/// Bytes of a window of guest addresses. Memory is contiguous within one.
const WINDOW: u64 = 1 << 40;

/// The most windows: half of a process's address space.
const MAX_WINDOWS: usize = 64;

/// The most pieces that stay mapped; Linux allows a process 65530 mappings.
const MAX_PIECES: usize = 32768;

/// Addresses of this process, reserved for a window of guest addresses. There
/// is nothing behind them but what is mapped there.
struct Window {
    base: NonNull<u8>,
}

// SAFETY: only the address of a mapping, which is undone by its owner.
unsafe impl Send for Window {}

impl Window {
    fn new() -> io::Result<Window> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces
        // nothing.
        let base =
            unsafe { libc::mmap(ptr::null_mut(), WINDOW as usize, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| error(libc::ENOMEM))?;
        Ok(Window { base })
    }

    /// Maps `len` bytes at `address`, which are inside the window: those of a
    /// file from an offset on, or, without one, zeros that nobody else sees.
    fn put(&self, address: u64, len: u64, from: Option<(RawFd, u64)>) -> io::Result<()> {
        let host = self.at(address);
        let (flags, fd, offset) = match from {
            Some((fd, offset)) => (libc::MAP_SHARED, fd, offset),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1, 0),
        };
        let offset = libc::off_t::try_from(offset).map_err(|_| error(libc::EINVAL))?;
        // SAFETY: replaces only what is in this window, which nothing but
        // guest memory is; whoever has a pointer there finds the new mapping
        // in place of the old without a gap.
        let mapped = unsafe {
            libc::mmap(
                host.as_ptr().cast(),
                len as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                flags | libc::MAP_FIXED,
                fd,
                offset,
            )
        };
        if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Where a guest address of this window is.
    fn at(&self, address: u64) -> NonNull<u8> {
        self.base.map_addr(|base| {
            base.checked_add((address % WINDOW) as usize).expect("a window does not wrap")
        })
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`; the session's owner drops it only once no
        // controller uses it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), WINDOW as usize) };
    }
}

/// A range of the table.
struct Entry {
    len: u64,
    /// Whether the device can use it.
    usable: bool,
}

/// What is mapped in a window, be it in the table or not any more.
#[derive(Clone, Copy)]
struct Piece {
    len: u64,
    /// The file's device and inode: a client sends a new descriptor with every
    /// range.
    file: (u64, u64),
    offset: u64,
}

/// What the client has mapped.
#[derive(Default)]
pub(super) struct GuestMemory {
    windows: BTreeMap<u64, Window>,
    ranges: BTreeMap<u64, Entry>,
    pieces: BTreeMap<u64, Piece>,
}

impl GuestMemory {
    /// Adds `len` bytes at guest address `address`: those from `offset` on of
    /// `file`. Without a file they are noted but no memory of the device's: a
    /// firmware's ROM comes that way. So they are where they are not `writable`
    /// and the file is not either; otherwise the difference is not made, for
    /// the library has no memory that is only read, and a virtual IOMMU maps
    /// what a guest writes to disk read-only.
    ///
    /// Fails with EINVAL where they are no whole pages, are not inside a
    /// regular file or pass the end of the address space, EEXIST where they
    /// overlap a range, ENOSPC beyond 65535 ranges or 64 windows, or as mmap(2)
    /// does.
    pub(super) fn map(
        &mut self,
        address: u64,
        len: u64,
        offset: u64,
        writable: bool,
        file: Option<OwnedFd>,
    ) -> io::Result<()> {
        let whole = (address | len | offset).is_multiple_of(PAGE) && len != 0;
        // The last byte must have an address, and so must the one after it.
        let Some(end) = address.checked_add(len).filter(|_| whole) else {
            return Err(error(libc::EINVAL));
        };
        if let Some((below, entry)) = self.ranges.range(..end).next_back()
            && below + entry.len > address
        {
            return Err(error(libc::EEXIST));
        }
        if self.ranges.len() >= MAX_RANGES {
            return Err(error(libc::ENOSPC));
        }
        let usable = match file {
            Some(file) => match self.back(address, len, &File::from(file), offset) {
                Err(error) if !writable && is_denied(&error) => false,
                done => done.map(|()| true)?,
            },
            None => false,
        };
        self.ranges.insert(address, Entry { len, usable });
        Ok(())
    }

    /// Takes `len` bytes at `address` out of the table, as far as they are in
    /// it; returns how many were. They stay mapped. Fails with EINVAL where
    /// they are no whole pages or pass the end of the address space; they may
    /// reach it, for a virtual IOMMU unmaps all of it in two halves.
    pub(super) fn unmap(&mut self, address: u64, len: u64) -> io::Result<u64> {
        let whole = (address | len).is_multiple_of(PAGE) && len != 0;
        if !whole || address.checked_add(len - 1).is_none() {
            return Err(error(libc::EINVAL));
        }
        // No range reaches as far as where this saturates.
        let end = address.saturating_add(len);
        let mut removed = 0;
        // From the top down, so that what is put back is not met again.
        while let Some((&start, entry)) = self.ranges.range(..end).next_back() {
            let (entry_end, usable) = (start + entry.len, entry.usable);
            if entry_end <= address {
                break;
            }
            self.ranges.remove(&start);
            removed += entry_end.min(end) - start.max(address);
            if entry_end > end {
                self.ranges.insert(end, Entry { len: entry_end - end, usable });
            }
            if start < address {
                self.ranges.insert(start, Entry { len: address - start, usable });
            }
        }
        Ok(removed)
    }

    /// Takes everything out of the table; returns how many bytes there were.
    pub(super) fn unmap_all(&mut self) -> u64 {
        let removed = self.ranges.values().map(|entry| entry.len).sum();
        self.ranges.clear();
        removed
    }

    /// The memory that the device can use: sorted, neighbours joined.
    pub(super) fn ranges(&self) -> Vec<Range> {
        let mut joined: Vec<Range> = Vec::new();
        for (&address, entry) in self.ranges.iter().filter(|(_, entry)| entry.usable) {
            for (address, len) in by_window(address, entry.len) {
                let Some(window) = self.windows.get(&(address / WINDOW)) else { continue };
                match joined.last_mut() {
                    Some(last)
                        if last.address + last.len == address
                            && !address.is_multiple_of(WINDOW) =>
                    {
                        last.len += len;
                    }
                    _ => joined.push(Range { address, len, host: window.at(address) }),
                }
            }
        }
        joined
    }

    /// Maps a part of `file` where the guest has it.
    fn back(&mut self, address: u64, len: u64, file: &File, offset: u64) -> io::Result<()> {
        let metadata = file.metadata()?;
        let inside = offset.checked_add(len).is_some_and(|end| end <= metadata.len());
        if !inside || !metadata.is_file() {
            return Err(error(libc::EINVAL));
        }
        let identity = (metadata.dev(), metadata.ino());
        for (at, len) in by_window(address, len) {
            let piece = Piece { len, file: identity, offset: offset + (at - address) };
            if self.is_mapped(at, &piece) {
                continue;
            }
            if self.pieces.len() >= MAX_PIECES {
                self.let_go()?;
            }
            let number = at / WINDOW;
            if !self.windows.contains_key(&number) {
                if self.windows.len() >= MAX_WINDOWS {
                    return Err(error(libc::ENOSPC));
                }
                self.windows.insert(number, Window::new()?);
            }
            self.forget(at, len);
            let window = &self.windows[&number];
            if let Err(error) = window.put(at, len, Some((file.as_raw_fd(), piece.offset))) {
                // What was there may be gone, and pointers to it not yet.
                window.put(at, len, None)?;
                return Err(error);
            }
            self.pieces.insert(at, piece);
        }
        Ok(())
    }

    /// Whether `piece` is mapped at `address` since before. Then it is left as
    /// it is: firmware unmaps and maps the same memory in other portions.
    fn is_mapped(&self, address: u64, piece: &Piece) -> bool {
        let Some((start, known)) = self.pieces.range(..=address).next_back() else { return false };
        let into = address - start;
        known.file == piece.file
            && known.offset + into == piece.offset
            && into + piece.len <= known.len
    }

    /// Forgets what is mapped in `len` bytes at `address`.
    fn forget(&mut self, address: u64, len: u64) {
        let end = address + len;
        while let Some((&start, &known)) = self.pieces.range(..end).next_back() {
            let known_end = start + known.len;
            if known_end <= address {
                break;
            }
            self.pieces.remove(&start);
            if known_end > end {
                let offset = known.offset + (end - start);
                self.pieces.insert(end, Piece { len: known_end - end, offset, ..known });
            }
            if start < address {
                self.pieces.insert(start, Piece { len: address - start, ..known });
            }
        }
    }

    /// Lets go of the files behind what is in the table no more. A controller
    /// that still has a pointer there finds zeros.
    fn let_go(&mut self) -> io::Result<()> {
        let ranges = &self.ranges;
        let unused: Vec<(u64, u64)> = self
            .pieces
            .iter()
            .map(|(&start, piece)| (start, piece.len))
            .filter(|&(start, len)| {
                let below = ranges.range(..start + len).next_back();
                below.is_none_or(|(address, entry)| address + entry.len <= start)
            })
            .collect();
        for (start, len) in unused {
            self.windows[&(start / WINDOW)].put(start, len, None)?;
            self.pieces.remove(&start);
        }
        Ok(())
    }
}

/// Splits a run of guest addresses where a window ends.
fn by_window(address: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
    let end = address + len;
    let mut at = address;
    std::iter::from_fn(move || {
        let start = at;
        at = end.min((start / WINDOW + 1).saturating_mul(WINDOW));
        (start < end).then(|| (start, at - start))
    })
}

fn is_denied(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM))
}

fn error(number: libc::c_int) -> io::Error {
    io::Error::from_raw_os_error(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::FromRawFd;
    use std::os::unix::fs::FileExt;

    fn memfd(len: u64) -> File {
        // SAFETY: a name that ends with a zero byte.
        let fd = unsafe { libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(fd >= 0);
        // SAFETY: a new descriptor.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(len).unwrap();
        file
    }

    fn fd(file: &File) -> Option<OwnedFd> {
        Some(file.try_clone().unwrap().into())
    }

    fn errno(result: io::Result<impl std::fmt::Debug>) -> Option<i32> {
        result.unwrap_err().raw_os_error()
    }

    #[test]
    fn neighbours_join_and_portions_do_not_matter() {
        let file = memfd(16 * PAGE);
        let mut memory = GuestMemory::default();
        memory.map(0, 4 * PAGE, 0, true, fd(&file)).unwrap();
        memory.map(8 * PAGE, 2 * PAGE, 8 * PAGE, true, fd(&file)).unwrap();
        memory.map(4 * PAGE, 4 * PAGE, 4 * PAGE, true, fd(&file)).unwrap();
        let ranges = memory.ranges();
        assert_eq!(ranges.len(), 1);
        assert_eq!((ranges[0].address, ranges[0].len), (0, 10 * PAGE));
        assert_eq!(memory.pieces.len(), 3);
        // The same again, in other portions, changes nothing.
        memory.unmap(0, 10 * PAGE).unwrap();
        for page in [3, 1, 0, 2] {
            memory.map(page * PAGE, PAGE, page * PAGE, true, fd(&file)).unwrap();
        }
        assert_eq!(memory.pieces.len(), 3);
        assert_eq!(memory.ranges()[0].host, ranges[0].host);
    }

    #[test]
    fn what_is_contiguous_for_the_guest_is_so_here() {
        let (file, other) = (memfd(4 * PAGE), memfd(4 * PAGE));
        for page in 0..4u8 {
            file.write_all_at(&[page; 1], u64::from(page) * PAGE).unwrap();
            other.write_all_at(&[page + 16; 1], u64::from(page) * PAGE).unwrap();
        }
        let mut memory = GuestMemory::default();
        let base = (1 << 32) - 2 * PAGE;
        // As a virtual IOMMU hands out pages.
        for (at, page, from) in [(0, 3, &file), (3, 0, &other), (1, 2, &file), (2, 2, &other)] {
            memory.map(base + at * PAGE, PAGE, page * PAGE, true, fd(from)).unwrap();
        }
        let look = |memory: &GuestMemory| {
            let ranges = memory.ranges();
            assert_eq!((ranges.len(), ranges[0].address, ranges[0].len), (1, base, 4 * PAGE));
            let byte = |page: usize| {
                let at = ranges[0].host.as_ptr().wrapping_add(page * PAGE as usize);
                // SAFETY: inside the range, which is mapped.
                unsafe { at.read_volatile() }
            };
            (0..4).map(byte).collect::<Vec<u8>>()
        };
        assert_eq!(look(&memory), [3, 2, 18, 16]);
        // And changes its mind.
        memory.unmap(base + PAGE, PAGE).unwrap();
        memory.map(base + PAGE, PAGE, PAGE, true, fd(&other)).unwrap();
        assert_eq!(look(&memory), [3, 17, 18, 16]);
    }

    #[test]
    fn what_is_unmapped_stays_readable() {
        let file = memfd(2 * PAGE);
        file.write_all_at(&[7], 0).unwrap();
        let mut memory = GuestMemory::default();
        memory.map(0, 2 * PAGE, 0, true, fd(&file)).unwrap();
        let host = memory.ranges()[0].host;
        memory.unmap(0, PAGE).unwrap();
        // SAFETY: mapped still.
        assert_eq!(unsafe { host.as_ptr().read_volatile() }, 7);
        // In use, if only in part.
        memory.let_go().unwrap();
        // SAFETY: as above.
        assert_eq!(unsafe { host.as_ptr().read_volatile() }, 7);
        memory.unmap_all();
        memory.let_go().unwrap();
        assert!(memory.pieces.is_empty());
        // SAFETY: as above, though it is the client's no more.
        assert_eq!(unsafe { host.as_ptr().read_volatile() }, 0);
        memory.map(0, PAGE, 0, true, fd(&file)).unwrap();
        // SAFETY: as above.
        assert_eq!(unsafe { host.as_ptr().read_volatile() }, 7);
    }

    #[test]
    fn windows_part_memory() {
        let file = memfd(4 * PAGE);
        let mut memory = GuestMemory::default();
        memory.map(3 * WINDOW - 2 * PAGE, 4 * PAGE, 0, true, fd(&file)).unwrap();
        let parts: Vec<_> = memory.ranges().iter().map(|part| (part.address, part.len)).collect();
        assert_eq!(parts, [(3 * WINDOW - 2 * PAGE, 2 * PAGE), (3 * WINDOW, 2 * PAGE)]);
        let mut windows = 2..;
        let refused = windows
            .find_map(|window| memory.map((window + 8) * WINDOW, PAGE, 0, true, fd(&file)).err());
        assert_eq!(refused.unwrap().raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(memory.windows.len(), MAX_WINDOWS);
    }

    #[test]
    fn what_is_unmapped_and_mapped_again_is_where_it_was() {
        let file = memfd(8 * PAGE);
        let mut memory = GuestMemory::default();
        memory.map(1 << 45, 8 * PAGE, 0, true, fd(&file)).unwrap();
        let before = memory.ranges();
        assert_eq!(memory.unmap((1 << 45) + 2 * PAGE, 3 * PAGE).unwrap(), 3 * PAGE);
        let holed = memory.ranges();
        assert_eq!(holed.len(), 2);
        assert_eq!((holed[0].address, holed[0].len), (1 << 45, 2 * PAGE));
        assert_eq!((holed[1].address, holed[1].len), ((1 << 45) + 5 * PAGE, 3 * PAGE));
        assert_eq!(holed[1].host.addr().get() - before[0].host.addr().get(), 5 * PAGE as usize);
        memory.map((1 << 45) + 2 * PAGE, 3 * PAGE, 2 * PAGE, true, fd(&file)).unwrap();
        assert_eq!(memory.ranges(), before);
        assert_eq!(memory.unmap(0, 1 << 46).unwrap(), 8 * PAGE);
        assert_eq!(memory.unmap(0, 1 << 46).unwrap(), 0);
        assert!(memory.ranges().is_empty());
    }

    #[test]
    fn rom_is_noted_but_no_memory() {
        let file = memfd(4 * PAGE);
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let rom = std::fs::OpenOptions::new().read(true).open(path).unwrap();
        let mut memory = GuestMemory::default();
        memory.map(0, PAGE, 0, false, fd(&rom)).unwrap();
        memory.map(PAGE, PAGE, 0, true, None).unwrap();
        assert!(memory.ranges().is_empty());
        assert_eq!(errno(memory.map(2 * PAGE, PAGE, 0, true, fd(&rom))), Some(libc::EACCES));
        assert_eq!(errno(memory.map(PAGE, PAGE, 0, true, fd(&file))), Some(libc::EEXIST));
        assert_eq!(memory.unmap_all(), 2 * PAGE);
        memory.map(PAGE, PAGE, 0, true, fd(&file)).unwrap();
        // What a guest with a virtual IOMMU writes to disk.
        memory.map(2 * PAGE, PAGE, PAGE, false, fd(&file)).unwrap();
        assert_eq!(memory.ranges().len(), 1);
        assert_eq!(memory.ranges()[0].len, 2 * PAGE);
    }

    #[test]
    fn senseless_ranges_are_refused() {
        let file = memfd(4 * PAGE);
        let mut memory = GuestMemory::default();
        for (address, len, offset) in [
            (0, 0, 0),
            (1, PAGE, 0),
            (0, PAGE + 1, 0),
            (0, PAGE, 512),
            (0, 5 * PAGE, 0),
            (0, PAGE, 4 * PAGE),
            (0, PAGE, 0u64.wrapping_sub(PAGE)),
            (0u64.wrapping_sub(PAGE), PAGE, 0),
            (PAGE, 0u64.wrapping_sub(PAGE), 0),
        ] {
            let result = memory.map(address, len, offset, true, fd(&file));
            assert_eq!(errno(result), Some(libc::EINVAL), "{address:#x} {len:#x} {offset:#x}");
        }
        assert_eq!(errno(memory.unmap(0, 0)), Some(libc::EINVAL));
        assert_eq!(errno(memory.unmap(2 * PAGE, u64::MAX - 4095)), Some(libc::EINVAL));
        memory.map(2 * PAGE, 2 * PAGE, 0, true, fd(&file)).unwrap();
        for (address, len) in [(0, 3 * PAGE), (2 * PAGE, PAGE), (3 * PAGE, PAGE), (PAGE, 4 * PAGE)]
        {
            assert_eq!(errno(memory.map(address, len, 0, true, fd(&file))), Some(libc::EEXIST));
        }
        // No regular file.
        let mut pair = [0; 2];
        // SAFETY: room for two descriptors.
        assert_eq!(unsafe { libc::pipe(pair.as_mut_ptr()) }, 0);
        for end in pair {
            // SAFETY: a new descriptor.
            let end = unsafe { OwnedFd::from_raw_fd(end) };
            assert_eq!(errno(memory.map(0, PAGE, 0, true, Some(end))), Some(libc::EINVAL));
        }
    }

    #[test]
    fn the_whole_address_space_goes_in_two_halves() {
        let file = memfd(4 * PAGE);
        let mut memory = GuestMemory::default();
        memory.map(0, PAGE, 0, true, fd(&file)).unwrap();
        memory.map((1 << 63) - PAGE, 2 * PAGE, 0, true, fd(&file)).unwrap();
        memory.map(0u64.wrapping_sub(2 * PAGE), PAGE, 0, true, fd(&file)).unwrap();
        assert_eq!(memory.unmap(0, 1 << 63).unwrap(), 2 * PAGE);
        assert_eq!(memory.ranges().len(), 2);
        assert_eq!(memory.unmap(1 << 63, 1 << 63).unwrap(), 2 * PAGE);
        assert!(memory.ranges().is_empty());
    }
}
