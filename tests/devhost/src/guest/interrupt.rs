// SPDX-License-Identifier: BSD-2-Clause

//! Leaving nothing behind when the program is told to end.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::thread;

use super::terminal;
use crate::temp;

/// From now on SIGINT, SIGTERM and SIGHUP put the terminal back and remove the
/// temporary folders before they end the program; QEMU dies with it. To be
/// called by `main`, before there are other threads.
pub fn clean_up_on_signals() -> io::Result<()> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the pointer is good for one signal set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the set was initialised above.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    }
    // SAFETY: initialised by sigemptyset.
    let set = unsafe { set.assume_init() };
    // Later threads inherit the mask, so that only the one below sees the
    // signals; it may then do what a signal handler may not.
    // SAFETY: a complete set; no old one is asked for.
    if unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut signal = 0;
        // SAFETY: a complete set, and a place for the number.
        while unsafe { libc::sigwait(&set, &mut signal) } != 0 {}
        terminal::restore();
        temp::remove_all();
        // The signal's own action, so that the parent sees what ended us.
        // SAFETY: no handler is installed, and the set is complete.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        // SAFETY: the signal is pending for this thread alone until unblocked.
        unsafe { libc::raise(signal) };
        // SAFETY: a complete set; no old one is asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut()) };
    })?;
    Ok(())
}
