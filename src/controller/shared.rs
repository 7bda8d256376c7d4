// SPDX-License-Identifier: BSD-2-Clause

//! What the threads of one controller share.

use super::jobs::JobDone;
use super::registers::Registers;
use super::settings::Settings;
use crate::engine::{Engine, Mail};
use crate::host::Host;
use crate::nvm::Nvm;
use crate::queue::DoorbellError;
use crate::sync::{AtomicU32, Mutex, Ordering, lock};
use std::sync::Arc;

pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) registers: Registers,
    pub(super) engine: Engine<Nvm>,
    pub(super) host: Arc<dyn Host>,
    /// The last bad doorbell of each kind, as queue identifier plus one.
    bad_doorbells: [AtomicU32; 2],
    /// Jobs that have ended and are not looked at yet.
    done: Mutex<Vec<JobDone>>,
}

fn slot_of(error: DoorbellError) -> usize {
    match error {
        DoorbellError::NoQueue => 0,
        DoorbellError::Value => 1,
    }
}

impl Shared {
    pub(super) fn new(
        settings: Settings,
        registers: Registers,
        engine: Engine<Nvm>,
        host: Arc<dyn Host>,
    ) -> Shared {
        Shared {
            settings,
            registers,
            engine,
            host,
            bad_doorbells: [AtomicU32::new(0), AtomicU32::new(0)],
            done: Mutex::new(Vec::new()),
        }
    }

    /// Remembers a doorbell that was refused, for the controller thread.
    pub(super) fn report_doorbell(&self, queue: u16, error: DoorbellError) {
        if let Some(slot) = self.bad_doorbells.get(slot_of(error)) {
            slot.store(u32::from(queue).wrapping_add(1), Ordering::SeqCst);
        }
        self.engine.mailbox.post(Mail::REPORTS);
    }

    /// Takes the queue of the last doorbell refused for `error`.
    pub(super) fn take_bad_doorbell(&self, error: DoorbellError) -> Option<u16> {
        let queue =
            self.bad_doorbells.get(slot_of(error))?.swap(0, Ordering::SeqCst).checked_sub(1)?;
        u16::try_from(queue).ok()
    }

    /// From here on nobody reads or writes a shadow doorbell.
    pub(super) fn forget_shadows(&self) {
        self.engine.submission_queues().for_each(|(_, sq)| sq.set_shadow(None));
        self.engine.completion_queues().for_each(|(_, cq)| cq.set_shadow(None));
    }

    /// A job has ended.
    pub(super) fn job_done(&self, done: JobDone) {
        lock(&self.done).push(done);
        self.engine.mailbox.post(Mail::JOB);
    }

    pub(super) fn take_done(&self) -> Vec<JobDone> {
        std::mem::take(&mut *lock(&self.done))
    }
}
