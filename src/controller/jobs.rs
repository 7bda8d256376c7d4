// SPDX-License-Identifier: BSD-2-Clause

//! What is long, and therefore left to a worker.

use super::thread::ControllerThread;
use crate::backend::Error;
use crate::nvm::Nvm;

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The guest shuts down: flush.
    Shutdown,
    /// Set Features switches the volatile write cache off: flush. The
    /// command's identifier.
    CacheOff(u16),
    /// Format NVM erases the store from here to this byte.
    Erase(u64),
    /// The store is asked for its size.
    Size,
}

/// How a job ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct JobDone {
    /// Which life of the controller it was for.
    pub(super) life: u64,
    pub(super) purpose: Purpose,
    pub(super) result: Result<(), Error>,
}

impl ControllerThread {
    /// Has a worker do `work`; [`ControllerThread::finish_jobs`] gets to know
    /// of its end.
    pub(super) fn in_background(
        &self,
        purpose: Purpose,
        work: impl FnOnce(&Nvm) -> Result<(), Error> + Send + 'static,
    ) {
        let (shared, life) = (self.shared.clone(), self.life);
        self.shared.engine.submit(Box::new(move |nvm| {
            let done = JobDone { life, purpose, result: work(nvm) };
            shared.job_done(done);
        }));
    }

    fn tell_of_failure(&mut self, purpose: Purpose, error: Error) {
        let what = match purpose {
            Purpose::Shutdown | Purpose::CacheOff(_) => "flush",
            Purpose::Erase(_) => "format",
            // A store that is gone fails the guest's I/O, too.
            Purpose::Size => return,
        };
        self.fail(&format!("{what} failed: {error:?}"));
    }

    /// Answers the guest whose jobs have ended.
    pub(super) fn finish_jobs(&mut self) {
        for JobDone { life, purpose, result } in self.shared.take_done() {
            if let Err(error) = result {
                self.tell_of_failure(purpose, error);
            }
            match purpose {
                Purpose::Size => self.asked_for_size(),
                Purpose::Erase(end) => self.erased(end, result),
                Purpose::Shutdown if self.is_living(life) => self.flushed_for_shutdown(),
                Purpose::CacheOff(cid) if self.is_living(life) => self.cache_is_off(cid, result),
                Purpose::Shutdown | Purpose::CacheOff(_) => {}
            }
        }
    }
}
