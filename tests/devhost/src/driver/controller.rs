// SPDX-License-Identifier: BSD-2-Clause

//! The controller's registers, and its life from enable to shutdown.

use super::error::Error;
use super::function::Function;
use super::memory::Memory;
use super::msix::Msix;
use super::pair::{Patience, QueuePair, Wait};
use super::queue::{CompletionQueue, SubmissionQueue};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Offsets of registers in BAR 0, and fields of theirs.
#[expect(missing_docs, reason = "the specification's own names")]
pub mod registers {
    pub const CAP: u64 = 0x00;
    pub const VS: u64 = 0x08;
    pub const INTMS: u64 = 0x0c;
    pub const INTMC: u64 = 0x10;
    pub const CC: u64 = 0x14;
    pub const CSTS: u64 = 0x1c;
    pub const NSSR: u64 = 0x20;
    pub const AQA: u64 = 0x24;
    pub const ASQ: u64 = 0x28;
    pub const ACQ: u64 = 0x30;
    pub const CRTO: u64 = 0x68;
    pub const DOORBELLS: u64 = 0x1000;

    pub const CC_EN: u32 = 1;
    pub const CC_SHN: u32 = 3 << 14;
    pub const CC_SHN_NORMAL: u32 = 1 << 14;
    pub const CC_SHN_ABRUPT: u32 = 2 << 14;
    pub const CSTS_RDY: u32 = 1;
    pub const CSTS_CFS: u32 = 2;
    pub const CSTS_SHST: u32 = 3 << 2;
    pub const CSTS_SHST_COMPLETE: u32 = 2 << 2;
}

use registers as reg;

/// How the controller is enabled.
#[derive(Clone, Copy, Debug)]
pub struct Enable {
    /// Entries of the admin submission queue, 2 to 4096.
    pub admin_sq: u32,
    /// Entries of the admin completion queue, 2 to 4096.
    pub admin_cq: u32,
    /// CC but for EN: 64-byte and 16-byte entries, NVM command set, 4 KiB.
    pub cc: u32,
    /// How the admin queue is waited for. Its vector is 0.
    pub wait: Wait,
}

impl Default for Enable {
    fn default() -> Enable {
        Enable { admin_sq: 32, admin_cq: 32, cc: 0x0046_0000, wait: Wait::Poll }
    }
}

/// A controller. Every method may be called from several threads at once.
pub struct Nvme {
    pub(super) function: Arc<dyn Function>,
    pub(super) memory: Arc<Memory>,
    msix: Option<Msix>,
    admin: Mutex<Option<Arc<QueuePair>>>,
    pub(super) limit: Duration,
}

impl Nvme {
    /// Lets the function decode memory and master the bus; the controller is
    /// left as it is. Steps wait for [`PATIENCE`](crate::PATIENCE) at most.
    pub fn new(function: Arc<dyn Function>, memory: &Arc<Memory>) -> Nvme {
        Nvme::with_limit(function, memory, crate::PATIENCE)
    }

    /// As [`Nvme::new`], with another limit for every wait.
    pub fn with_limit(function: Arc<dyn Function>, memory: &Arc<Memory>, limit: Duration) -> Nvme {
        let command = function.cfg_read(4, 2);
        function.cfg_write(4, 2, command | 6);
        let msix = Msix::new(&function);
        Nvme { function, memory: memory.clone(), msix, admin: Mutex::new(None), limit }
    }

    /// What it drives.
    pub fn function(&self) -> &Arc<dyn Function> {
        &self.function
    }

    /// Where its queues and buffers come from.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Its interrupts. Panics if it has none.
    pub fn msix(&self) -> &Msix {
        self.msix.as_ref().expect("an MSI-X capability")
    }

    pub(super) fn interrupts(&self) -> Option<Arc<crate::bhyve::Interrupts>> {
        self.msix.as_ref().map(|msix| msix.interrupts().clone())
    }

    /// Reads a 32-bit register.
    pub fn read32(&self, offset: u64) -> u32 {
        self.function.bar_read(0, offset, 4) as u32
    }

    /// Writes a 32-bit register.
    pub fn write32(&self, offset: u64, value: u32) {
        self.function.bar_write(0, offset, 4, u64::from(value));
    }

    /// Reads a 64-bit register, as one access of the guest's.
    pub fn read64(&self, offset: u64) -> u64 {
        self.function.bar_read(0, offset, 8)
    }

    /// Writes a 64-bit register, as one access of the guest's.
    pub fn write64(&self, offset: u64, value: u64) {
        self.function.bar_write(0, offset, 8, value);
    }

    /// Controller Status.
    pub fn csts(&self) -> u32 {
        self.read32(reg::CSTS)
    }

    /// Entries that a queue can have at most (CAP.MQES + 1).
    pub fn max_entries(&self) -> u32 {
        (self.read64(reg::CAP) & 0xffff) as u32 + 1
    }

