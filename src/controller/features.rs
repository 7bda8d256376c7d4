// SPDX-License-Identifier: BSD-2-Clause

//! Get and Set Features (sections 5.14 and 5.21). Values last until the
//! controller is reset; nothing is saveable.

use super::shared::FlushFor;
use super::thread::ControllerThread;
use crate::engine::Outcome;
use crate::wire::command::Command;
use crate::wire::feature::{self, select};
use crate::wire::status::Status;

type Set = fn(&mut ControllerThread, &Feature, &Command) -> Result<u32, Status>;
type Get = fn(&ControllerThread, &Command) -> Result<u32, Status>;

/// One feature. Adding one is adding a row to [`FEATURES`].
struct Feature {
    id: u8,
    /// What Get Features reports of it beside "changeable".
    scope: u32,
    /// Its value after a reset.
    default: fn(&ControllerThread) -> u32,
    /// Takes a new value; the result is dword 0 of the completion.
    set: Set,
    /// The value in force; `None` where it is what `set` stored.
    get: Option<Get>,
}

const FEATURES: &[Feature] = &[
    // Bursts are not limited: AB 111b.
    Feature { id: feature::ARBITRATION, scope: 0, default: |_| 0x7, set: store, get: None },
    Feature { id: feature::POWER_MANAGEMENT, scope: 0, default: |_| 0, set: set_power, get: None },
    Feature {
        id: feature::TEMPERATURE_THRESHOLD,
        scope: 0,
        default: |_| OVER_TEMPERATURE,
        set: set_temperature,
        get: Some(get_temperature),
    },
    Feature {
        id: feature::ERROR_RECOVERY,
        scope: feature::CAPABILITY_NAMESPACE,
        default: |_| 0,
        set: set_error_recovery,
        get: None,
    },
    Feature {
        id: feature::VOLATILE_WRITE_CACHE,
        scope: 0,
        default: |_| 1,
        set: set_cache,
        get: None,
    },
    Feature {
        id: feature::NUMBER_OF_QUEUES,
        scope: 0,
        default: |thread| counts(thread.shared.settings.queue_pairs),
        set: set_queues,
        get: Some(|thread, _| Ok(counts(thread.granted_queues()))),
    },
    Feature {
        id: feature::INTERRUPT_COALESCING,
        scope: 0,
        default: |_| 0,
        set: set_coalescing,
        get: None,
    },
    Feature {
        id: feature::INTERRUPT_VECTOR_CONFIGURATION,
        scope: 0,
        default: |_| 0,
        set: set_vector,
        get: Some(get_vector),
    },
    Feature {
        id: feature::WRITE_ATOMICITY,
        scope: 0,
        default: |_| 0,
        set: set_atomicity,
        get: None,
    },
    Feature {
        id: feature::ASYNC_EVENT_CONFIGURATION,
        scope: 0,
        default: |_| 0,
        set: store,
        get: None,
    },
];

/// Identifiers of the features in the table are below this.
const IDS: usize = 16;

/// The most vectors there are: one per queue pair, and one for the admin queue.
const VECTORS: usize = 65;

/// The over temperature threshold after a reset: WCTEMP, 0157h kelvins.
const OVER_TEMPERATURE: u32 = 0x0157;

/// The values in force.
pub(super) struct Values {
    stored: [u32; IDS],
    under_temperature: u32,
    /// Coalescing Disable of each vector.
    coalescing_disabled: [bool; VECTORS],
    /// I/O queue pairs granted; all, until the guest asks for a number.
    granted: Option<u16>,
}

impl Values {
    pub(super) fn new() -> Values {
        Values {
            stored: [0; IDS],
            under_temperature: 0,
            coalescing_disabled: [false; VECTORS],
            granted: None,
        }
    }
}

fn find(id: u8) -> Result<&'static Feature, Status> {
    FEATURES.iter().find(|row| row.id == id).ok_or(Status::INVALID_FIELD.do_not_retry())
}

