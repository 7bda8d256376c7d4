// SPDX-License-Identifier: BSD-2-Clause

//! Error Information (01h).

use crate::nvm::Report;
use crate::wire::log::ErrorEntry;
use crate::wire::status::Status;
use std::collections::VecDeque;
use zerocopy::{FromZeros, IntoBytes};

/// Entries of the log (ELPE).
pub(in crate::controller) const ERROR_ENTRIES_Z: u8 = 63;

/// An error that is no command's, or a parameter that is not known.
const NONE: u16 = u16::MAX;

/// The Error Information log, which lasts as long as the process.
#[derive(Default)]
pub(in crate::controller) struct ErrorLog {
    /// Newest first.
    entries: VecDeque<ErrorEntry>,
    count: u64,
}

impl ErrorLog {
    /// Counts errors that came faster than they could be kept.
    pub(in crate::controller) fn skip(&mut self, lost: u64) {
        self.count = self.count.saturating_add(lost);
    }

    /// A command that failed.
    pub(in crate::controller) fn add(&mut self, report: Report) {
        self.push(ErrorEntry {
            sq_id: report.sq_id.into(),
            cid: report.cid.into(),
            status: (report.status.0 << 1).into(),
            parameter_error_location: location(report.status).into(),
            lba: report.lba.into(),
            nsid: report.nsid.into(),
            ..ErrorEntry::new_zeroed()
        });
    }

    /// A doorbell write of queue `sq_id` that belongs to no command.
    pub(in crate::controller) fn add_doorbell(&mut self, sq_id: u16) {
        self.push(ErrorEntry {
            sq_id: sq_id.into(),
            cid: NONE.into(),
            parameter_error_location: NONE.into(),
            ..ErrorEntry::new_zeroed()
        });
    }

    /// What befell the controller itself.
    pub(in crate::controller) fn add_controller(&mut self, status: Status) {
        self.push(ErrorEntry {
            sq_id: NONE.into(),
            cid: NONE.into(),
            status: (status.0 << 1).into(),
            parameter_error_location: NONE.into(),
            ..ErrorEntry::new_zeroed()
        });
    }

    fn push(&mut self, entry: ErrorEntry) {
        self.count = self.count.saturating_add(1);
        self.entries.push_front(ErrorEntry { error_count: self.count.into(), ..entry });
        self.entries.truncate(usize::from(ERROR_ENTRIES_Z).saturating_add(1));
    }

    /// Entries ever made.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn page(&self) -> Vec<u8> {
        let unused = ErrorEntry::new_zeroed();
        let entries = self.entries.iter().chain(std::iter::repeat(&unused));
        entries
            .take(usize::from(ERROR_ENTRIES_Z).saturating_add(1))
            .flat_map(|entry| entry.as_bytes().to_vec())
            .collect()
    }
}

/// The parameter in error, where the status alone says which: its first byte
/// in the command in bits 7:0, its first bit there in bits 10:8.
fn location(status: Status) -> u16 {
    const BIT: u16 = 1 << 8;
    const PLACES: [(Status, u16); 10] = [
        (Status::INVALID_OPCODE, 0),
        (Status::INVALID_NAMESPACE, 4),
        (Status::PRP_OFFSET_INVALID, 24),
        (Status::LBA_OUT_OF_RANGE, 40),
        (Status::INVALID_QUEUE_ID, 40),
        (Status::INVALID_LOG_PAGE, 40),
        (Status::INVALID_FORMAT, 40),
        (Status::INVALID_QUEUE_SIZE, 42),
        (Status::INVALID_INTERRUPT_VECTOR, 46),
        // SV, the last bit of dword 10.
        (Status::FEATURE_NOT_SAVEABLE, 43 | (7 * BIT)),
    ];
    PLACES.iter().find(|(other, _)| other.is(status)).map_or(NONE, |(_, place)| *place)
}
