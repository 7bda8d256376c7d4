// SPDX-License-Identifier: BSD-2-Clause

//! Volatile Write Cache (06h): while it is off, every write is durable.

use super::super::jobs::Purpose;
use super::super::thread::ControllerThread;
use super::Ask;
use crate::backend::Error;
use crate::nvm::Nvm;
use crate::wire::status::Status;

pub(super) fn set(thread: &mut ControllerThread, ask: &Ask) -> Result<u32, Status> {
    let enabled = ask.cdw11() & 1 != 0;
    thread.shared.engine.executor().set_write_cache(enabled);
    thread.set_stored(ask.id, u32::from(enabled));
    Ok(0)
}

impl ControllerThread {
    /// Writes that follow are durable by themselves. Those before are made so
    /// before the guest is told that there is no cache.
    pub(super) fn flush_for_cache_off(&self, cid: u16) {
        self.in_background(Purpose::CacheOff(cid), Nvm::flush_store);
    }

    pub(in crate::controller) fn cache_is_off(&mut self, cid: u16, result: Result<(), Error>) {
        self.complete_admin(cid, 0, result.map_err(|_| Status::WRITE_FAULT).into());
    }
}
