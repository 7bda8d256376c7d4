// SPDX-License-Identifier: BSD-2-Clause

//! The controller: registers, the enable, reset and shutdown machine, and the
//! admin commands.
//!
//! * [`registers`]: BAR0 as vCPUs see it.
//! * [`thread`]: the controller thread and its machine.
//! * [`admin`]: the admin queue; a file per family of commands beside it.
//! * [`shared`]: what the threads share.
//!
//! The admin queue has a thread of its own, which never waits for the store or
//! for a guest: so none of its commands holds up the I/O of another queue, but
//! for Format NVM, during which I/O is answered with Format in Progress. At
//! most, a command costs:
//!
//! | command | what it does |
//! | --- | --- |
//! | Identify | 4 KiB written |
//! | Get Log Page | a page of 4 KiB at most made, 2 MiB (MDTS) written |
//! | Get Features, Set Features | 512 bytes moved; for Volatile Write Cache off, a flush by a worker |
//! | Abort | the 65535 identifiers that wait in a queue looked at, under its claim |
//! | Create I/O Queue | one mapping |
//! | Delete I/O Submission Queue | ends with what was fetched from the queue |
//! | Format NVM | what was fetched from all queues ends; the namespace, erased by a worker in pieces of 8 MiB |
//! | Asynchronous Event Request | held until there is an event |

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

mod admin;
mod allowance;
mod doorbell_buffer;
mod events;
mod features;
mod format;
mod identify;
mod jobs;
mod logs;
mod queues;
mod registers;
mod resize;
mod settings;
mod shared;
mod thread;

pub use settings::{Identity, Settings};

use crate::backend::Backend;
use crate::engine::{Engine, Fault, Inline, Limits, MAX_WORKERS, Mail, Mailbox};
use crate::host::Host;
use crate::nvm::{Nvm, Offers};
use crate::queue::Interrupts;
use crate::wire::register::{BAR_SIZE, ControllerStatus, offset};
use registers::{Edges, Registers};
use shared::Shared;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thread::ControllerThread;

/// The most I/O queue pairs a controller can have.
pub const MAX_QUEUE_PAIRS: u16 = 64;

/// The longest time for which a worker looks for work before it sleeps.
pub const MAX_SPIN: Duration = Duration::from_micros(1000);

/// The most commands a controller can have in its backend at once.
pub const MAX_IO_SLOTS: u16 = MAX_WORKERS;

/// What a controller has done so far, for tests and benchmarks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Read and Write commands that succeeded.
    pub commands: u64,
    /// Interrupts handed to the host.
    pub interrupts: u64,
    /// The most commands that were in the backend at once, but for those that a
    /// vCPU executes itself over a store that never waits.
    pub peak_in_backend: u32,
    /// Worker threads made.
    pub workers: u32,
}

/// One NVMe controller with its threads.
///
/// Dropping it ends its threads as soon as they are idle; nothing is flushed
/// by that, and nothing needs to be: a hypervisor may exit at any time.
pub struct Controller {
    shared: Arc<Shared>,
}

impl Controller {
    /// Makes a controller for `backend`, whose size becomes the namespace's.
    ///
    /// # Errors
    /// When a setting is out of its range, or a thread cannot be made.
    pub fn new(
        settings: Settings,
        host: Arc<dyn Host>,
        backend: Arc<dyn Backend>,
    ) -> io::Result<Controller> {
        let invalid = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        if !(1..=MAX_QUEUE_PAIRS).contains(&settings.queue_pairs) {
            return invalid("queue_pairs must be from 1 to 64");
        }
        if !(2..=65536).contains(&settings.queue_entries) {
            return invalid("queue_entries must be from 2 to 65536");
        }
        if !(1..=MAX_IO_SLOTS).contains(&settings.io_slots) {
            return invalid("io_slots must be from 1 to 256");
        }
        if !matches!(settings.block_size, 512 | 4096 | 8192) {
            return invalid("block_size must be 512, 4096 or 8192");
        }
        if settings.spin > MAX_SPIN {
            return invalid("spin must be 1000 microseconds at most");
        }
        let limits = Limits {
            queue_pairs: settings.queue_pairs,
            slots: settings.io_slots,
            inline: match (backend.never_waits(), settings.inline) {
                (true, _) => Inline::NeverWaits,
                (false, true) => Inline::MayWait,
                (false, false) => Inline::Off,
            },
            spin: settings.spin,
            cpus: std::thread::available_parallelism()
                .map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
        };
        let fault = Arc::new(Fault::new(&settings.name));
        let mailbox = Arc::new(Mailbox::new());
        let vectors = settings.queue_pairs.saturating_add(1);
        // vCPUs that execute commands without a slot come on top.
        let vcpus = if backend.never_waits() { limits.cpus as usize } else { 0 };
        let reports = mailbox.clone();
        let nvm = Nvm::new(
            host.clone(),
            backend,
            Offers { dsm: settings.dsm, sgl: settings.sgl },
            settings.block_size.trailing_zeros(),
            usize::from(vectors),
            usize::from(settings.io_slots).saturating_add(vcpus),
            Box::new(move || reports.post(Mail::REPORTS)),
        );
        let interrupts = Interrupts::new(host.clone(), vectors);
        let registers = Registers::new(settings.queue_entries, fault.clone());
        let engine = Engine::new(limits, nvm, interrupts, mailbox, fault);
        let shared = Arc::new(Shared::new(settings, registers, engine, host));
        let thread = ControllerThread::new(shared.clone());
        if let Some(events) = shared.engine.executor().backend().size_events() {
            let (guard, mailbox) = (shared.engine.fault.clone(), shared.engine.mailbox.clone());
            let name = format!("nvme-{}-size", shared.settings.name);
            std::thread::Builder::new().name(name).spawn(move || {
                guard.guard("size", || resize::pass_on(&*events, &mailbox));
            })?;
        }
        let guard = shared.engine.fault.clone();
        std::thread::Builder::new().name(format!("nvme-{}", shared.settings.name)).spawn(
            move || {
                guard.guard("controller", || thread.run());
            },
        )?;
        Ok(Controller { shared })
    }

