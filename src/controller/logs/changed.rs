// SPDX-License-Identifier: BSD-2-Clause

//! Changed Namespace List (04h): the one namespace, if its size has changed
//! since the list was last read.

use super::super::features::wants_namespace_notices;
use super::super::thread::ControllerThread;
use crate::wire::NSID;
use crate::wire::event::Event;
use crate::wire::log::PAGE_LOG_SIZE;

/// Whether the namespace has changed since the list was read.
#[derive(Default)]
pub(in crate::controller) struct ChangedNamespaces(bool);

impl ChangedNamespaces {
    pub(super) fn page(&self) -> Vec<u8> {
        let mut page = if self.0 { NSID.to_le_bytes().to_vec() } else { Vec::new() };
        page.resize(PAGE_LOG_SIZE, 0);
        page
    }

    pub(super) fn clear(&mut self) {
        self.0 = false;
    }
}

impl ControllerThread {
    /// Takes the size that the store has said, which may be another one.
    pub(in crate::controller) fn resize_namespace(&mut self) {
        if !self.shared.engine.executor().resize() {
            return;
        }
        self.changed.0 = true;
        if wants_namespace_notices(self) {
            self.events.post(Event::NAMESPACE_ATTRIBUTE_CHANGED);
        }
    }
}
