// SPDX-License-Identifier: BSD-2-Clause

//! `kqueue(2)`: the kernel's word that a file may have changed its size.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::{Errno, retry};
use crate::backend::SizeEvents;
use crate::sandbox;

/// A file whose attributes and end are watched.
pub(super) struct FileEvents {
    queue: OwnedFd,
}

impl FileEvents {
    /// Takes CAP_EVENT on `file` now, and none later.
    pub(super) fn new(file: &File) -> Result<FileEvents, Errno> {
        // SAFETY: touches no memory of ours.
        let queue = unsafe { libc::kqueue() };
        if queue < 0 {
            return Err(Errno::last());
        }
        // SAFETY: the descriptor is new, so nobody else has it.
        let queue = unsafe { OwnedFd::from_raw_fd(queue) };
        // EV_CLEAR: an event that has been seen does not come again.
        let mut size = event(libc::EVFILT_VNODE, libc::EV_ADD | libc::EV_CLEAR);
        size.ident = file.as_raw_fd() as usize;
        size.fflags = libc::NOTE_ATTRIB | libc::NOTE_EXTEND;
        change(queue.as_raw_fd(), &size)?;
        change(queue.as_raw_fd(), &event(libc::EVFILT_USER, libc::EV_ADD))?;
        sandbox::limit_events(&queue).map_err(|error| Errno::of(&error))?;
        Ok(FileEvents { queue })
    }
}

impl SizeEvents for FileEvents {
    /// A file whose file system is unmounted by force tells nothing more.
    fn wait(&self) -> bool {
        let mut seen = event(0, 0);
        let queue = self.queue.as_raw_fd();
        let waited = retry(|| {
            // SAFETY: there is room for one event, and no change.
            match unsafe { libc::kevent(queue, ptr::null(), 0, &mut seen, 1, ptr::null()) } {
                count if count < 0 => Err(Errno::last()),
                count => Ok(count),
            }
        });
        waited == Ok(1) && seen.filter == libc::EVFILT_VNODE && seen.flags & libc::EV_EOF == 0
    }

    fn end(&self) {
        let mut end = event(libc::EVFILT_USER, 0);
        end.fflags = libc::NOTE_TRIGGER;
        // It fails for no event that `new` has added.
        let _ = change(self.queue.as_raw_fd(), &end);
    }
}

fn change(queue: RawFd, change: &libc::kevent) -> Result<(), Errno> {
    // SAFETY: one change is read, and there is no room for events.
    match unsafe { libc::kevent(queue, change, 1, ptr::null_mut(), 0, ptr::null()) } {
        count if count < 0 => Err(Errno::last()),
        _ => Ok(()),
    }
}

fn event(filter: i16, flags: u16) -> libc::kevent {
    // SAFETY: numbers and a pointer, of which zero is one. Its length depends
    // on the release.
    let event: libc::kevent = unsafe { std::mem::zeroed() };
    libc::kevent { filter, flags, ..event }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;
    use std::thread::spawn;

    fn file() -> File {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("bhyve-nvme-kqueue.{}.{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file.set_len(65536).unwrap();
        file
    }

    #[test]
    fn larger_and_smaller_is_told_and_a_write_inside_is_not() {
        let file = file();
        let events = FileEvents::new(&file).unwrap();
        for size in [1 << 20, 65536, 512] {
            file.set_len(size).unwrap();
            assert!(events.wait(), "{size}");
        }
        file.write_all_at(&[7; 4096], 512).unwrap();
        assert!(events.wait(), "a write beyond the end");

        file.write_all_at(&[8; 4096], 100).unwrap();
        file.sync_all().unwrap();
        let mut bytes = [0; 4096];
        file.read_exact_at(&mut bytes, 0).unwrap();
        // Events come in their order: this is the first there is.
        events.end();
        assert!(!events.wait());
    }

    #[test]
    fn a_wait_ends_when_it_is_told_to() {
        let events = Arc::new(FileEvents::new(&file()).unwrap());
        let waiting = events.clone();
        let waiter = spawn(move || waiting.wait());
        events.end();
        assert!(!waiter.join().unwrap());
        assert!(!events.wait(), "for good");
    }
}
