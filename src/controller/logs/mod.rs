// SPDX-License-Identifier: BSD-2-Clause

//! Get Log Page (section 5.14).

mod changed;
mod effects;
mod errors;
mod firmware;
mod health;

pub(super) use changed::ChangedNamespaces;
pub(super) use errors::{ERROR_ENTRIES_Z, ErrorLog};

use super::thread::ControllerThread;
use crate::data_pointer::MAX_TRANSFER;
use crate::wire::command::Command;
use crate::wire::log;
use crate::wire::status::Status;
use crate::wire::{NSID, NSID_ALL};

/// One log page. Adding one is adding a row to [`LOG_PAGES`].
struct LogPage {
    id: u8,
    /// It can be asked for the namespace too: there is one, so that what the
    /// controller counts and what the namespace counts are the same.
    of_namespace: bool,
    read: fn(&ControllerThread) -> Vec<u8>,
    /// What becomes of it by being read without Retain Asynchronous Event.
    clear: fn(&mut ControllerThread),
}

const fn row(id: u8, read: fn(&ControllerThread) -> Vec<u8>) -> LogPage {
    LogPage { id, of_namespace: false, read, clear: |_| () }
}

const LOG_PAGES: &[LogPage] = &[
    row(log::SUPPORTED_LOG_PAGES, |_| effects::log_pages()),
    row(log::ERROR_INFORMATION, |thread| thread.errors.page()),
    LogPage { of_namespace: true, ..row(log::HEALTH_INFORMATION, health::page) },
    row(log::FIRMWARE_SLOT, |_| firmware::page()),
    LogPage {
        clear: |thread| thread.changed.clear(),
        ..row(log::CHANGED_NAMESPACES, |thread| thread.changed.page())
    },
    row(log::COMMAND_EFFECTS, effects::commands),
    row(log::FEATURE_EFFECTS, effects::features),
    row(log::MANAGEMENT_EFFECTS, |_| effects::management_commands()),
];

impl ControllerThread {
    pub(super) fn get_log_page(&mut self, command: &Command) -> Result<(), Status> {
        const RETAIN_EVENT: u32 = 1 << 15;
        /// The offset is an index into a list: no page here is one.
        const OFFSET_IS_INDEX: u32 = 1 << 23;
        let invalid = Status::INVALID_FIELD.do_not_retry();
        let cdw10 = command.cdw10.get();
        let id = (cdw10 & 0xff) as u8;
        let row = LOG_PAGES
            .iter()
            .find(|row| row.id == id)
            .ok_or(Status::INVALID_LOG_PAGE.do_not_retry())?;
        match command.nsid.get() {
            0 | NSID_ALL => {}
            NSID if row.of_namespace => {}
            _ if row.of_namespace => return Err(Status::INVALID_NAMESPACE.do_not_retry()),
            _ => return Err(invalid),
        }
        // The UUID index and the command set identifier mean nothing here:
        // there is no UUID list, and CC.CSS allows one command set.
        if command.cdw14.get() & OFFSET_IS_INDEX != 0 {
            return Err(invalid);
        }
        let dwords_z = u64::from(cdw10 >> 16) | u64::from(command.cdw11.get() & 0xffff) << 16;
        let len = usize::try_from(dwords_z.saturating_add(1).saturating_mul(4))
            .ok()
            .filter(|len| *len <= MAX_TRANSFER)
            .ok_or(invalid)?;
        let offset = u64::from(command.cdw12.get()) | u64::from(command.cdw13.get()) << 32;
        // What a worker has reported before its command completed is in it.
        self.collect_reports();
        let page = (row.read)(self);
        let rest = usize::try_from(offset)
            .ok()
            .filter(|_| offset & 3 == 0)
            .and_then(|offset| page.get(offset..))
            .ok_or(invalid)?;
        // What is asked for beyond the page's end reads as zeroes.
        let mut data = vec![0; len];
        for (to, from) in data.iter_mut().zip(rest) {
            *to = *from;
        }
        self.transfer(command, &data)?;
        if cdw10 & RETAIN_EVENT == 0 {
            (row.clear)(self);
            self.events.log_read(id);
        }
        Ok(())
    }
}
