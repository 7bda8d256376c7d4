// SPDX-License-Identifier: BSD-2-Clause

//! SMART / Health Information (02h).

use super::super::features::TEMPERATURE;
use super::super::thread::ControllerThread;
use crate::wire::log::{Health, U128};
use zerocopy::IntoBytes;

pub(super) fn page(thread: &ControllerThread) -> Vec<u8> {
    let totals = thread.shared.engine.executor().totals();
    let mut health = Health::zeroed();
    health.critical_warning = thread.critical_warning();
    // A real drive is never at 0 K and never without spare: guests that read
    // zeroes here declared the disk failing.
    health.composite_temperature = TEMPERATURE.to_le_bytes();
    health.available_spare = 100;
    health.available_spare_threshold = 10;
    health.data_units_read = thousands_of_512(totals.bytes_read);
    health.data_units_written = thousands_of_512(totals.bytes_written);
    health.host_reads = wide(totals.reads);
    health.host_writes = wide(totals.writes);
    health.power_cycles = wide(1);
    health.power_on_hours = wide(thread.started.elapsed().as_secs() / 3600);
    health.media_errors = wide(totals.media_errors);
    health.error_log_entries = wide(thread.errors.count());
    health.as_bytes().to_vec()
}

fn wide(value: u64) -> U128 {
    [value.into(), 0.into()]
}

fn thousands_of_512(bytes: u64) -> U128 {
    wide(bytes.div_ceil(512 * 1000))
}
