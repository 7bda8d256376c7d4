// SPDX-License-Identifier: BSD-2-Clause

//! A store that becomes larger or smaller while the guest runs.
//!
//! The store is asked for its size when the system tells of a change, and now
//! and then, for there is no notice that every kind of store gives. A worker
//! asks: a store that does not answer holds that one, and neither the
//! controller thread nor a reset. Nobody is asked while there is no guest to
//! tell.

use super::jobs::Purpose;
use super::thread::ControllerThread;
use crate::backend::{Backend, SizeEvents};
use crate::engine::{Mail, Mailbox, block_all_signals};
use std::time::{Duration, Instant};

/// How long after an answer the store is asked again. Two threads wake for it,
/// for 0.2 ms together in a build without optimisation: 0.01 % of a CPU.
const PERIOD: Duration = Duration::from_secs(2);

/// The same for a store that tells of changes: it may not know of those that
/// another host makes.
const PERIOD_OF_TOLD: Duration = Duration::from_secs(60);

/// The least time between two notices, for somebody on the host who changes a
/// file's mode over and over. What comes meanwhile is one notice.
const APART: Duration = Duration::from_millis(100);

/// The life of the thread that passes notices on to the controller thread.
pub(super) fn pass_on(events: &dyn SizeEvents, mailbox: &Mailbox) {
    block_all_signals();
    while events.wait() {
        mailbox.post(Mail::RESIZE);
        std::thread::park_timeout(APART);
    }
}

/// When the store is to be asked.
pub(super) struct Watch {
    /// How often; `None` if it cannot change its size.
    period: Option<Duration>,
    /// A worker is asking.
    asking: bool,
    /// `None` while one asks, or if it need not be asked.
    due: Option<Instant>,
}

impl Watch {
    pub(super) fn new(store: &dyn Backend) -> Watch {
        let told = store.size_events().is_some();
        let period = if told { PERIOD_OF_TOLD } else { PERIOD };
        let period = store.can_resize().then_some(period);
        let mut watch = Watch { period, asking: false, due: None };
        watch.rest();
        watch
    }

    /// Somebody knows of a change.
    pub(super) fn ask_now(&mut self) {
        self.due = Some(Instant::now());
    }

    /// The next time is a period from now, if it is not sooner.
    fn rest(&mut self) {
        if self.due.is_none() {
            self.due = self.period.and_then(|period| Instant::now().checked_add(period));
        }
    }
}

impl ControllerThread {
    /// When the store has to be asked, if nothing stands against it. A format
    /// ends with the size it began with.
    pub(super) fn size_deadline(&self) -> Option<Instant> {
        self.watch.due.filter(|_| !self.watch.asking && self.format.is_none())
    }

    /// Has the store asked, if it is time.
    pub(super) fn watch_size(&mut self) {
        let is_due = self.size_deadline().is_some_and(|due| Instant::now() >= due);
        if is_due && self.is_serving() {
            self.watch.asking = true;
            self.watch.due = None;
            self.in_background(Purpose::Size, |nvm| nvm.backend().refresh().map(drop));
        }
    }

    /// The store has answered, or has failed to.
    pub(super) fn asked_for_size(&mut self) {
        self.watch.asking = false;
        self.watch.rest();
        if self.format.is_none() {
            self.resize_namespace();
        } else {
            self.watch.ask_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::file::{OpenOptions, open};
    use crate::backend::ram::Ram;

    /// FreeBSD tells of a file's changes, and so is asked seldom.
    #[test]
    fn a_store_is_asked_as_often_as_it_needs_to_be() {
        assert_eq!(Watch::new(&Ram::new(1 << 20).unwrap()).due, None);

        let path = std::env::temp_dir().join(format!("bhyve-nvme-resize.{}", std::process::id()));
        std::fs::write(&path, [0; 4096]).unwrap();
        let store = open(&path, &OpenOptions::default()).unwrap();
        std::fs::remove_file(&path).unwrap();
        let begun = Instant::now();
        let due = Watch::new(&store).due.unwrap().duration_since(begun).as_secs();
        assert!(if cfg!(target_os = "freebsd") { due >= 59 } else { due < 59 }, "{due} s");
    }
}