/// A count of submission and of completion queues, as the feature has them.
fn counts(pairs: u16) -> u32 {
    let pairs_z = u32::from(pairs.saturating_sub(1));
    pairs_z << 16 | pairs_z
}

impl ControllerThread {
    /// Sets all features to their defaults: a controller reset.
    pub(super) fn reset_features(&mut self) {
        self.features = Values::new();
        for row in FEATURES {
            let value = (row.default)(self);
            self.set_stored(row.id, value);
        }
        self.shared.engine.executor().set_write_cache(true);
    }

    /// Whether the feature `id` means anything for this store.
    pub(super) fn supports(&self, id: u8) -> bool {
        id != feature::VOLATILE_WRITE_CACHE
            || self.shared.engine.executor().backend().geometry().volatile_cache
    }

    /// I/O queue pairs that the guest may create.
    pub(super) fn granted_queues(&self) -> u16 {
        self.features.granted.unwrap_or(self.shared.settings.queue_pairs)
    }

    pub(super) fn get_features(&self, command: &Command) -> Result<Outcome, Status> {
        let cdw10 = command.cdw10.get();
        let row = find((cdw10 & 0xff) as u8)?;
        if !self.supports(row.id) {
            return Err(Status::INVALID_FIELD.do_not_retry());
        }
        let dw0 = match (cdw10 >> 8 & 0x7) as u8 {
            select::CURRENT => match row.get {
                Some(get) => get(self, command)?,
                None => self.stored(row.id),
            },
            // What is not saveable has its default as its saved value.
            select::DEFAULT | select::SAVED => (row.default)(self),
            select::SUPPORTED_CAPABILITIES => feature::CAPABILITY_CHANGEABLE | row.scope,
            _ => return Err(Status::INVALID_FIELD.do_not_retry()),
        };
        Ok(Outcome { dw0, ..Outcome::SUCCESS })
    }