    /// Offset in BAR 0 of the doorbell of submission queue `id`.
    pub fn sq_doorbell(&self, id: u16) -> u64 {
        let stride = 4 << (self.read64(reg::CAP) >> 32 & 0xf);
        reg::DOORBELLS + 2 * u64::from(id) * stride
    }

    /// Offset in BAR 0 of the doorbell of completion queue `id`.
    pub fn cq_doorbell(&self, id: u16) -> u64 {
        let stride = 4 << (self.read64(reg::CAP) >> 32 & 0xf);
        reg::DOORBELLS + (2 * u64::from(id) + 1) * stride
    }

    /// Waits until the bits `mask` of CSTS are `value`.
    pub fn wait_csts(&self, mask: u32, value: u32) -> Result<(), Error> {
        let mut patience = Patience::new(self.limit);
        while self.csts() & mask != value {
            if patience.is_over() {
                let what = format!("CSTS did not become {value:#x} (of the bits {mask:#x})");
                return Err(Error::Timeout(format!("{what}\n{}", self.describe())));
            }
            patience.pause();
        }
        Ok(())
    }

    /// Sets up an admin queue, enables, and waits until the controller is
    /// ready.
    pub fn enable(&self, with: &Enable) -> Result<Arc<QueuePair>, Error> {
        let sq = self.memory.alloc(SubmissionQueue::bytes(with.admin_sq))?;
        let cq = self.memory.alloc(CompletionQueue::bytes(with.admin_cq))?;
        self.write32(reg::AQA, (with.admin_cq - 1) << 16 | (with.admin_sq - 1));
        self.write64(reg::ASQ, sq.address());
        self.write64(reg::ACQ, cq.address());
        let (sq_bell, cq_bell) = (self.sq_doorbell(0), self.cq_doorbell(0));
        let sq = SubmissionQueue::new(&self.function, 0, with.admin_sq, sq, sq_bell);
        let cq = CompletionQueue::new(&self.function, 0, with.admin_cq, cq, cq_bell, Some(0));
        let admin =
            QueuePair::new(&self.function, self.interrupts(), sq, cq, with.wait, self.limit);
        let admin = Arc::new(admin);
        self.write32(reg::CC, with.cc | reg::CC_EN);
        self.wait_csts(reg::CSTS_RDY, reg::CSTS_RDY)?;
        *self.admin.lock().unwrap_or_else(PoisonError::into_inner) = Some(admin.clone());
        Ok(admin)
    }

    /// The admin queue. Panics before [`Nvme::enable`].
    pub fn admin(&self) -> Arc<QueuePair> {
        let admin = self.admin.lock().unwrap_or_else(PoisonError::into_inner);
        admin.clone().expect("the controller is enabled")
    }

    /// Clears CC.EN and waits until the controller is quiescent.
    pub fn disable(&self) -> Result<(), Error> {
        self.write32(reg::CC, self.read32(reg::CC) & !reg::CC_EN);
        self.wait_csts(reg::CSTS_RDY, 0)?;
        self.forget_admin();
        Ok(())
    }

    /// Shuts down, normally or abruptly, and waits until that is complete.
    pub fn shutdown(&self, abrupt: bool) -> Result<(), Error> {
        let how = if abrupt { reg::CC_SHN_ABRUPT } else { reg::CC_SHN_NORMAL };
        self.write32(reg::CC, self.read32(reg::CC) & !reg::CC_SHN | how);
        self.wait_csts(reg::CSTS_SHST, reg::CSTS_SHST_COMPLETE)
    }

    /// Initiates a function level reset and waits until the controller is
    /// quiescent. MSI-X has to be set up again.
    pub fn function_level_reset(&self) -> Result<(), Error> {
        let mut at = self.function.cfg_read(0x34, 1) as usize;
        while self.function.cfg_read(at, 1) != 0x10 {
            at = self.function.cfg_read(at + 1, 1) as usize;
            assert!(at >= 0x40, "no PCI Express capability");
        }
        let control = self.function.cfg_read(at + 8, 2);
        self.function.cfg_write(at + 8, 2, control | 1 << 15);
        self.wait_csts(reg::CSTS_RDY, 0)?;
        self.forget_admin();
        Ok(())
    }

    fn forget_admin(&self) {
        *self.admin.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// How the registers stand.
    pub fn describe(&self) -> String {
        describe(self.function.as_ref())
    }
}

/// How a controller's registers stand.
pub(super) fn describe(function: &dyn Function) -> String {
    let long = |offset| function.bar_read(0, offset, 8);
    let short = |offset| function.bar_read(0, offset, 4);
    format!(
        "  CAP {:#018x} VS {:#x} CC {:#x} CSTS {:#x} AQA {:#x} ASQ {:#x} ACQ {:#x}",
        long(reg::CAP),
        short(reg::VS),
        short(reg::CC),
        short(reg::CSTS),
        short(reg::AQA),
        long(reg::ASQ),
        long(reg::ACQ)
    )
}