    /// MSI-X vectors of the controller: one per I/O queue pair and one for the
    /// admin queue.
    pub fn vectors(settings: &Settings) -> u16 {
        settings.queue_pairs.saturating_add(1)
    }

    /// A vCPU's write of `size` bytes (1, 2, 4 or 8) at `at` in BAR0. Never
    /// waits. What is not one aligned 32-bit or 64-bit access inside the BAR
    /// is dropped.
    pub fn write(&self, at: u64, size: usize, value: u64) {
        let fault = &self.shared.engine.fault;
        fault.guard("vCPU", || match size {
            4 => self.write32(at, (value & 0xffff_ffff) as u32),
            8 => {
                self.write32(at, (value & 0xffff_ffff) as u32);
                self.write32(at.wrapping_add(4), (value >> 32) as u32);
            }
            _ => {}
        });
    }

    fn write32(&self, at: u64, value: u32) {
        if at & 3 != 0 || at >= BAR_SIZE {
            return;
        }
        match at.checked_sub(offset::DOORBELLS) {
            None => {
                if self.shared.registers.write(at, value) {
                    self.shared.engine.mailbox.post(Mail::REGISTERS);
                }
            }
            Some(doorbell) => self.ring(doorbell, value),
        }
    }

    /// Doorbells come in pairs, four bytes each: tail of the submission queue,
    /// head of the completion queue.
    fn ring(&self, at: u64, value: u32) {
        let Ok(queue) = u16::try_from(at / 8) else { return };
        let engine = &self.shared.engine;
        let rung = if at & 4 == 0 {
            engine.ring_submission(queue, value)
        } else {
            engine.ring_completion(queue, value)
        };
        if let Err(error) = rung {
            self.shared.report_doorbell(queue, error);
        }
    }

    /// A vCPU's read of `size` bytes (1, 2, 4 or 8) at `at` in BAR0. Never
    /// waits. Reserved registers and doorbells read as zero.
    pub fn read(&self, at: u64, size: usize) -> u64 {
        let fault = &self.shared.engine.fault;
        fault.guard("vCPU", || self.shared.registers.read(at, size)).unwrap_or(0)
    }

    /// Carries out a vCPU's `change` of the MSI-X table or capability, and
    /// raises the interrupts that it unmasks.
    pub fn change_interrupts<R>(&self, change: impl FnOnce() -> R) -> Option<R> {
        let fault = &self.shared.engine.fault;
        fault.guard("vCPU", || self.shared.engine.interrupts.change(change))
    }

    /// A guest's write to the MSI-X table in BAR4.
    pub fn write_msix_table(&self, at: u64, size: usize, value: u64) {
        self.change_interrupts(|| self.shared.host.msix_table_write(at, size, value));
    }

    /// A guest's read of the MSI-X table in BAR4.
    pub fn read_msix_table(&self, at: u64, size: usize) -> u64 {
        let fault = &self.shared.engine.fault;
        fault.guard("vCPU", || self.shared.host.msix_table_read(at, size)).unwrap_or(u64::MAX)
    }

    /// The store may have changed its size: it is asked now rather than when it
    /// would be next. Returns at once; the namespace follows, and the guest is
    /// told if it wants to be.
    pub fn store_resized(&self) {
        self.shared.engine.mailbox.post(Mail::RESIZE);
    }

    /// A function level reset. Returns at once; [`Controller::is_quiescent`]
    /// says when it is done.
    pub fn reset_function(&self) {
        let fault = &self.shared.engine.fault;
        fault.guard("vCPU", || {
            self.shared.registers.reset_function();
            self.shared.engine.mailbox.post(Mail::REGISTERS);
        });
    }

    /// Whether the controller is disabled and nothing of it can reach guest
    /// memory.
    pub fn is_quiescent(&self) -> bool {
        !self.shared.registers.has_edge(Edges::DISABLED)
            && !self.shared.registers.configuration().enabled()
            && !self.shared.registers.status().contains(ControllerStatus::READY)
    }

    /// Whether a thread of the controller has panicked. It then reports
    /// CSTS.CFS for good.
    pub fn has_failed(&self) -> bool {
        self.shared.engine.fault.tripped()
    }

    /// Counters since the start.
    pub fn statistics(&self) -> Statistics {
        let engine = &self.shared.engine;
        let totals = engine.executor().totals();
        Statistics {
            commands: totals.reads.wrapping_add(totals.writes),
            interrupts: engine.interrupts.raised(),
            peak_in_backend: engine.peak_in_backend(),
            workers: engine.workers(),
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        if let Some(events) = self.shared.engine.executor().backend().size_events() {
            events.end();
        }
        self.shared.engine.stop();
        self.shared.engine.mailbox.post(Mail::STOP);
    }
}
