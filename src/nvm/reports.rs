// SPDX-License-Identifier: BSD-2-Clause

//! Errors of I/O commands on their way to the Error Information log, which the
//! controller thread keeps.

use crate::sync::{Mutex, lock};
use crate::wire::status::Status;
use std::collections::VecDeque;

/// The most reports that wait. Older ones make room: the log keeps the newest.
const CAPACITY: usize = 64;

/// A command that failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) sq_id: u16,
    pub(crate) cid: u16,
    pub(crate) status: Status,
    pub(crate) lba: u64,
    pub(crate) nsid: u32,
}

/// Reports that the controller thread has not seen yet, and how many more
/// there were than could be kept.
#[derive(Default)]
pub(crate) struct Reports(Mutex<(VecDeque<Report>, u64)>);

impl Reports {
    pub(crate) fn push(&self, report: Report) {
        let mut guard = lock(&self.0);
        let (waiting, lost) = &mut *guard;
        if waiting.len() >= CAPACITY {
            waiting.pop_front();
            *lost = lost.saturating_add(1);
        }
        waiting.push_back(report);
    }

    /// Takes what waits, oldest first, and the number of those lost before.
    pub(crate) fn take(&self) -> (VecDeque<Report>, u64) {
        std::mem::take(&mut *lock(&self.0))
    }
}
