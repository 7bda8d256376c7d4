// SPDX-License-Identifier: BSD-2-Clause

//! The controller thread: sole owner of the controller's state, and of the
//! machine that enables, resets and shuts it down (sections 3.1.5, 7.3, 7.6).
//!
//! ```text
//!            EN 1, settings good                 EN 0, or function reset
//! Disabled ----------------------> Ready ------------------------------+
//!    ^  |                                                              v
//!    |  | EN 1, settings bad                                        Resetting
//!    |  +-------------------> Disabled with CFS ---EN 0-------------->  |
//!    +------------------------------- nothing in flight ----------------+
//! ```
//!
//! RDY falls at the end of Resetting, when nothing of the old life can reach
//! guest memory any more. If an I/O never returns, RDY stays 1 and the guest
//! gives the disk up by its own time-out.

use super::allowance::Allowance;
use super::doorbell_buffer::DoorbellBuffer;
use super::events::Events;
use super::features::Values;
use super::format::Format;
use super::jobs::Purpose;
use super::logs::{ChangedNamespaces, ErrorLog};
use super::queues::{Deletion, QueueTable};
use super::registers::{AdminQueues, Edges};
use super::resize::Watch;
use super::shared::Shared;
use crate::data_pointer::Segments;
use crate::engine::{Engine, Mail};
use crate::nvm::Nvm;
use crate::queue::{
    CompletionParameters, CompletionQueue, DoorbellError, SubmissionParameters, SubmissionQueue,
};
use crate::wire::event::Event;
use crate::wire::register::ControllerStatus;
use crate::wire::status::Status;
use std::sync::Arc;
use std::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Disabled,
    Ready,
    Resetting,
}

/// How far a shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shutdown {
    None,
    /// The I/O queues are closed; what was fetched from them still runs.
    Draining,
    /// The store is being flushed.
    Flushing,
    Complete,
}

pub(super) struct ControllerThread {
    pub(super) shared: Arc<Shared>,
    stage: Stage,
    shutdown: Shutdown,
    /// Counts resets, so that a job of an earlier life is known as such.
    pub(super) life: u64,
    pub(super) features: Values,
    pub(super) events: Events,
    pub(super) errors: ErrorLog,
    pub(super) changed: ChangedNamespaces,
    /// The Format NVM under way.
    pub(super) format: Option<Format>,
    pub(super) queues: QueueTable,
    pub(super) deletions: Vec<Deletion>,
    /// Where the guest wants its shadow doorbells.
    pub(super) doorbell_buffer: Option<DoorbellBuffer>,
    pub(super) segments: Segments,
    /// When the store is asked for its size.
    pub(super) watch: Watch,
    pub(super) started: Instant,
    /// When the engine wants to be looked after, while it does.
    next_tick: Option<Instant>,
    /// Ticks in a row that were not needed.
    quiet_ticks: u32,
    /// Lines on what the guest does wrong.
    complaints: Allowance,
    /// Lines on what the host fails at, when the guest asks for it.
    failures: Allowance,
}

impl ControllerThread {
    pub(super) fn new(shared: Arc<Shared>) -> ControllerThread {
        let queues = QueueTable::new(shared.settings.queue_pairs);
        let watch = Watch::new(shared.engine.executor().backend());
        let mut thread = ControllerThread {
            shared,
            stage: Stage::Disabled,
            shutdown: Shutdown::None,
            life: 0,
            features: Values::new(),
            events: Events::default(),
            errors: ErrorLog::default(),
            changed: ChangedNamespaces::default(),
            format: None,
            queues,
            deletions: Vec::new(),
            doorbell_buffer: None,
            segments: Segments::default(),
            watch,
            started: Instant::now(),
            next_tick: None,
            quiet_ticks: 0,
            complaints: Allowance::new(Instant::now()),
            failures: Allowance::new(Instant::now()),
        };
        thread.reset_features();
        thread
    }

