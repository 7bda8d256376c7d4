// SPDX-License-Identifier: BSD-2-Clause

//! Firmware Slot Information (03h): one slot, which is read-only.

use super::super::identify::FIRMWARE_REVISION;
use crate::wire::log::FirmwareSlots;
use zerocopy::IntoBytes;

pub(super) fn page() -> Vec<u8> {
    let mut log = FirmwareSlots::zeroed();
    log.active = 1;
    let [first, ..] = &mut log.revisions;
    *first = FIRMWARE_REVISION;
    log.as_bytes().to_vec()
}
