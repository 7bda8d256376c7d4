// SPDX-License-Identifier: BSD-2-Clause

//! Notices that a store may have changed its size, when a test wants them.

use bhyve_nvme::backend::SizeEvents;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct State {
    told: bool,
    ended: bool,
    seen: u64,
}

/// The notices of one store. Those that nobody has waited for yet are one.
#[derive(Default)]
pub struct Notices {
    state: Mutex<State>,
    changed: Condvar,
}

impl Notices {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store may have changed its size.
    pub fn tell(&self) {
        self.lock().told = true;
        self.changed.notify_all();
    }

    /// Notices that were waited for and came.
    pub fn seen(&self) -> u64 {
        self.lock().seen
    }
}

impl SizeEvents for Notices {
    fn wait(&self) -> bool {
        let mut state = self
            .changed
            .wait_while(self.lock(), |state| !state.told && !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        let told = std::mem::take(&mut state.told);
        state.seen += u64::from(told);
        told && !state.ended
    }

    fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }
}