    /// Runs until the controller is torn down.
    pub(super) fn run(mut self) {
        crate::engine::block_all_signals();
        self.shared.engine.mailbox.attach();
        loop {
            let mail = self.shared.engine.mailbox.wait(self.deadline());
            if mail.contains(Mail::STOP) {
                return;
            }
            if mail.contains(Mail::GROW) {
                self.grow();
            }
            self.look_after_engine(mail.contains(Mail::WATCH));
            if mail.contains(Mail::RESIZE) {
                self.watch.ask_now();
            }
            self.step();
        }
    }

    /// Goes as far as can be gone now. Whatever is missing posts mail when it
    /// comes.
    fn step(&mut self) {
        self.finish_jobs();
        if self.shared.registers.take_disabled() {
            self.begin_reset();
        }
        if self.stage == Stage::Resetting && self.is_quiescent() {
            self.finish_reset();
        }
        if self.stage == Stage::Disabled && self.can_enable() {
            self.enable();
        }
        self.collect_reports();
        if self.stage != Stage::Resetting && self.shared.registers.take_edge(Edges::SHUTDOWN) {
            self.begin_shutdown();
        }
        self.advance_shutdown();
        if self.stage == Stage::Ready {
            self.advance_format();
            self.watch_size();
            self.finish_deletions();
            self.events.deliver(&self.shared.engine);
            self.serve_admin_queue();
            // A Keep Alive may have come while this thread had no CPU.
            self.check_keep_alive();
        }
    }

    /// Looks after what the engine has put off, if it is time.
    fn look_after_engine(&mut self, asked: bool) {
        let engine = &self.shared.engine;
        let now = Instant::now();
        let goes_on = match self.next_tick {
            Some(tick) if tick > now => return,
            Some(_) => engine.tick(&mut self.quiet_ticks),
            None if asked => {
                engine.begin_watch();
                true
            }
            None => false,
        };
        self.next_tick = goes_on.then(|| now.checked_add(engine.tick_time())).flatten();
    }

    /// When the thread has to look though nobody posts mail.
    fn deadline(&self) -> Option<Instant> {
        let deadlines = [self.features.keep_alive.deadline(), self.size_deadline()];
        let of_guest = deadlines.into_iter().filter(|_| self.is_serving());
        of_guest.chain([self.next_tick]).flatten().min()
    }

    /// Whether the guest may expect answers.
    pub(super) fn is_serving(&self) -> bool {
        self.stage == Stage::Ready
            && self.shutdown == Shutdown::None
            && !self.shared.registers.status().contains(ControllerStatus::FATAL)
    }

    /// Whether `life` is the one that the guest still lives in.
    pub(super) fn is_living(&self, life: u64) -> bool {
        life == self.life && self.stage != Stage::Resetting
    }

    /// A guest that has gone silent, though it promised not to, gets no more
    /// service until it resets the controller (section 3.9 of revision 2.0).
    fn check_keep_alive(&mut self) {
        if !self.is_serving() || !self.features.keep_alive.is_over() {
            return;
        }
        self.complain("the Keep Alive Timer has expired");
        self.errors.add_controller(Status::KEEP_ALIVE_EXPIRED);
        for (_, sq) in self.shared.engine.submission_queues() {
            sq.close();
        }
        self.shared.engine.drop_closed_parts();
        self.events.reset();
        let status = self.shared.registers.status();
        self.shared.registers.set_status(status | ControllerStatus::FATAL);
    }

    fn can_enable(&self) -> bool {
        self.shared.registers.configuration().enabled()
            && !self.shared.registers.status().contains(ControllerStatus::FATAL)
    }

