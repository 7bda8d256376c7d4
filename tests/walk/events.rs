// SPDX-License-Identifier: BSD-2-Clause

//! The model of asynchronous events: what is to be told, and when.

use super::action::Bell;
use super::queues::doorbell;
use super::world::{Done, World, ensure};
use devhost::driver::{Completion, Entry, Status};

/// Requests that are held at once (AERL + 1).
const HELD: usize = 5;

/// Dword 0 of events: type, information, log page.
pub(crate) const NO_QUEUE: u32 = 0x01_00_00;
pub(crate) const BAD_VALUE: u32 = 0x01_01_00;
pub(crate) const TEMPERATURE: u32 = 0x02_01_01;
pub(crate) const NAMESPACE: u32 = 0x04_00_02;

#[derive(Debug, Default)]
pub(crate) struct Events {
    pub held: Vec<u16>,
    pending: Vec<u32>,
    /// By type.
    masked: [bool; 3],
}

impl Events {
    pub(crate) fn post(&mut self, event: u32) {
        if !self.pending.contains(&event) {
            self.pending.push(event);
        }
    }

    /// A log page was read, and its events may come again.
    pub(crate) fn read(&mut self, page: u8) {
        match page {
            1 => self.masked[0] = false,
            2 => self.masked[1] = false,
            4 => self.masked[2] = false,
            _ => {}
        }
    }

    fn is_due(&self) -> bool {
        !self.held.is_empty() && self.pending.iter().any(|event| !self.masked[(event & 7) as usize])
    }
}

impl World {
    /// Waits until all events have been told that have to be.
    pub(crate) fn await_events(&mut self) -> Done {
        self.until("an event", |world| {
            world.poll(0, u32::MAX)?;
            Ok(!world.events.is_due())
        })
    }

    pub(crate) fn request_event(&mut self) -> Done {
        let entry = Entry::new(0x0c);
        if self.events.held.len() == HELD {
            return self.expect(entry, Status::AER_LIMIT_EXCEEDED).map(drop);
        }
        let cid = self.submit_admin(entry)?;
        self.events.held.push(cid);
        self.expect(Entry::new(0x18), Status::SUCCESS).map(drop)
    }

    /// An Asynchronous Event Request has ended.
    pub(crate) fn settle_event(&mut self, at: usize, completion: &Completion) -> Done {
        self.events.held.remove(at);
        let code = completion.status.code();
        if code == Status::ABORTED_BY_REQUEST {
            self.events.held.retain(|cid| *cid != completion.cid);
            return Ok(());
        }
        ensure!(code == Status::SUCCESS, "an event request: {:?}", completion.status);
        let event = completion.dw0;
        let found = self.events.pending.iter().position(|pending| *pending == event);
        let Some(found) = found else {
            return Err(format!("event {event:#x}, of {:?}", self.events));
        };
        let masked = &mut self.events.masked[(event & 7) as usize];
        ensure!(!*masked, "event {event:#x} though its log was not read");
        *masked = true;
        self.events.pending.remove(found);
        Ok(())
    }

    /// A doorbell write that must change nothing.
    pub(crate) fn bell(&mut self, bell: Bell) {
        let (at, value, event) = match bell {
            Bell::Value { queue, head, over } => {
                let slot = usize::from(queue);
                let entries = match head {
                    true => self.cqs[slot].as_ref().map(|cq| cq.ring.entries()),
                    false => self.sqs[slot].as_ref().map(|sq| sq.ring.entries()),
                };
                let event = if entries.is_some() { BAD_VALUE } else { NO_QUEUE };
                let value = entries.unwrap_or(0) + u32::from(over);
                (doorbell(u16::from(queue), head), value, event)
            }
            Bell::NoQueue { queue, head } => {
                let slot = usize::from(queue);
                let exists = match head {
                    true => self.cqs.get(slot).is_some_and(Option::is_some),
                    false => self.sqs.get(slot).is_some_and(Option::is_some),
                };
                if exists {
                    return;
                }
                (doorbell(queue, head), 0, NO_QUEUE)
            }
            Bell::Odd { queue, size, shift } => {
                let at = doorbell(u16::from(queue), false) + u64::from(shift);
                self.function.bar_write(0, at, usize::from(size), 1);
                return;
            }
        };
        self.write32(at, value);
        self.events.post(event);
        // Doorbells that are rung faster than they are told of count once.
        self.counts.errors.1 += 1;
    }
}
