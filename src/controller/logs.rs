// SPDX-License-Identifier: BSD-2-Clause

//! Get Log Page (section 5.14).

use super::identify::FIRMWARE_REVISION;
use super::thread::ControllerThread;
use crate::data_pointer::MAX_TRANSFER;
use crate::nvm::Report;
use crate::wire::command::Command;
use crate::wire::log::{self, ErrorEntry, FirmwareSlots, Health, U128};
use crate::wire::status::Status;
use std::collections::VecDeque;
use zerocopy::{FromZeros, IntoBytes};

/// Entries of the Error Information log (ELPE).
pub(super) const ERROR_ENTRIES_Z: u8 = 63;

/// One log page. Adding one is adding a row to [`LOG_PAGES`].
struct LogPage {
    id: u8,
    read: fn(&ControllerThread) -> Vec<u8>,
}

const LOG_PAGES: &[LogPage] = &[
    LogPage { id: log::ERROR_INFORMATION, read: |thread| thread.errors.page() },
    LogPage { id: log::HEALTH_INFORMATION, read: |thread| thread.health().as_bytes().to_vec() },
    LogPage { id: log::FIRMWARE_SLOT, read: |_| firmware_slots().as_bytes().to_vec() },
];

/// The Error Information log, which lasts as long as the process.
#[derive(Default)]
pub(super) struct ErrorLog {
    /// Newest first.
    entries: VecDeque<ErrorEntry>,
    count: u64,
}

impl ErrorLog {
    /// Counts errors that came faster than they could be kept.
    pub(super) fn skip(&mut self, lost: u64) {
        self.count = self.count.saturating_add(lost);
    }

    pub(super) fn add(&mut self, report: Report) {
        self.push(ErrorEntry {
            sq_id: report.sq_id.into(),
            cid: report.cid.into(),
            status: (report.status.0 << 1).into(),
            parameter_error_location: u16::MAX.into(),
            lba: report.lba.into(),
            nsid: report.nsid.into(),
            ..ErrorEntry::new_zeroed()
        });
    }

    /// A doorbell write of queue `sq_id` that belongs to no command.
    pub(super) fn add_doorbell(&mut self, sq_id: u16) {
        self.push(ErrorEntry {
            sq_id: sq_id.into(),
            cid: u16::MAX.into(),
            parameter_error_location: u16::MAX.into(),
            ..ErrorEntry::new_zeroed()
        });
    }

    fn push(&mut self, entry: ErrorEntry) {
        self.count = self.count.saturating_add(1);
        self.entries.push_front(ErrorEntry { error_count: self.count.into(), ..entry });
        self.entries.truncate(usize::from(ERROR_ENTRIES_Z).saturating_add(1));
    }

    fn page(&self) -> Vec<u8> {
        let unused = ErrorEntry::new_zeroed();
        let entries = self.entries.iter().chain(std::iter::repeat(&unused));
        entries
            .take(usize::from(ERROR_ENTRIES_Z).saturating_add(1))
            .flat_map(|entry| entry.as_bytes().to_vec())
            .collect()
    }
}

impl ControllerThread {
    pub(super) fn get_log_page(&mut self, command: &Command) -> Result<(), Status> {
        const RETAIN_EVENT: u32 = 1 << 15;
        let cdw10 = command.cdw10.get();
        let id = (cdw10 & 0xff) as u8;
        let row = LOG_PAGES
            .iter()
            .find(|row| row.id == id)
            .ok_or(Status::INVALID_LOG_PAGE.do_not_retry())?;
        let dwords_z = u64::from(cdw10 >> 16) | u64::from(command.cdw11.get() & 0xffff) << 16;
        let len = dwords_z.saturating_add(1).saturating_mul(4);
        let offset = u64::from(command.cdw12.get()) | u64::from(command.cdw13.get()) << 32;
        let page = (row.read)(self);
        let rest = usize::try_from(offset)
            .ok()
            .filter(|_| offset & 3 == 0)
            .and_then(|offset| page.get(offset..))
            .ok_or(Status::INVALID_FIELD.do_not_retry())?;
        let len = usize::try_from(len)
            .ok()
            .filter(|len| *len <= MAX_TRANSFER)
            .ok_or(Status::INVALID_FIELD.do_not_retry())?;
        // What is asked for beyond the page's end reads as zeroes.
        let mut data = vec![0; len];
        for (to, from) in data.iter_mut().zip(rest) {
            *to = *from;
        }
        self.transfer(command, &data)?;
        if cdw10 & RETAIN_EVENT == 0 {
            self.events.log_read(id);
        }
        Ok(())
    }

    fn health(&self) -> Health {
        // A real drive is never at 0 K and never without spare: guests that
        // read zeroes here declared the disk failing.
        const TEMPERATURE: u16 = 296;
        let totals = self.shared.engine.executor().totals();
        let mut health = Health::zeroed();
        health.composite_temperature = TEMPERATURE.to_le_bytes();
        health.available_spare = 100;
        health.available_spare_threshold = 10;
        health.data_units_read = thousands_of_512(totals.bytes_read);
        health.data_units_written = thousands_of_512(totals.bytes_written);
        health.host_reads = wide(totals.reads);
        health.host_writes = wide(totals.writes);
        health.power_cycles = wide(1);
        health.power_on_hours = wide(self.started.elapsed().as_secs() / 3600);
        health.media_errors = wide(totals.media_errors);
        health.error_log_entries = wide(self.errors.count);
        health
    }
}

fn wide(value: u64) -> U128 {
    [value.into(), 0.into()]
}

fn thousands_of_512(bytes: u64) -> U128 {
    wide(bytes.div_ceil(512 * 1000))
}

fn firmware_slots() -> FirmwareSlots {
    let mut log = FirmwareSlots::zeroed();
    log.active = 1;
    let [first, ..] = &mut log.revisions;
    *first = FIRMWARE_REVISION;
    log
}