    fn enable(&mut self) {
        if let Err(reason) = self.open_admin_queues() {
            self.complain(&format!("cannot be enabled: {reason}"));
            let status = self.shared.registers.status();
            self.shared.registers.set_status(status | ControllerStatus::FATAL);
            return;
        }
        // Doorbells rung while there was no controller are nobody's errors.
        for error in [DoorbellError::NoQueue, DoorbellError::Value] {
            self.shared.take_bad_doorbell(error);
        }
        self.stage = Stage::Ready;
        // A shutdown that was asked for while disabled is over.
        self.shutdown = Shutdown::None;
        // A guest that has disabled it meanwhile is not shown RDY at all: the
        // reset comes next, and until then nothing is fetched.
        if !self.shared.registers.has_edge(Edges::DISABLED) {
            self.shared.registers.set_status(ControllerStatus::READY);
        }
    }

    fn open_admin_queues(&mut self) -> Result<(), String> {
        let shared = &self.shared;
        let configuration = shared.registers.configuration();
        if configuration.command_set() != 0 {
            return Err(format!("CC.CSS is {}, not 0", configuration.command_set()));
        }
        if configuration.page_size() != 0 {
            return Err(format!("CC.MPS is {}, not 0", configuration.page_size()));
        }
        if configuration.arbitration() != 0 {
            return Err(format!("CC.AMS is {}, not 0", configuration.arbitration()));
        }
        let AdminQueues { attributes, sq: sq_address, cq: cq_address } =
            shared.registers.admin_queues();
        let sq_size = u32::from(attributes.sq_size_z()).saturating_add(1);
        let cq_size = u32::from(attributes.cq_size_z()).saturating_add(1);
        if sq_size < 2 || cq_size < 2 {
            return Err(format!("AQA is {:#x}: a queue has less than 2 entries", attributes.0));
        }
        let sq_memory = shared
            .host
            .map(sq_address, SubmissionQueue::bytes(sq_size))
            .ok_or_else(|| format!("ASQ {sq_address:#x} is not memory"))?;
        let cq_memory = shared
            .host
            .map(cq_address, CompletionQueue::bytes(cq_size))
            .ok_or_else(|| format!("ACQ {cq_address:#x} is not memory"))?;
        let (Some(sq), Some(cq)) = (shared.engine.sq(0), shared.engine.cq(0)) else {
            return Err("there is no admin queue".to_owned());
        };
        cq.open(cq_memory, CompletionParameters { size: cq_size, vector: Some(0) });
        sq.open(sq_memory, SubmissionParameters { size: sq_size, cq_id: 0 });
        Ok(())
    }

    /// Nothing more is fetched, and nothing more is posted.
    fn begin_reset(&mut self) {
        // A shutdown asked for before is over with the old life.
        self.shared.registers.take_edge(Edges::SHUTDOWN);
        // First, or a worker that finds its queue closed tells the guest that
        // the queue was deleted.
        for (_, cq) in self.shared.engine.completion_queues() {
            cq.close();
        }
        for (_, sq) in self.shared.engine.submission_queues() {
            sq.close();
        }
        self.shared.engine.drop_closed_parts();
        self.stage = Stage::Resetting;
        self.cancel_format();
    }

    fn is_quiescent(&self) -> bool {
        // No more jobs end after a panic, and none is begun.
        (self.format.is_none() || self.shared.engine.fault.tripped())
            && self.shared.engine.submission_queues().all(|(_, sq)| sq.is_idle())
    }

    /// All state returns to what it was at the start, but for what outlives a
    /// reset. Every field is named, so that a new one cannot be forgotten.
    fn finish_reset(&mut self) {
        let ControllerThread {
            shared,
            stage,
            shutdown,
            life,
            features: _, // by reset_features
            events,
            errors: _,  // lasts
            changed: _, // lasts
            format,
            queues,
            deletions,
            doorbell_buffer,
            segments: _,    // filled anew by every use
            watch: _,       // lasts: the store does
            started: _,     // lasts
            next_tick: _,   // goes by the engine's need
            quiet_ticks: _, // as well
            complaints: _,  // last: a guest can reset as often as it likes
            failures: _,    // last
        } = self;
        *stage = Stage::Disabled;
        *shutdown = Shutdown::None;
        *life = life.wrapping_add(1);
        events.reset();
        *format = None;
        queues.clear();
        deletions.clear();
        *doorbell_buffer = None;
        shared.forget_shadows();
        shared.engine.interrupts.forget();
        shared.registers.clear_interrupt_mask();
        self.reset_features();
        // Last: from here on the guest takes its memory back.
        self.shared.registers.set_status(ControllerStatus::empty());
    }

