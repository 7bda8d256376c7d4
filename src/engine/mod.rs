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
//! * [`errands`]: what waits for a worker beside the queues.
//! * [`parts`]: commands that several workers execute.
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
mod errands;
mod fault;
mod inline;
mod mailbox;
mod pace;
mod parts;
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

/// Why a command has not succeeded when its execution returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfinished {
    /// It has failed.
    Failed(Status),
    /// It is to be executed in [parts](Executor::parts), at once or one after
    /// the other, and then finished.
    InParts,
}

impl From<Status> for Unfinished {
    fn from(status: Status) -> Unfinished {
        Unfinished::Failed(status)
    }
}

/// What commands do. Every method may be called from many threads at once.
pub(crate) trait Executor: Send + Sync + 'static {
    /// Memory that a thread keeps from command to command.
    type Scratch: Default + Send;
    /// Something long that the controller thread leaves to a worker.
    type Job: Send;
    /// A part of a command.
    type Part: Send + Sync;

    /// Executes a command that came from submission queue `sq_id`.
    fn execute(
        &self,
        sq_id: u16,
        command: &Command,
        scratch: &mut Self::Scratch,
    ) -> Result<(), Unfinished>;

    /// The parts, at least one, of a command that [`Executor::execute`] has just
    /// left [in parts](Unfinished::InParts) with this `scratch`.
    fn parts(&self, scratch: &Self::Scratch) -> Box<[Self::Part]>;

    /// Executes a part of a command.
    fn execute_part(&self, part: &Self::Part) -> Result<(), Status>;

    /// All parts of a command from submission queue `sq_id` have ended, the
    /// first that failed as `result` says. Returns how the command ends.
    fn finish_parts(
        &self,
        sq_id: u16,
        command: &Command,
        result: Result<(), Status>,
    ) -> Result<(), Status>;

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
