// SPDX-License-Identifier: BSD-2-Clause

//! Asynchronous events (section 5.2).
//!
//! A guest leaves Asynchronous Event Requests; each is completed when there is
//! something to report. A request holds no completion entry while it waits:
//! one is reserved when the event is reported, and while the admin completion
//! queue is full the event stays pending.

use crate::engine::{Engine, Outcome};
use crate::nvm::Nvm;
use crate::wire::event::{Event, Kind};
use crate::wire::log;
use crate::wire::status::Status;
use std::collections::VecDeque;

/// The most requests that are held, counted from zero (AERL).
pub(super) const AERL_Z: u8 = 4;

const KINDS: [Kind; 3] = [Kind::Error, Kind::Health, Kind::Notice];

#[derive(Default)]
pub(super) struct Events {
    /// Command identifiers of the requests held.
    held: VecDeque<u16>,
    /// What is to be reported. No event is in it twice, so its length is
    /// bounded by the number of different events.
    pending: VecDeque<Event>,
    /// Kinds that were reported and whose log page was not read since.
    masked: [bool; KINDS.len()],
}

impl Events {
    /// Holds a request.
    pub(super) fn hold(&mut self, cid: u16) -> Result<(), Status> {
        // Windows submits a refused request again for ever: so all that AERL
        // promises are held, and only the one after is refused.
        if self.held.len() > usize::from(AERL_Z) {
            return Err(Status::AER_LIMIT_EXCEEDED.do_not_retry());
        }
        self.held.push_back(cid);
        Ok(())
    }

    /// Gives up the request `cid`, if it is held.
    pub(super) fn take_held(&mut self, cid: u16) -> bool {
        let position = self.held.iter().position(|held| *held == cid);
        position.and_then(|at| self.held.remove(at)).is_some()
    }

    pub(super) fn post(&mut self, event: Event) {
        if !self.pending.contains(&event) {
            self.pending.push_back(event);
        }
    }

    /// The guest has read log page `page` and did not ask to retain the event.
    pub(super) fn log_read(&mut self, page: u8) {
        let clears = match page {
            log::ERROR_INFORMATION => Kind::Error,
            log::HEALTH_INFORMATION => Kind::Health,
            log::CHANGED_NAMESPACES => Kind::Notice,
            _ => return,
        };
        if let Some(masked) = self.masked.get_mut(clears as usize) {
            *masked = false;
        }
    }

    /// Reports what can be reported.
    pub(super) fn deliver(&mut self, engine: &Engine<Nvm>) {
        let Some(cq) = engine.cq(0) else { return };
        while let Some(at) = self.pending.iter().position(|event| !self.is_masked(event.kind)) {
            if self.held.is_empty() || cq.reserve(1) == 0 {
                break;
            }
            let (Some(cid), Some(event)) = (self.held.pop_front(), self.pending.remove(at)) else {
                cq.give_back(1);
                break;
            };
            if let Some(masked) = self.masked.get_mut(event.kind as usize) {
                *masked = true;
            }
            engine.complete(0, cq, cid, Outcome { dw0: event.dw0(), status: Status::SUCCESS });
        }
        engine.signal(cq);
    }

    fn is_masked(&self, kind: Kind) -> bool {
        self.masked.get(kind as usize).copied().unwrap_or(false)
    }

    /// A controller reset drops requests and events alike.
    pub(super) fn reset(&mut self) {
        *self = Events::default();
    }
}
