// SPDX-License-Identifier: BSD-2-Clause

//! Get and Set Features (sections 5.14 and 5.21). Values last until the
//! controller is reset; nothing is saveable.
//!
//! A feature is a row of [`FEATURES`], and what its row names. Those that are a
//! number with a rule are in [`plain`]; each other has a file.

mod cache;
mod host;
mod interrupts;
mod keep_alive;
mod plain;
mod queues;
mod temperature;
mod timestamp;

pub(super) use keep_alive::GRANULARITY as KEEP_ALIVE_GRANULARITY;
pub(super) use plain::wants_namespace_notices;
pub(super) use temperature::TEMPERATURE;

use super::admin::Handled;
use super::thread::ControllerThread;
use crate::engine::Outcome;
use crate::wire::command::Command;
use crate::wire::feature::{self, select};
use crate::wire::log::effect;
use crate::wire::status::Status;
use crate::wire::{NSID, NSID_ALL};

/// What is asked of a feature.
struct Ask<'a> {
    id: u8,
    command: &'a Command,
    /// The data structure that Set Features brought, as long as the row says.
    data: &'a [u8],
}

impl Ask<'_> {
    fn cdw11(&self) -> u32 {
        self.command.cdw11.get()
    }
}

/// What a feature is: dword 0 of the completion, or a data structure.
enum Value {
    Word(u32),
    Data(Vec<u8>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Controller,
    Namespace,
}

type Get = fn(&ControllerThread, &Ask) -> Result<Value, Status>;
/// Takes a new value; the result is dword 0 of the completion.
type Set = fn(&mut ControllerThread, &Ask) -> Result<u32, Status>;

/// One feature. Adding one is adding a row to [`FEATURES`].
struct Feature {
    id: u8,
    scope: Scope,
    /// Bytes of its data structure for this dword 11; 0 if it has none.
    data_len: fn(u32) -> usize,
    /// Its value after a reset.
    default: Get,
    /// The value in force.
    get: Get,
    set: Set,
}

/// A row for a number that is kept as [`Values::stored`].
const fn number(id: u8, default: Get, set: Set) -> Feature {
    Feature { id, scope: Scope::Controller, data_len: |_| 0, default, get: stored, set }
}

const FEATURES: &[Feature] = &[
    // Bursts are not limited: AB 111b.
    number(feature::ARBITRATION, |_, _| Ok(Value::Word(0x7)), plain::store),
    number(feature::POWER_MANAGEMENT, zero, plain::set_power),
    Feature {
        get: temperature::get,
        ..number(feature::TEMPERATURE_THRESHOLD, temperature::default, temperature::set)
    },
    Feature {
        scope: Scope::Namespace,
        ..number(feature::ERROR_RECOVERY, zero, plain::set_error_recovery)
    },
    number(feature::VOLATILE_WRITE_CACHE, |_, _| Ok(Value::Word(1)), cache::set),
    Feature { get: queues::get, ..number(feature::NUMBER_OF_QUEUES, queues::default, queues::set) },
    number(feature::INTERRUPT_COALESCING, zero, interrupts::set_coalescing),
    Feature {
        get: interrupts::get_vector,
        ..number(
            feature::INTERRUPT_VECTOR_CONFIGURATION,
            interrupts::default_vector,
            interrupts::set_vector,
        )
    },
    number(feature::WRITE_ATOMICITY, zero, plain::set_atomicity),
    number(feature::ASYNC_EVENT_CONFIGURATION, zero, plain::set_events),
    Feature {
        data_len: |_| feature::TIMESTAMP_SIZE,
        get: timestamp::get,
        ..number(feature::TIMESTAMP, timestamp::default, timestamp::set)
    },
    Feature { get: keep_alive::get, ..number(feature::KEEP_ALIVE_TIMER, zero, keep_alive::set) },
    Feature {
        data_len: |_| feature::HOST_BEHAVIOR_SIZE,
        get: host::get_behavior,
        ..number(feature::HOST_BEHAVIOR_SUPPORT, host::default, host::set_behavior)
    },
    Feature {
        data_len: host::identifier_len,
        get: host::get_identifier,
        ..number(feature::HOST_IDENTIFIER, host::default, host::set_identifier)
    },
];

/// The values in force. [`ControllerThread::reset_features`] makes new ones.
pub(super) struct Values {
    /// Those that are a number, by their identifier.
    stored: [u32; 256],
    temperature: temperature::Thresholds,
    /// I/O queue pairs granted; all, until the guest asks for a number.
    granted: Option<u16>,
    timestamp: timestamp::Clock,
    pub(super) keep_alive: keep_alive::Timer,
    host: host::Host,
}

impl Values {
    pub(super) fn new() -> Values {
        Values {
            stored: [0; 256],
            temperature: temperature::Thresholds::default(),
            granted: None,
            timestamp: timestamp::Clock::default(),
            keep_alive: keep_alive::Timer::default(),
            host: host::Host::default(),
        }
    }
}

fn invalid() -> Status {
    Status::INVALID_FIELD.do_not_retry()
}

fn zero(_: &ControllerThread, _: &Ask) -> Result<Value, Status> {
    Ok(Value::Word(0))
}

fn stored(thread: &ControllerThread, ask: &Ask) -> Result<Value, Status> {
    Ok(Value::Word(thread.stored(ask.id)))
}

fn find(thread: &ControllerThread, command: &Command) -> Result<&'static Feature, Status> {
    let id = (command.cdw10.get() & 0xff) as u8;
    FEATURES.iter().find(|row| row.id == id && thread.supports(id)).ok_or(invalid())
}

