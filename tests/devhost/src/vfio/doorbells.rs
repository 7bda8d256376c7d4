// SPDX-License-Identifier: BSD-2-Clause

//! The doorbell page that a polled client maps and stores to.
//!
//! Nothing tells of a store, so the page is read over and over, and what
//! changed becomes a register write. Every word holds [`SILENT`] until the
//! client stores to it and again once that was seen: so a value that is stored
//! twice is seen twice, even where a queue was deleted and created in between.
//! Only values that are replaced within one look are missed; for a doorbell
//! the later value says all.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::function::PciFunction;

/// Offset of the page in BAR0, and in the file behind it.
pub(super) const OFFSET: u64 = 0x1000;

/// Bytes of the page.
pub(super) const BYTES: u64 = 0x1000;

/// What no doorbell holds: queues have at most 65536 entries.
const SILENT: u32 = u32::MAX;

/// How long the page is watched without a pause after a store.
const AWAKE: Duration = Duration::from_micros(200);

/// The shortest and the longest pause after that.
const PAUSES: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(1));

/// A page of doorbells in a file that a client can map.
pub(super) struct Page {
    file: OwnedFd,
    base: NonNull<AtomicU32>,
    /// Doorbells in use: those of `queues` pairs.
    words: usize,
    /// Held over a look at the page: two at once could swap an old value for
    /// a newer one.
    look: Mutex<()>,
}

// SAFETY: the words are atomics in memory that stays mapped until drop.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// A page for `queues` queue pairs, the admin queues included.
    pub(super) fn new(queues: usize) -> io::Result<Page> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: a name that ends with a zero byte.
        let fd = unsafe { libc::memfd_create(c"doorbells".as_ptr(), flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else knows of.
        let file = unsafe { File::from_raw_fd(fd) };
        // Clients add the page's offset in the BAR to the region's own.
        file.set_len(OFFSET + BYTES)?;
        // A client that shrinks the file would take the page from under us.
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: changes a descriptor that is open; no pointers are involved.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new mapping at an address of the kernel's choice replaces
        // nothing.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                BYTES as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                OFFSET as libc::off_t,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let words = (queues * 2).min(BYTES as usize / size_of::<u32>());
        let page = Page { file: file.into(), base, words, look: Mutex::new(()) };
        page.silence();
        Ok(page)
    }

    /// The file behind it.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Turns what was stored since the last look into register writes; returns
    /// whether there was anything.
    pub(super) fn forward(&self, function: &dyn PciFunction) -> bool {
        let _look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        let mut any = false;
        for index in 0..self.words {
            let word = self.word(index);
            if word.load(Ordering::Relaxed) == SILENT {
                continue;
            }
            // Acquire: the queue entries that the client wrote before.
            let value = word.swap(SILENT, Ordering::Acquire);
            let offset = OFFSET + index as u64 * 4;
            function.bar_write(0, offset, 4, u64::from(value));
            any = true;
        }
        any
    }

    /// Forgets what was stored: the device was reset.
    pub(super) fn silence(&self) {
        let _look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        for index in 0..self.words {
            self.word(index).store(SILENT, Ordering::Relaxed);
        }
    }

    /// Forwards until `stop` is set.
    pub(super) fn poll(&self, function: &dyn PciFunction, stop: &AtomicBool) {
        let mut last = Instant::now();
        let mut pause = PAUSES.0;
        while !stop.load(Ordering::Acquire) {
            if self.forward(function) {
                last = Instant::now();
                pause = PAUSES.0;
            } else if last.elapsed() < AWAKE {
                thread::yield_now();
            } else {
                thread::park_timeout(pause);
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }

    fn word(&self, index: usize) -> &AtomicU32 {
        assert!(index < self.words);
        // SAFETY: inside the page (asserted), which is mapped until drop.
        unsafe { &*self.base.as_ptr().wrapping_add(index) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`; no word outlives the page.
        unsafe { libc::munmap(self.base.as_ptr().cast(), BYTES as usize) };
    }
}
