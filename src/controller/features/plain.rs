// SPDX-License-Identifier: BSD-2-Clause

//! Features that are a number with a rule.

use super::super::thread::ControllerThread;
use super::{Ask, invalid};
use crate::wire::feature;
use crate::wire::status::Status;

/// Any value will do.
pub(super) fn store(thread: &mut ControllerThread, ask: &Ask) -> Result<u32, Status> {
    thread.set_stored(ask.id, ask.cdw11());
    Ok(0)
}

/// There is one power state, 0.
pub(super) fn set_power(thread: &mut ControllerThread, ask: &Ask) -> Result<u32, Status> {
    if ask.cdw11() & 0x1f != 0 {
        return Err(invalid());
    }
    store(thread, ask)
}

pub(super) fn set_error_recovery(thread: &mut ControllerThread, ask: &Ask) -> Result<u32, Status> {
    // DULBE: deallocated blocks cannot be told from others.
    const DULBE: u32 = 1 << 16;
    if ask.cdw11() & DULBE != 0 {
        return Err(invalid());
    }
    store(thread, ask)
}

/// Disable Normal (DN) is one bit.
pub(super) fn set_atomicity(thread: &mut ControllerThread, ask: &Ask) -> Result<u32, Status> {
    thread.set_stored(ask.id, ask.cdw11() & 1);
    Ok(0)
}

/// Which events the guest wants to hear of.
pub(super) fn set_events(thread: &mut ControllerThread, ask: &Ask) -> Result<u32, Status> {
    thread.set_stored(ask.id, ask.cdw11());
    thread.report_warnings();
    Ok(0)
}

/// Whether the guest wants to hear of changed namespaces.
pub(in crate::controller) fn wants_namespace_notices(thread: &ControllerThread) -> bool {
    let wanted = thread.stored(feature::ASYNC_EVENT_CONFIGURATION);
    wanted & feature::NAMESPACE_ATTRIBUTE_NOTICES != 0
}