    /// The guest is about to stop: finish what runs, then make all durable.
    fn begin_shutdown(&mut self) {
        let status = self.shared.registers.status().difference(ControllerStatus::SHUTDOWN_COMPLETE);
        self.shared.registers.set_status(status | ControllerStatus::SHUTDOWN_PROCESSING);
        self.cancel_format();
        for (id, sq) in self.shared.engine.submission_queues() {
            if id != 0 {
                sq.close();
            }
        }
        self.shared.engine.drop_closed_parts();
        self.shutdown = Shutdown::Draining;
    }

    fn advance_shutdown(&mut self) {
        if self.shutdown == Shutdown::Draining
            && self.format.is_none()
            && self.shared.engine.is_idle()
        {
            self.shutdown = Shutdown::Flushing;
            self.in_background(Purpose::Shutdown, Nvm::flush_store);
        }
    }

    /// All is durable, or as much as the store could make.
    pub(super) fn flushed_for_shutdown(&mut self) {
        if self.shutdown != Shutdown::Flushing {
            return;
        }
        self.shutdown = Shutdown::Complete;
        // Linux frees the pages now, and resets nothing.
        self.doorbell_buffer = None;
        self.shared.forget_shadows();
        let status =
            self.shared.registers.status().difference(ControllerStatus::SHUTDOWN_PROCESSING);
        self.shared.registers.set_status(status | ControllerStatus::SHUTDOWN_COMPLETE);
    }

    /// Takes errors that other threads met: into the log, and to the guest.
    pub(super) fn collect_reports(&mut self) {
        let (reports, lost) = self.shared.engine.executor().reports.take();
        self.errors.skip(lost);
        for report in reports {
            self.errors.add(report);
        }
        if let Some(queue) = self.shared.engine.take_misrung() {
            self.shared.report_doorbell(queue, DoorbellError::Value);
        }
        for (error, event) in [
            (DoorbellError::NoQueue, Event::INVALID_DOORBELL_REGISTER),
            (DoorbellError::Value, Event::INVALID_DOORBELL_VALUE),
        ] {
            // With a reset on its way the guest may have rung after it.
            if let Some(queue) = self.shared.take_bad_doorbell(error)
                && self.stage == Stage::Ready
                && !self.shared.registers.has_edge(Edges::DISABLED)
            {
                self.complain(&format!("bad doorbell of queue {queue}: {error:?}"));
                self.errors.add_doorbell(queue);
                self.events.post(event);
            }
        }
    }

    /// Logs what the guest does wrong.
    fn complain(&mut self, what: &str) {
        if self.complaints.take(Instant::now()) {
            log::warn!("nvme {}: guest: {what}", self.shared.settings.name);
        }
    }

    /// Logs what the host has failed at.
    pub(super) fn fail(&mut self, what: &str) {
        if self.failures.take(Instant::now()) {
            log::error!("nvme {}: {what}", self.shared.settings.name);
        }
    }

    /// Makes the worker that the pool has asked for.
    fn grow(&mut self) {
        let shared = self.shared.clone();
        let name = format!("nvme-{}-io", shared.settings.name);
        let spawned = std::thread::Builder::new().name(name).spawn(move || {
            let engine = &shared.engine;
            engine.fault.guard("worker", || Engine::work(engine));
        });
        if let Err(error) = spawned {
            self.fail(&format!("cannot make a thread: {error}"));
            self.shared.engine.growing_failed();
        }
    }
}
