// SPDX-License-Identifier: BSD-2-Clause

//! What there is and what it does: Supported Log Pages (00h), Commands
//! Supported and Effects (05h), Feature Identifiers Supported and Effects
//! (12h), NVMe-MI Commands Supported and Effects (13h). Each is an array with a
//! word for every identifier, made from the tables that the controller works
//! by.

use super::super::thread::ControllerThread;
use super::LOG_PAGES;
use crate::wire::command::io;
use crate::wire::log::effect::{CONTENT_CHANGE, SUPPORTED};
use crate::wire::log::{LOG_SUPPORTED, PAGE_LOG_SIZE};

/// What the I/O commands do. Their scope is not reported, which is allowed, for
/// Linux complains of any bit here but these two.
const IO_COMMANDS: &[(u8, u32)] = &[
    (io::FLUSH, SUPPORTED),
    (io::WRITE, SUPPORTED | CONTENT_CHANGE),
    (io::READ, SUPPORTED),
    (io::COMPARE, SUPPORTED),
    (io::WRITE_ZEROES, SUPPORTED | CONTENT_CHANGE),
    (io::DATASET_MANAGEMENT, SUPPORTED | CONTENT_CHANGE),
    (io::VERIFY, SUPPORTED),
];

/// Identifiers of a kind: all values of a byte.
const IDS: usize = 256;

fn array(rows: impl Iterator<Item = (u8, u32)>) -> Vec<u8> {
    let mut words = vec![0u32; IDS];
    for (id, effects) in rows {
        if let Some(word) = words.get_mut(usize::from(id)) {
            *word = effects;
        }
    }
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub(super) fn log_pages() -> Vec<u8> {
    array(LOG_PAGES.iter().map(|row| (row.id, LOG_SUPPORTED)))
}

pub(super) fn commands(thread: &ControllerThread) -> Vec<u8> {
    let nvm = thread.shared.engine.executor();
    let io_commands = IO_COMMANDS.iter().filter(|(opcode, _)| nvm.offers_command(*opcode));
    let mut page = array(thread.offered_commands().map(|row| (row.opcode, row.effects)));
    page.extend(array(io_commands.copied()));
    page.resize(PAGE_LOG_SIZE, 0);
    page
}

pub(super) fn features(thread: &ControllerThread) -> Vec<u8> {
    array(thread.supported_features())
}

/// There is no command of the Management Interface.
pub(super) fn management_commands() -> Vec<u8> {
    array(std::iter::empty())
}
