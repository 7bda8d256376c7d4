// SPDX-License-Identifier: BSD-2-Clause

//! Number of Queues (07h).

use super::super::thread::ControllerThread;
use super::{Ask, Value, invalid};
use crate::wire::status::Status;

/// A count of submission and of completion queues, as the feature has them.
fn counts(pairs: u16) -> u32 {
    let pairs_z = u32::from(pairs.saturating_sub(1));
    pairs_z << 16 | pairs_z
}

pub(super) fn default(thread: &ControllerThread, _: &Ask) -> Result<Value, Status> {
    Ok(Value::Word(counts(thread.shared.settings.queue_pairs)))
}

pub(super) fn get(thread: &ControllerThread, _: &Ask) -> Result<Value, Status> {
    Ok(Value::Word(counts(thread.granted_queues())))
}

pub(super) fn set(thread: &mut ControllerThread, ask: &Ask) -> Result<u32, Status> {
    let (sqs_z, cqs_z) = (ask.cdw11() & 0xffff, ask.cdw11() >> 16);
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

impl ControllerThread {
    /// I/O queue pairs that the guest may create.
    pub(in crate::controller) fn granted_queues(&self) -> u16 {
        self.features.granted.unwrap_or(self.shared.settings.queue_pairs)
    }
}
