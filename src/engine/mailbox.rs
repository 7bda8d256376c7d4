// SPDX-License-Identifier: BSD-2-Clause

//! How other threads reach the controller thread: flags, never a queue, so
//! that nobody waits and a hostile guest fills nothing.

use crate::sync::thread::{self, Thread};
use crate::sync::{AtomicU32, Ordering, park_timeout};
use bitflags::bitflags;
use std::sync::OnceLock;
use std::time::Instant;

bitflags! {
    /// What there is to look at.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Mail: u32 {
        /// A register was written, or a reset asked for.
        const REGISTERS = 1 << 0;
        /// An admin doorbell was rung.
        const ADMIN = 1 << 1;
        /// A closed or paused queue has become idle.
        const IDLE = 1 << 2;
        /// The pool wants one more worker.
        const GROW = 1 << 3;
        /// A worker or a vCPU has reported an error.
        const REPORTS = 1 << 4;
        /// A job has ended.
        const JOB = 1 << 5;
        /// The controller is being torn down.
        const STOP = 1 << 6;
        /// The store may have changed its size.
        const RESIZE = 1 << 7;
        /// Something was put off, and nobody watches.
        const WATCH = 1 << 8;
    }
}

/// The controller thread's mailbox.
pub(crate) struct Mailbox {
    mail: AtomicU32,
    thread: OnceLock<Thread>,
}

impl Mailbox {
    pub(crate) fn new() -> Mailbox {
        Mailbox { mail: AtomicU32::new(0), thread: OnceLock::new() }
    }

    /// The calling thread is the one to wake from here on.
    pub(crate) fn attach(&self) {
        // A second thread never attaches; if it did, the first stays the one.
        let _ = self.thread.set(thread::current());
    }

    /// Leaves mail. Never waits; wakes the thread if the mail is new.
    pub(crate) fn post(&self, mail: Mail) {
        if self.mail.fetch_or(mail.bits(), Ordering::SeqCst) & mail.bits() != mail.bits()
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Takes the mail there is.
    pub(crate) fn take(&self) -> Mail {
        Mail::from_bits_truncate(self.mail.swap(0, Ordering::SeqCst))
    }

    /// Waits for mail, until `deadline` at most, and takes it.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Mail {
        loop {
            let mail = self.take();
            if !mail.is_empty() {
                return mail;
            }
            match deadline {
                None => thread::park(),
                Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => park_timeout(left),
                    _ => return Mail::empty(),
                },
            }
        }
    }
}
