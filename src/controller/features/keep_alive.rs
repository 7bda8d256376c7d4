// SPDX-License-Identifier: BSD-2-Clause

//! Keep Alive Timer (0Fh).

use super::super::thread::ControllerThread;
use super::{Ask, Value};
use crate::wire::status::Status;
use std::time::{Duration, Instant};

/// KAS: the timer's granularity, in units of 100 ms.
pub(in crate::controller) const GRANULARITY: u16 = 10;

const GRANULARITY_MS: u32 = GRANULARITY as u32 * 100;

/// The timer: off, until the guest sets a timeout.
#[derive(Default)]
pub(in crate::controller) struct Timer {
    timeout: Duration,
    /// When it was last started.
    started: Option<Instant>,
}

impl Timer {
    /// The guest is alive.
    pub(in crate::controller) fn restart(&mut self) {
        self.started = (!self.timeout.is_zero()).then(Instant::now);
    }

    /// When it expires; `None` while it is off.
    pub(in crate::controller) fn deadline(&self) -> Option<Instant> {
        self.started?.checked_add(self.timeout)
    }

    pub(in crate::controller) fn is_over(&self) -> bool {
        self.deadline().is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// A timeout in milliseconds, 0 for none, is rounded up to the granularity.
pub(super) fn set(thread: &mut ControllerThread, ask: &Ask) -> Result<u32, Status> {
    let units = u64::from(ask.cdw11().div_ceil(GRANULARITY_MS));
    let milliseconds = units.saturating_mul(u64::from(GRANULARITY_MS));
    let timer = &mut thread.features.keep_alive;
    timer.timeout = Duration::from_millis(milliseconds);
    timer.restart();
    Ok(0)
}

pub(super) fn get(thread: &ControllerThread, _: &Ask) -> Result<Value, Status> {
    let milliseconds = thread.features.keep_alive.timeout.as_millis();
    Ok(Value::Word(u32::try_from(milliseconds).unwrap_or(u32::MAX)))
}