impl ControllerThread {
    /// Sets all features to their defaults: a controller reset.
    pub(super) fn reset_features(&mut self) {
        self.features = Values::new();
        let command = Command::zeroed();
        for row in FEATURES {
            let ask = Ask { id: row.id, command: &command, data: &[] };
            if let Ok(Value::Word(value)) = (row.default)(self, &ask) {
                self.set_stored(row.id, value);
            }
        }
        self.shared.engine.executor().set_write_cache(true);
        self.shared.engine.coalescing.reset();
    }

    /// Whether the feature `id` means anything for this store.
    pub(super) fn supports(&self, id: u8) -> bool {
        id != feature::VOLATILE_WRITE_CACHE
            || self.shared.engine.executor().backend().geometry().volatile_cache
    }

    /// The features there are, with what the effects log says of each.
    pub(super) fn supported_features(&self) -> impl Iterator<Item = (u8, u32)> {
        FEATURES.iter().filter(|row| self.supports(row.id)).map(|row| {
            let scope = match row.scope {
                Scope::Controller => effect::CONTROLLER_SCOPE,
                Scope::Namespace => effect::NAMESPACE_SCOPE,
            };
            (row.id, effect::SUPPORTED | scope)
        })
    }

    pub(super) fn get_features(&mut self, command: &Command) -> Result<Outcome, Status> {
        let row = find(self, command)?;
        if row.scope == Scope::Namespace && command.nsid.get() != NSID {
            return Err(Status::INVALID_NAMESPACE.do_not_retry());
        }
        let ask = Ask { id: row.id, command, data: &[] };
        let value = match (command.cdw10.get() >> 8 & 0x7) as u8 {
            select::CURRENT => (row.get)(self, &ask)?,
            // What is not saveable has its default as its saved value.
            select::DEFAULT | select::SAVED => (row.default)(self, &ask)?,
            select::SUPPORTED_CAPABILITIES => Value::Word(match row.scope {
                Scope::Controller => feature::CAPABILITY_CHANGEABLE,
                Scope::Namespace => feature::CAPABILITY_CHANGEABLE | feature::CAPABILITY_NAMESPACE,
            }),
            _ => return Err(invalid()),
        };
        match value {
            Value::Word(dw0) => Ok(Outcome { dw0, ..Outcome::SUCCESS }),
            Value::Data(data) => self.transfer(command, &data).map(|()| Outcome::SUCCESS),
        }
    }

    pub(super) fn set_features(&mut self, command: &Command) -> Handled {
        let (id, dw0) = match self.set_feature(command) {
            Ok(set) => set,
            Err(status) => return Handled::Done(status.into()),
        };
        if id == feature::VOLATILE_WRITE_CACHE && self.stored(id) == 0 {
            self.flush_for_cache_off(command.cid.get());
            return Handled::Later;
        }
        Handled::Done(Outcome { dw0, ..Outcome::SUCCESS })
    }

    /// Sets a feature; its identifier, and dword 0 of the completion.
    fn set_feature(&mut self, command: &Command) -> Result<(u8, u32), Status> {
        const SAVE: u32 = 1 << 31;
        let row = find(self, command)?;
        if command.cdw10.get() & SAVE != 0 {
            return Err(Status::FEATURE_NOT_SAVEABLE.do_not_retry());
        }
        match (command.nsid.get(), row.scope) {
            (NSID_ALL, _) | (0, Scope::Controller) | (NSID, Scope::Namespace) => {}
            (NSID, Scope::Controller) => {
                return Err(Status::FEATURE_NOT_NAMESPACE_SPECIFIC.do_not_retry());
            }
            _ => return Err(Status::INVALID_NAMESPACE.do_not_retry()),
        }
        let len = (row.data_len)(command.cdw11.get());
        let data = if len > 0 { self.receive(command, len)? } else { Vec::new() };
        let dw0 = (row.set)(self, &Ask { id: row.id, command, data: &data })?;
        Ok((row.id, dw0))
    }

    fn stored(&self, id: u8) -> u32 {
        self.features.stored.get(usize::from(id)).copied().unwrap_or(0)
    }

    fn set_stored(&mut self, id: u8, value: u32) {
        if let Some(slot) = self.features.stored.get_mut(usize::from(id)) {
            *slot = value;
        }
    }
}
