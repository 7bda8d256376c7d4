// SPDX-License-Identifier: BSD-2-Clause

//! MSI-X vectors and the eventfds that a client gave for them.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The vectors of one session.
pub(super) struct Interrupts(Vec<Mutex<Vector>>);

#[derive(Default)]
struct Vector {
    trigger: Option<Trigger>,
    /// Raised while there was no eventfd: the client may be about to send one.
    latched: bool,
}

struct Trigger {
    fd: OwnedFd,
    /// Whether a write never waits by itself.
    nonblocking: bool,
}

impl Interrupts {
    pub(super) fn new(vectors: usize) -> Interrupts {
        Interrupts((0..vectors).map(|_| Mutex::default()).collect())
    }

    /// Number of vectors.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Raises `vector`; one that does not exist is ignored. Never waits for
    /// the client.
    pub(super) fn raise(&self, vector: usize) {
        let Some(mut vector) = self.lock(vector) else { return };
        match &vector.trigger {
            Some(trigger) => trigger.fire(),
            None => vector.latched = true,
        }
    }

    /// Fires the eventfd of `vector` if it has one, for a client's own test.
    pub(super) fn trigger(&self, vector: usize) {
        if let Some(vector) = self.lock(vector)
            && let Some(trigger) = &vector.trigger
        {
            trigger.fire();
        }
    }

    /// Connects `vector` with an eventfd, or with none. What was raised
    /// meanwhile fires at once. Fails with EINVAL if it is no eventfd.
    pub(super) fn connect(&self, vector: usize, fd: Option<OwnedFd>) -> io::Result<()> {
        let trigger = fd.map(Trigger::new).transpose()?;
        let Some(mut vector) = self.lock(vector) else { return Ok(()) };
        if let Some(trigger) = &trigger
            && std::mem::take(&mut vector.latched)
        {
            trigger.fire();
        }
        vector.trigger = trigger;
        Ok(())
    }

    /// Forgets what is latched: the device was reset.
    pub(super) fn forget(&self) {
        for index in 0..self.count() {
            if let Some(mut vector) = self.lock(index) {
                vector.latched = false;
            }
        }
    }

    fn lock(&self, vector: usize) -> Option<MutexGuard<'_, Vector>> {
        Some(self.0.get(vector)?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Trigger {
    fn new(fd: OwnedFd) -> io::Result<Trigger> {
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        // A pipe or a socket that nobody reads would hold up the device.
        if std::fs::read_link(link)?.as_os_str() != "anon_inode:[eventfd]" {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // SAFETY: asks for the flags of a descriptor that is open.
        let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
        if flags < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Trigger { fd, nonblocking: flags & libc::O_NONBLOCK != 0 })
    }

    /// Adds one to the count. At the count's limit there is nothing to add:
    /// the client has an event to see as it is.
    fn fire(&self) {
        let fd = self.fd.as_raw_fd();
        if !self.nonblocking {
            let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
            // SAFETY: one pollfd, borrowed for the call.
            let count = unsafe { libc::poll(&mut poll, 1, 0) };
            if count != 1 || poll.revents & libc::POLLOUT == 0 {
                return;
            }
        }
        let one = 1u64;
        // SAFETY: eight bytes, borrowed for the call.
        unsafe { libc::write(fd, (&raw const one).cast(), size_of::<u64>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::FromRawFd;

    fn eventfd(count: u32, flags: libc::c_int) -> OwnedFd {
        // SAFETY: no pointers are involved.
        let fd = unsafe { libc::eventfd(count, flags | libc::EFD_CLOEXEC) };
        assert!(fd >= 0);
        // SAFETY: a new descriptor.
        unsafe { OwnedFd::from_raw_fd(fd) }
    }

    fn take(fd: &OwnedFd) -> Option<u64> {
        let mut count = 0u64;
        // SAFETY: eight bytes, borrowed for the call.
        let got = unsafe { libc::read(fd.as_raw_fd(), (&raw mut count).cast(), 8) };
        (got == 8).then_some(count)
    }

    #[test]
    fn what_was_raised_too_early_fires_once_it_can() {
        let interrupts = Interrupts::new(2);
        interrupts.raise(1);
        interrupts.raise(1);
        interrupts.raise(7);
        let fd = eventfd(0, libc::EFD_NONBLOCK);
        interrupts.connect(1, Some(fd.try_clone().unwrap())).unwrap();
        assert_eq!(take(&fd), Some(1));
        interrupts.raise(1);
        interrupts.trigger(1);
        assert_eq!(take(&fd), Some(2));
        // Changing eventfds loses nothing.
        interrupts.connect(1, None).unwrap();
        interrupts.trigger(1);
        interrupts.raise(1);
        assert_eq!(take(&fd), None);
        interrupts.connect(1, Some(fd.try_clone().unwrap())).unwrap();
        assert_eq!(take(&fd), Some(1));
        interrupts.connect(1, None).unwrap();
        interrupts.raise(1);
        interrupts.forget();
        interrupts.connect(1, Some(fd.try_clone().unwrap())).unwrap();
        assert_eq!(take(&fd), None);
    }

    #[test]
    fn a_client_cannot_hold_the_device_up() {
        let interrupts = Interrupts::new(1);
        let fd = eventfd(0, 0);
        let most = u64::MAX - 1;
        // SAFETY: eight bytes, borrowed for the call.
        assert_eq!(unsafe { libc::write(fd.as_raw_fd(), (&raw const most).cast(), 8) }, 8);
        interrupts.connect(0, Some(fd.try_clone().unwrap())).unwrap();
        interrupts.raise(0);
        assert_eq!(take(&fd), Some(most));
        interrupts.raise(0);
        assert_eq!(take(&fd), Some(1));
        let file = std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
        let refused = interrupts.connect(0, Some(file.into())).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
    }
}
