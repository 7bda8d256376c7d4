// SPDX-License-Identifier: BSD-2-Clause

//! Error numbers, and what they mean for a store.

use std::fmt;
use std::io;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::backend::Error;

/// An error number of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// The number of the calling thread's last failed call.
    pub fn last() -> Errno {
        Errno::of(&io::Error::last_os_error())
    }

    /// The number that `error` carries; EINVAL for one that the system never
    /// saw, as for a path with a zero byte in it.
    pub fn of(error: &io::Error) -> Errno {
        Errno(error.raw_os_error().unwrap_or(libc::EINVAL))
    }
}

impl fmt::Display for Errno {
    /// The system's text for the error, as `strerror(3)` gives it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = io::Error::from_raw_os_error(self.0).to_string();
        let number = format!(" (os error {})", self.0);
        f.write_str(text.strip_suffix(&number).unwrap_or(&text))
    }
}

/// What a store was doing when a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Reading from the store.
    Read,
    /// Writing to it.
    Write,
    /// Bringing writes to stable storage.
    Flush,
}

/// What an error number of a read, write or flush means.
pub fn error(way: Way, errno: Errno) -> Error {
    match errno.0 {
        libc::ENOSPC | libc::EDQUOT | libc::EFBIG => Error::NoSpace,
        libc::EROFS => Error::ReadOnly,
        // A descriptor opened for reading refuses writes with EBADF; a write
        // to an immutable or sealed file gets EPERM.
        libc::EBADF | libc::EPERM | libc::EACCES if way == Way::Write => Error::ReadOnly,
        libc::EINVAL | libc::EOPNOTSUPP => Error::Invalid,
        libc::EFAULT => Error::Memory,
        // EIO; ENXIO and ENODEV of a device that is gone; ESTALE of a lost
        // server; and whatever else.
        _ => Error::Io,
    }
}

/// Whether a call failed because there is no such thing in this kind of file.
pub fn unsupported(errno: Errno) -> bool {
    // EOPNOTSUPP and ENOSYS of the system, ENODEV and ENOTTY of the file.
    // EINVAL: a range that this file system takes in larger units only.
    matches!(errno.0, libc::EOPNOTSUPP | libc::ENOSYS | libc::ENODEV | libc::ENOTTY | libc::EINVAL)
}

/// How often, and how long each time, a call that says EAGAIN is given time.
const PAUSES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(1);

/// Makes the call again for as long as a signal interrupts it, and a bounded
/// number of times while the system is short of something (EAGAIN).
pub fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    let mut pauses = 0;
    loop {
        match call() {
            Err(Errno(libc::EINTR)) => {}
            Err(Errno(libc::EAGAIN)) if pauses < PAUSES => {
                pauses += 1;
                pause();
            }
            result => return result,
        }
    }
}

/// Waits on a condition that nobody signals: it works in capability mode, where
/// `std::thread::sleep` panics, and takes no other waiter's wake-up, as
/// `park_timeout` would.
fn pause() {
    let lock = Mutex::new(());
    let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
    drop(Condvar::new().wait_timeout(guard, PAUSE));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_errors_are_kept() {
        use Way::{Flush, Read, Write};
        for (way, number, meaning) in [
            (Read, libc::EIO, Error::Io),
            (Write, libc::EIO, Error::Io),
            (Flush, libc::EIO, Error::Io),
            (Write, libc::ENOSPC, Error::NoSpace),
            (Flush, libc::ENOSPC, Error::NoSpace),
            (Write, libc::EDQUOT, Error::NoSpace),
            (Write, libc::EFBIG, Error::NoSpace),
            (Write, libc::EROFS, Error::ReadOnly),
            (Flush, libc::EROFS, Error::ReadOnly),
            (Write, libc::EBADF, Error::ReadOnly),
            (Read, libc::EBADF, Error::Io),
            (Flush, libc::EBADF, Error::Io),
            (Write, libc::EPERM, Error::ReadOnly),
            (Read, libc::EPERM, Error::Io),
            (Read, libc::EINVAL, Error::Invalid),
            (Write, libc::EOPNOTSUPP, Error::Invalid),
            (Read, libc::EFAULT, Error::Memory),
            (Write, libc::ENXIO, Error::Io),
            (Read, libc::ENODEV, Error::Io),
            (Read, libc::ESTALE, Error::Io),
            (Read, libc::ENOMEM, Error::Io),
        ] {
            assert_eq!(error(way, Errno(number)), meaning, "{way:?} {number}");
        }
    }

    #[test]
    fn a_signal_does_not_end_a_call() {
        let mut left = 1000;
        let result = retry(|| {
            left -= 1;
            if left > 0 { Err(Errno(libc::EINTR)) } else { Ok(7) }
        });
        assert_eq!((result, left), (Ok(7), 0));
    }

    #[test]
    fn shortage_is_waited_for_but_not_for_ever() {
        let mut calls = 0;
        let result = retry(|| {
            calls += 1;
            if calls < 5 { Err(Errno(libc::EAGAIN)) } else { Ok(()) }
        });
        assert_eq!((result, calls), (Ok(()), 5));

        let mut calls = 0;
        let result: Result<(), Errno> = retry(|| {
            calls += 1;
            Err(Errno(libc::EAGAIN))
        });
        assert_eq!((result, calls), (Err(Errno(libc::EAGAIN)), PAUSES + 1));
    }

    #[test]
    fn text_is_the_systems_own() {
        assert_eq!(Errno(libc::ENOENT).to_string(), "No such file or directory");
    }
}
