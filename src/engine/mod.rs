// SPDX-License-Identifier: BSD-2-Clause

//! Who runs I/O, and on which thread.
//!
//! Knows threads, queues and wake-ups, but no command: what a command does is
//! the [`Executor`]'s business.
//!
//! * [`pool`]: which workers sleep, search and work.
//! * [`dispatch`]: from a doorbell to a fetched batch.
//! * [`batch`]: from there to completions.
//! * [`coalescing`]: how many completions share an interrupt.
//! * [`pace`]: how quick the store is, and what is put off if it is quick.
//! * [`deck`]: what a worker has in hand, where others can take it.
//! * [`watch`]: nothing is put off for long.
//! * [`control`]: what the controller thread does to queues that others serve.
//! * [`worker`]: a worker's life.
//! * [`inline`]: small commands on the vCPU's own thread.
//! * [`slots`]: how many commands are in the backend at once.
//! * [`mailbox`]: what reaches the controller thread.
//! * [`fault`]: what a panic does.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod batch;
mod coalescing;
mod control;
mod deck;
mod dispatch;
mod fault;
mod inline;
mod mailbox;
mod pace;
mod pool;
mod slots;
#[allow(unsafe_code)]
mod sys;
mod watch;
mod worker;

#[cfg(all(test, loom))]
mod model;

pub(crate) use dispatch::{Engine, Inline, Limits};
pub(crate) use fault::Fault;
pub(crate) use mailbox::{Mail, Mailbox};
pub(crate) use pool::MAX_WORKERS;
pub(crate) use sys::block_all_signals;

use crate::wire::command::Command;
use crate::wire::status::Status;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Dword 0 of the completion.
    pub(crate) dw0: u32,
    pub(crate) status: Status,
}

impl Outcome {
    pub(crate) const SUCCESS: Outcome = Outcome { dw0: 0, status: Status::SUCCESS };
}

impl From<Status> for Outcome {
    fn from(status: Status) -> Outcome {
        Outcome { dw0: 0, status }
    }
}

impl<T> From<Result<T, Status>> for Outcome {
    fn from(result: Result<T, Status>) -> Outcome {
        result.err().map_or(Outcome::SUCCESS, Outcome::from)
    }
}

/// What commands do. Every method may be called from many threads at once.
pub(crate) trait Executor: Send + Sync + 'static {
    /// Memory that a thread keeps from command to command.
    type Scratch: Default + Send;
    /// Something long that the controller thread leaves to a worker.
    type Job: Send;

    /// Executes a command that came from submission queue `sq_id`.
    fn execute(&self, sq_id: u16, command: &Command, scratch: &mut Self::Scratch) -> Outcome;

    /// Executes both commands of a fused operation, `execute`'s rules applying
    /// to each.
    fn execute_fused(
        &self,
        sq_id: u16,
        commands: [&Command; 2],
        scratch: &mut Self::Scratch,
    ) -> [Outcome; 2];

    /// The bytes a command moves, if it may run on a vCPU's thread.
    fn inline_cost(&self, command: &Command) -> Option<u64>;

    /// Runs a job.
    fn run(&self, job: Self::Job);
}