    /// Sets a feature; `None` if the command ends later.
    pub(super) fn set_features(&mut self, command: &Command) -> Result<Option<Outcome>, Status> {
        const SAVE: u32 = 1 << 31;
        let row = find((command.cdw10.get() & 0xff) as u8)?;
        if !self.supports(row.id) {
            return Err(Status::INVALID_FIELD.do_not_retry());
        }
        if command.cdw10.get() & SAVE != 0 {
            return Err(Status::FEATURE_NOT_SAVEABLE.do_not_retry());
        }
        let dw0 = (row.set)(self, row, command)?;
        if row.id == feature::VOLATILE_WRITE_CACHE && self.stored(row.id) == 0 {
            // Writes that follow are durable by themselves. Those before are
            // made so before the guest is told that there is no cache.
            self.flush_in_background(FlushFor::CacheOff(command.cid.get()));
            return Ok(None);
        }
        Ok(Some(Outcome { dw0, ..Outcome::SUCCESS }))
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

fn invalid() -> Status {
    Status::INVALID_FIELD.do_not_retry()
}

fn store(thread: &mut ControllerThread, row: &Feature, command: &Command) -> Result<u32, Status> {
    thread.set_stored(row.id, command.cdw11.get());
    Ok(0)
}

/// There is one power state, 0.
fn set_power(
    thread: &mut ControllerThread,
    row: &Feature,
    command: &Command,
) -> Result<u32, Status> {
    if command.cdw11.get() & 0x1f != 0 {
        return Err(invalid());
    }
    store(thread, row, command)
}

/// The sensor a threshold is for (TMPSEL) and whether it is the over (0) or
/// under (1) threshold (THSEL).
fn threshold_of(cdw11: u32) -> (u32, u32) {
    (cdw11 >> 16 & 0xf, cdw11 >> 20 & 0x3)
}

fn set_temperature(
    thread: &mut ControllerThread,
    row: &Feature,
    command: &Command,
) -> Result<u32, Status> {
    // The composite temperature is the only sensor; Fh names all there are.
    let value = command.cdw11.get() & 0xffff;
    match threshold_of(command.cdw11.get()) {
        (0 | 0xf, 0) => thread.set_stored(row.id, value),
        (0 | 0xf, 1) => thread.features.under_temperature = value,
        _ => return Err(invalid()),
    }
    Ok(0)
}

fn get_temperature(thread: &ControllerThread, command: &Command) -> Result<u32, Status> {
    match threshold_of(command.cdw11.get()) {
        (0, 0) => Ok(thread.stored(feature::TEMPERATURE_THRESHOLD)),
        (0, 1) => Ok(thread.features.under_temperature),
        _ => Err(invalid()),
    }
}

fn set_error_recovery(
    thread: &mut ControllerThread,
    row: &Feature,
    command: &Command,
) -> Result<u32, Status> {
    // DULBE: deallocated blocks cannot be told from others.
    const DULBE: u32 = 1 << 16;
    if command.cdw11.get() & DULBE != 0 {
        return Err(invalid());
    }
    store(thread, row, command)
}

fn set_cache(
    thread: &mut ControllerThread,
    row: &Feature,
    command: &Command,
) -> Result<u32, Status> {
    let enabled = command.cdw11.get() & 1 != 0;
    thread.shared.engine.executor().set_write_cache(enabled);
    thread.set_stored(row.id, u32::from(enabled));
    Ok(0)
}

fn set_queues(
    thread: &mut ControllerThread,
    _row: &Feature,
    command: &Command,
) -> Result<u32, Status> {
    let (sqs_z, cqs_z) = (command.cdw11.get() & 0xffff, command.cdw11.get() >> 16);
    if sqs_z == 0xffff || cqs_z == 0xffff {
        return Err(invalid());
    }
    if thread.queues.any() {
        return Err(Status::COMMAND_SEQUENCE_ERROR.do_not_retry());
    }
    let wanted = sqs_z.max(cqs_z).saturating_add(1);
    let granted = u16::try_from(wanted).unwrap_or(u16::MAX).min(thread.shared.settings.queue_pairs);
    thread.features.granted = Some(granted);
    Ok(counts(granted))
}

fn set_coalescing(
    thread: &mut ControllerThread,
    row: &Feature,
    command: &Command,
) -> Result<u32, Status> {
    thread.set_stored(row.id, command.cdw11.get() & 0xffff);
    Ok(0)
}

const COALESCING_DISABLE: u32 = 1 << 16;

/// The vector that Interrupt Vector Configuration is about.
fn vector_of(thread: &ControllerThread, command: &Command) -> Result<usize, Status> {
    let vector = command.cdw11.get() & 0xffff;
    if vector >= u32::from(thread.shared.engine.interrupts.vectors()) {
        return Err(invalid());
    }
    Ok(vector as usize)
}

fn set_vector(
    thread: &mut ControllerThread,
    _row: &Feature,
    command: &Command,
) -> Result<u32, Status> {
    let vector = vector_of(thread, command)?;
    let slot = thread.features.coalescing_disabled.get_mut(vector).ok_or(invalid())?;
    *slot = command.cdw11.get() & COALESCING_DISABLE != 0;
    Ok(0)
}

fn get_vector(thread: &ControllerThread, command: &Command) -> Result<u32, Status> {
    let vector = vector_of(thread, command)?;
    let disabled = thread.features.coalescing_disabled.get(vector).copied().ok_or(invalid())?;
    Ok(vector as u32 | if disabled { COALESCING_DISABLE } else { 0 })
}

/// Disable Normal (DN) is one bit.
fn set_atomicity(
    thread: &mut ControllerThread,
    row: &Feature,
    command: &Command,
) -> Result<u32, Status> {
    thread.set_stored(row.id, command.cdw11.get() & 1);
    Ok(0)
}
