// SPDX-License-Identifier: BSD-2-Clause

//! Interrupt Coalescing (08h) and Interrupt Vector Configuration (09h).

use super::super::thread::ControllerThread;
use super::{Ask, Value, invalid};
use crate::wire::status::Status;

/// The most vectors there are: one per queue pair, and one for the admin queue.
const VECTORS: usize = 65;

const COALESCING_DISABLE: u32 = 1 << 16;

/// Coalescing Disable of each vector.
pub(super) struct Vectors([bool; VECTORS]);

impl Default for Vectors {
    fn default() -> Vectors {
        Vectors([false; VECTORS])
    }
}

pub(super) fn set_coalescing(thread: &mut ControllerThread, ask: &Ask) -> Result<u32, Status> {
    thread.set_stored(ask.id, ask.cdw11() & 0xffff);
    Ok(0)
}

/// The vector that Interrupt Vector Configuration is about.
fn vector_of(thread: &ControllerThread, ask: &Ask) -> Result<usize, Status> {
    let vector = ask.cdw11() & 0xffff;
    if vector >= u32::from(thread.shared.engine.interrupts.vectors()) {
        return Err(invalid());
    }
    Ok(vector as usize)
}

pub(super) fn set_vector(thread: &mut ControllerThread, ask: &Ask) -> Result<u32, Status> {
    let vector = vector_of(thread, ask)?;
    let slot = thread.features.vectors.0.get_mut(vector).ok_or(invalid())?;
    *slot = ask.cdw11() & COALESCING_DISABLE != 0;
    Ok(0)
}

pub(super) fn get_vector(thread: &ControllerThread, ask: &Ask) -> Result<Value, Status> {
    let vector = vector_of(thread, ask)?;
    let disabled = thread.features.vectors.0.get(vector).copied().ok_or(invalid())?;
    Ok(Value::Word(vector as u32 | if disabled { COALESCING_DISABLE } else { 0 }))
}

pub(super) fn default_vector(thread: &ControllerThread, ask: &Ask) -> Result<Value, Status> {
    Ok(Value::Word(vector_of(thread, ask)? as u32))
}
