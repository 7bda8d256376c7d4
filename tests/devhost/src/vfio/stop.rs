// SPDX-License-Identifier: BSD-2-Clause

//! The handle that stops a server from another thread or a signal handler.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// Stops a server. Once used it stays used; clones share it.
#[derive(Clone, Debug)]
pub struct StopHandle(Arc<OwnedFd>);

/// The descriptor that the signal handler writes to, -1 while there is none.
static SIGNALLED: AtomicI32 = AtomicI32::new(-1);

impl StopHandle {
    /// A handle that was not used yet.
    pub(super) fn new() -> io::Result<StopHandle> {
        // SAFETY: no pointers are involved.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else knows of.
        Ok(StopHandle(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Stops the server: a session under way is ended as if its client had
    /// gone, and [`super::Server::serve`] returns. Does not wait for that.
    pub fn stop(&self) {
        signal(self.0.as_raw_fd());
    }

    /// Whether [`StopHandle::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, borrowed for the call.
        unsafe { libc::poll(&mut poll, 1, 0) == 1 }
    }

    /// Waits until [`StopHandle::stop`] is called, be it before.
    pub fn wait(&self) -> io::Result<()> {
        // A negative descriptor is never ready.
        self.wait_ready(-1, 0).map(|_| ())
    }

    /// Makes SIGINT and SIGTERM use this handle, once: the second such signal
    /// ends the process as if nothing were installed. For a program's `main`;
    /// the latest call wins.
    pub fn on_signals(&self) -> io::Result<()> {
        // The descriptor outlives every handle: a handler may run at any time.
        // SAFETY: duplicates a descriptor that `self` keeps open.
        let fd = unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        SIGNALLED.store(fd, Ordering::Release);
        // SAFETY: a sigaction is plain data, for which all zeros is valid.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESETHAND | libc::SA_RESTART;
        for number in [libc::SIGINT, libc::SIGTERM] {
            // SAFETY: the handler only does what is safe in one, and lives as
            // long as the program.
            if unsafe { libc::sigaction(number, &action, std::ptr::null_mut()) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    /// Waits until one of `events` is there on `fd`, or an error or hang-up;
    /// false if the handle is used, be it before.
    pub(super) fn wait_ready(&self, fd: RawFd, events: libc::c_short) -> io::Result<bool> {
        let mut polls = [
            libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 },
            libc::pollfd { fd, events, revents: 0 },
        ];
        loop {
            // SAFETY: two pollfds, borrowed for the call.
            let count = unsafe { libc::poll(polls.as_mut_ptr(), 2, -1) };
            if count < 0 {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
                continue;
            }
            if polls[0].revents != 0 {
                return Ok(false);
            }
            if polls[1].revents != 0 {
                return Ok(true);
            }
        }
    }
}

extern "C" fn on_signal(_number: libc::c_int) {
    let fd = SIGNALLED.load(Ordering::Acquire);
    if fd >= 0 {
        signal(fd);
    }
}

/// Adds one to an eventfd; safe in a signal handler.
fn signal(fd: RawFd) {
    let one = 1u64;
    // SAFETY: eight bytes, borrowed for the call. It can only fail where the
    // count is at its limit, and then the event is there already.
    unsafe { libc::write(fd, (&raw const one).cast(), size_of::<u64>()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_stays() {
        let stop = StopHandle::new().unwrap();
        assert!(!stop.is_stopped());
        stop.clone().stop();
        assert!(stop.is_stopped());
        stop.wait().unwrap();
        assert!(!stop.wait_ready(0, 0).unwrap());
        assert!(stop.is_stopped());
    }
}
