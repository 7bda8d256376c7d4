// SPDX-License-Identifier: BSD-2-Clause

//! What happens when a thread of ours panics.

use crate::sync::{AtomicBool, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Set for good by the first panic in any thread of a controller. The guest
/// then reads CSTS.CFS, and no more I/O is started; the rest of the virtual
/// machine goes on.
pub(crate) struct Fault {
    tripped: AtomicBool,
    /// Names the controller in the log.
    name: String,
}

impl Fault {
    pub(crate) fn new(name: &str) -> Fault {
        Fault { tripped: AtomicBool::new(false), name: name.to_owned() }
    }

    pub(crate) fn tripped(&self) -> bool {
        self.tripped.load(Ordering::SeqCst)
    }

    /// Runs `work` of a thread called `thread`; `None` if it panicked. What it
    /// works on is shared, and every lock's contents are valid at each step.
    pub(crate) fn guard<R>(&self, thread: &str, work: impl FnOnce() -> R) -> Option<R> {
        let result = catch_unwind(AssertUnwindSafe(work));
        if result.is_err() && !self.tripped.swap(true, Ordering::SeqCst) {
            log::error!(
                "nvme {}: internal error in a {thread} thread; the disk has failed",
                self.name
            );
        }
        result.ok()
    }
}
