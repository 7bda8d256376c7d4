// SPDX-License-Identifier: BSD-2-Clause

//! Host Behavior Support (16h) and Host Identifier (81h): what the guest says
//! of itself.

use super::super::thread::ControllerThread;
use super::{Ask, Value, invalid};
use crate::wire::feature::HOST_BEHAVIOR_SIZE;
use crate::wire::status::Status;

/// All zeroes until the guest says something.
#[derive(Default)]
pub(super) struct Host {
    /// Advanced Command Retry Enable: without effect, for no command is ever
    /// delayed (CRDT).
    advanced_retry: u8,
    identifier: [u8; 16],
}

/// Both have a structure of zeroes as their default.
pub(super) fn default(_: &ControllerThread, ask: &Ask) -> Result<Value, Status> {
    let len = match ask.id {
        crate::wire::feature::HOST_BEHAVIOR_SUPPORT => HOST_BEHAVIOR_SIZE,
        _ => identifier_len(ask.cdw11()),
    };
    Ok(Value::Data(vec![0; len]))
}

pub(super) fn get_behavior(thread: &ControllerThread, _: &Ask) -> Result<Value, Status> {
    let mut data = vec![thread.features.host.advanced_retry];
    data.resize(HOST_BEHAVIOR_SIZE, 0);
    Ok(Value::Data(data))
}

pub(super) fn set_behavior(thread: &mut ControllerThread, ask: &Ask) -> Result<u32, Status> {
    // The two after the first belong to what is not there: a fourth telemetry
    // area (ETDAS), and extended LBA formats (LBAFEE).
    match ask.data {
        [retry @ (0 | 1), 0, 0, ..] => thread.features.host.advanced_retry = *retry,
        _ => return Err(invalid()),
    }
    Ok(0)
}

/// Enable Extended Host Identifier (EXHID): 128 bits instead of 64.
pub(super) fn identifier_len(cdw11: u32) -> usize {
    if cdw11 & 1 != 0 { 16 } else { 8 }
}

pub(super) fn get_identifier(thread: &ControllerThread, ask: &Ask) -> Result<Value, Status> {
    let identifier = thread.features.host.identifier;
    Ok(Value::Data(identifier.into_iter().take(identifier_len(ask.cdw11())).collect()))
}

pub(super) fn set_identifier(thread: &mut ControllerThread, ask: &Ask) -> Result<u32, Status> {
    let mut identifier = [0; 16];
    for (to, from) in identifier.iter_mut().zip(ask.data) {
        *to = *from;
    }
    thread.features.host.identifier = identifier;
    Ok(0)
}
