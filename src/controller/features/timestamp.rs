// SPDX-License-Identifier: BSD-2-Clause

//! Timestamp (0Eh): milliseconds that go on from what the guest has set, or
//! from a reset.

use super::super::thread::ControllerThread;
use super::{Ask, Value, invalid};
use crate::wire::feature::TIMESTAMP_SIZE;
use crate::wire::status::Status;
use std::time::Instant;

/// Timestamp Origin: a reset (0) or Set Features (1), in bits 3:1 of byte 6.
const SET_BY_GUEST: u8 = 1 << 1;

pub(super) struct Clock {
    /// In milliseconds, 48 bits, at the moment `since`.
    start: u64,
    since: Instant,
    origin: u8,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock { start: 0, since: Instant::now(), origin: 0 }
    }
}

fn structure(milliseconds: u64, origin: u8) -> Value {
    let [a, b, c, d, e, f, ..] = milliseconds.to_le_bytes();
    Value::Data(vec![a, b, c, d, e, f, origin, 0])
}

pub(super) fn default(_: &ControllerThread, _: &Ask) -> Result<Value, Status> {
    Ok(structure(0, 0))
}

pub(super) fn get(thread: &ControllerThread, _: &Ask) -> Result<Value, Status> {
    let Clock { start, since, origin } = &thread.features.timestamp;
    let passed = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(structure(start.wrapping_add(passed), *origin))
}

pub(super) fn set(thread: &mut ControllerThread, ask: &Ask) -> Result<u32, Status> {
    let bytes: [u8; TIMESTAMP_SIZE] = ask.data.try_into().map_err(|_| invalid())?;
    // The last two bytes are reserved in this direction.
    let start = u64::from_le_bytes(bytes) & 0xffff_ffff_ffff;
    thread.features.timestamp = Clock { start, since: Instant::now(), origin: SET_BY_GUEST };
    Ok(0)
}
