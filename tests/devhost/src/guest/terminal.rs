// SPDX-License-Identifier: BSD-2-Clause

//! The terminal's settings, put back after QEMU has used it.

use std::mem::MaybeUninit;
use std::sync::{Mutex, PoisonError};

static SAVED: Mutex<Option<libc::termios>> = Mutex::new(None);

/// Remembers the settings of standard input's terminal, if it is one, until
/// dropped, which restores them. QEMU does so itself unless it is killed.
pub(super) struct Terminal;

impl Terminal {
    pub(super) fn save() -> Terminal {
        let mut settings = MaybeUninit::uninit();
        // SAFETY: the pointer is good for one termios, which the call fills on success.
        if unsafe { libc::tcgetattr(0, settings.as_mut_ptr()) } == 0 {
            // SAFETY: initialised, since tcgetattr succeeded.
            let settings = unsafe { settings.assume_init() };
            *SAVED.lock().unwrap_or_else(PoisonError::into_inner) = Some(settings);
        }
        Terminal
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the settings if some are remembered.
pub(super) fn restore() {
    if let Some(settings) = SAVED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // SAFETY: the pointer is to a complete termios.
        unsafe { libc::tcsetattr(0, libc::TCSANOW, &settings) };
    }
}
