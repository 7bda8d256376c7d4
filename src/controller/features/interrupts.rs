// SPDX-License-Identifier: BSD-2-Clause

//! Interrupt Coalescing (08h) and Interrupt Vector Configuration (09h).

use super::super::thread::ControllerThread;
use super::{Ask, Value, invalid};
use crate::wire::status::Status;

const COALESCING_DISABLE: u32 = 1 << 16;

pub(super) fn set_coalescing(thread: &mut ControllerThread, ask: &Ask) -> Result<u32, Status> {
    let setting = ask.cdw11() & 0xffff;
    thread.shared.engine.coalescing.set(setting);
    thread.set_stored(ask.id, setting);
    Ok(0)
}

/// The vector that Interrupt Vector Configuration is about.
fn vector_of(thread: &ControllerThread, ask: &Ask) -> Result<u16, Status> {
    let vector = (ask.cdw11() & 0xffff) as u16;
    if vector >= thread.shared.engine.interrupts.vectors() {
        return Err(invalid());
    }
    Ok(vector)
}

pub(super) fn set_vector(thread: &mut ControllerThread, ask: &Ask) -> Result<u32, Status> {
    let vector = vector_of(thread, ask)?;
    let disabled = ask.cdw11() & COALESCING_DISABLE != 0;
    thread.shared.engine.coalescing.set_disabled(vector, disabled);
    Ok(0)
}

pub(super) fn get_vector(thread: &ControllerThread, ask: &Ask) -> Result<Value, Status> {
    let vector = vector_of(thread, ask)?;
    let disabled = thread.shared.engine.coalescing.is_disabled(vector);
    Ok(Value::Word(u32::from(vector) | if disabled { COALESCING_DISABLE } else { 0 }))
}

pub(super) fn default_vector(thread: &ControllerThread, ask: &Ask) -> Result<Value, Status> {
    Ok(Value::Word(u32::from(vector_of(thread, ask)?)))
}
