// SPDX-License-Identifier: BSD-2-Clause

//! The registers of BAR0, as vCPUs read and write them.
//!
//! A vCPU only stores, and records edges: that CC.EN fell, that CC.SHN was
//! set. Edges stick until the controller thread takes them, so that a guest
//! that toggles CC.EN faster than the thread runs still gets its reset.

use crate::engine::Fault;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::wire::register::{
    AdminQueueAttributes, Configuration, ControllerStatus, READY_TIMEOUTS, VERSION, capabilities,
    offset,
};
use bitflags::bitflags;
use std::sync::Arc;

bitflags! {
    /// What happened to CC since the controller thread looked last.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Edges: u32 {
        /// EN went from 1 to 0, or the function was reset.
        const DISABLED = 1 << 0;
        /// SHN was set.
        const SHUTDOWN = 1 << 1;
    }
}

pub(super) struct Registers {
    capabilities: u64,
    interrupt_mask: AtomicU32,
    configuration: AtomicU32,
    status: AtomicU32,
    admin_attributes: AtomicU32,
    admin_sq: AtomicU64,
    admin_cq: AtomicU64,
    edges: AtomicU32,
    fault: Arc<Fault>,
}

/// Where the admin queues are and how many entries they have.
#[derive(Clone, Copy, Debug)]
pub(super) struct AdminQueues {
    pub(super) attributes: AdminQueueAttributes,
    pub(super) sq: u64,
    pub(super) cq: u64,
}

impl Registers {
    pub(super) fn new(queue_entries: u32, fault: Arc<Fault>) -> Registers {
        let mqes_z = u16::try_from(queue_entries.saturating_sub(1)).unwrap_or(u16::MAX);
        Registers {
            capabilities: capabilities(mqes_z),
            interrupt_mask: AtomicU32::new(0),
            configuration: AtomicU32::new(0),
            status: AtomicU32::new(0),
            admin_attributes: AtomicU32::new(0),
            admin_sq: AtomicU64::new(0),
            admin_cq: AtomicU64::new(0),
            edges: AtomicU32::new(0),
            fault,
        }
    }

    pub(super) fn configuration(&self) -> Configuration {
        Configuration(self.configuration.load(Ordering::SeqCst))
    }

    pub(super) fn status(&self) -> ControllerStatus {
        let status = ControllerStatus::from_bits_truncate(self.status.load(Ordering::SeqCst));
        if self.fault.tripped() { status | ControllerStatus::FATAL } else { status }
    }

    /// The status as a vCPU reads it. A controller that could not be enabled
    /// has RDY 0 already when the guest disables it: one that then enables it
    /// at once, and watches for RDY or CFS, must not see the failure of before.
    fn shown_status(&self) -> ControllerStatus {
        // First, for it is taken after the status it hides.
        let disabled = self.has_edge(Edges::DISABLED);
        let status = self.status();
        let stale = disabled && !status.contains(ControllerStatus::READY);
        if stale && !self.fault.tripped() {
            return status.difference(ControllerStatus::FATAL);
        }
        status
    }

    /// Takes the edge of a fall of EN, and with it the failure to enable that
    /// it ends.
    pub(super) fn take_disabled(&self) -> bool {
        if !self.has_edge(Edges::DISABLED) {
            return false;
        }
        let status = self.status();
        if !status.contains(ControllerStatus::READY) {
            self.set_status(status.difference(ControllerStatus::FATAL));
        }
        self.take_edge(Edges::DISABLED)
    }

    /// Only the controller thread sets the status.
    pub(super) fn set_status(&self, status: ControllerStatus) {
        self.status.store(status.bits(), Ordering::SeqCst);
    }

    pub(super) fn admin_queues(&self) -> AdminQueues {
        AdminQueues {
            attributes: AdminQueueAttributes(self.admin_attributes.load(Ordering::SeqCst)),
            sq: self.admin_sq.load(Ordering::SeqCst),
            cq: self.admin_cq.load(Ordering::SeqCst),
        }
    }

    /// Takes the edge `edge` if it was recorded.
    pub(super) fn take_edge(&self, edge: Edges) -> bool {
        self.edges.fetch_and(!edge.bits(), Ordering::SeqCst) & edge.bits() != 0
    }

    /// Whether there is one of `edges` to take.
    pub(super) fn has_edge(&self, edges: Edges) -> bool {
        self.edges.load(Ordering::SeqCst) & edges.bits() != 0
    }

    /// A controller reset clears this register; the admin queue's stay.
    pub(super) fn clear_interrupt_mask(&self) {
        self.interrupt_mask.store(0, Ordering::SeqCst);
    }

    /// A function level reset: all registers return to what they were at the
    /// start. The controller thread does the rest.
    pub(super) fn reset_function(&self) {
        let Registers {
            capabilities: _,
            interrupt_mask,
            configuration,
            status: _, // follows when the controller is quiescent
            admin_attributes,
            admin_sq,
            admin_cq,
            edges,
            fault: _,
        } = self;
        configuration.store(0, Ordering::SeqCst);
        edges.fetch_or(Edges::DISABLED.bits(), Ordering::SeqCst);
        interrupt_mask.store(0, Ordering::SeqCst);
        admin_attributes.store(0, Ordering::SeqCst);
        admin_sq.store(0, Ordering::SeqCst);
        admin_cq.store(0, Ordering::SeqCst);
    }

    /// The 32 bits at `at`, a multiple of 4. Reserved registers read as zero,
    /// and so do doorbells.
    fn load(&self, at: u64) -> u32 {
        match at {
            offset::CAP => low(self.capabilities),
            CAP_HIGH => high(self.capabilities),
            offset::VS => VERSION,
            offset::INTMS | offset::INTMC => self.interrupt_mask.load(Ordering::SeqCst),
            offset::CC => self.configuration.load(Ordering::SeqCst),
            offset::CSTS => self.shown_status().bits(),
            offset::AQA => self.admin_attributes.load(Ordering::SeqCst),
            offset::ASQ => low(self.admin_sq.load(Ordering::SeqCst)),
            ASQ_HIGH => high(self.admin_sq.load(Ordering::SeqCst)),
            offset::ACQ => low(self.admin_cq.load(Ordering::SeqCst)),
            ACQ_HIGH => high(self.admin_cq.load(Ordering::SeqCst)),
            offset::CRTO => READY_TIMEOUTS,
            _ => 0,
        }
    }

    /// A vCPU's read of `size` bytes at `at`: 1, 2, 4 or 8, wherever they lie.
    pub(super) fn read(&self, at: u64, size: usize) -> u64 {
        let first = at & !3;
        let shift = u32::try_from(at & 3).unwrap_or(0).wrapping_mul(8);
        let mut value = u128::from(self.load(first));
        for index in 1..=2u64 {
            // Only what the access touches is loaded.
            if at & 3 > 0 || size > 4 {
                let next = first.wrapping_add(index.wrapping_mul(4));
                let bits = u32::try_from(index).unwrap_or(0).wrapping_mul(32);
                value |= u128::from(self.load(next)).checked_shl(bits).unwrap_or(0);
            }
        }
        let value = (value >> shift) as u64;
        match size {
            1 => value & 0xff,
            2 => value & 0xffff,
            4 => value & 0xffff_ffff,
            8 => value,
            _ => 0,
        }
    }

    /// A vCPU's write of 32 bits at `at`, a multiple of 4 below the doorbells.
    /// Returns whether the controller thread has to look.
    pub(super) fn write(&self, at: u64, value: u32) -> bool {
        match at {
            offset::INTMS => {
                self.interrupt_mask.fetch_or(value, Ordering::SeqCst);
            }
            offset::INTMC => {
                self.interrupt_mask.fetch_and(!value, Ordering::SeqCst);
            }
            offset::CC => return self.configure(Configuration(value & Configuration::MASK)),
            // The queues are in use while EN is 1. Windows Server 2025 reads
            // these registers back then and expects what it wrote.
            _ if self.configuration().enabled() => {}
            offset::AQA => {
                self.admin_attributes.store(value & AdminQueueAttributes::MASK, Ordering::SeqCst);
            }
            offset::ASQ => set_low(&self.admin_sq, value),
            ASQ_HIGH => set_high(&self.admin_sq, value),
            offset::ACQ => set_low(&self.admin_cq, value),
            ACQ_HIGH => set_high(&self.admin_cq, value),
            _ => {}
        }
        false
    }

    fn configure(&self, new: Configuration) -> bool {
        let old = Configuration(self.configuration.swap(new.0, Ordering::SeqCst));
        let mut edges = Edges::empty();
        edges.set(Edges::DISABLED, old.enabled() && !new.enabled());
        edges.set(Edges::SHUTDOWN, new.shutdown() != 0 && new.shutdown() != old.shutdown());
        self.edges.fetch_or(edges.bits(), Ordering::SeqCst);
        !edges.is_empty() || old.enabled() != new.enabled()
    }
}

const CAP_HIGH: u64 = offset::CAP + 4;
const ASQ_HIGH: u64 = offset::ASQ + 4;
const ACQ_HIGH: u64 = offset::ACQ + 4;

/// The bits of a queue's base address that are not reserved.
const ADDRESS_LOW: u64 = 0xffff_f000;

fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

fn high(value: u64) -> u32 {
    (value >> 32) as u32
}

fn set_low(register: &AtomicU64, value: u32) {
    // The halves are written one after the other by one vCPU; two that race
    // for it leave one of the two values in each half.
    let _ = register.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
        Some(now & !0xffff_ffff | u64::from(value) & ADDRESS_LOW)
    });
}

fn set_high(register: &AtomicU64, value: u32) {
    let _ = register.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
        Some(now & 0xffff_ffff | u64::from(value) << 32)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers() -> Registers {
        Registers::new(2048, Arc::new(Fault::new("test")))
    }

    #[test]
    fn every_width_reads_what_it_covers() {
        let registers = registers();
        let cap = capabilities(2047);
        assert_eq!(registers.read(0, 8), cap);
        assert_eq!(registers.read(0, 4), cap & 0xffff_ffff);
        assert_eq!(registers.read(4, 4), cap >> 32);
        assert_eq!(registers.read(0, 2), 2047);
        assert_eq!(registers.read(2, 4), cap >> 16 & 0xffff_ffff);
        assert_eq!(registers.read(3, 1), cap >> 24 & 0xff);
        assert_eq!(registers.read(2, 8), cap >> 16 | u64::from(VERSION) << 48);
        assert_eq!(registers.read(0x3ffc, 8), 0);
        assert_eq!(registers.read(0, 3), 0);
    }

    #[test]
    fn a_fall_of_en_sticks_though_it_rises_again() {
        let registers = registers();
        assert!(registers.write(offset::CC, 1));
        assert!(!registers.has_edge(Edges::all()));
        assert!(registers.write(offset::CC, 0));
        assert!(registers.write(offset::CC, 1));
        assert!(registers.configuration().enabled());
        assert!(registers.take_edge(Edges::DISABLED));
        assert!(!registers.take_edge(Edges::DISABLED));
    }

    /// A guest that polls for RDY or CFS right after it has enabled the
    /// controller once more would take the old failure for the new one's.
    #[test]
    fn a_failure_to_enable_ends_with_the_write_that_disables() {
        let registers = registers();
        registers.write(offset::CC, 1);
        registers.set_status(ControllerStatus::FATAL);
        assert_eq!(registers.read(offset::CSTS, 4), 2);
        for cc in [0, 1] {
            registers.write(offset::CC, cc);
            assert_eq!(registers.read(offset::CSTS, 4), 0, "CC.EN {cc}");
        }
        assert!(registers.take_disabled());
        assert_eq!(registers.read(offset::CSTS, 4), 0);
        assert!(!registers.take_disabled());
        registers.set_status(ControllerStatus::FATAL);
        assert_eq!(registers.read(offset::CSTS, 4), 2, "the new one's failure");
    }

    /// What was ready falls with RDY, when the reset is done.
    #[test]
    fn a_fatal_status_of_a_ready_controller_stays_until_the_reset_is_done() {
        let registers = registers();
        registers.write(offset::CC, 1);
        registers.set_status(ControllerStatus::READY | ControllerStatus::FATAL);
        registers.write(offset::CC, 0);
        assert_eq!(registers.read(offset::CSTS, 4), 3);
        assert!(registers.take_disabled());
        assert_eq!(registers.read(offset::CSTS, 4), 3);
    }

    #[test]
    fn a_shutdown_is_an_edge_once() {
        let registers = registers();
        registers.write(offset::CC, 1);
        assert!(registers.write(offset::CC, 1 | 1 << 14));
        assert!(registers.take_edge(Edges::SHUTDOWN));
        assert!(!registers.write(offset::CC, 1 | 1 << 14));
        assert!(!registers.take_edge(Edges::SHUTDOWN));
    }

    #[test]
    fn the_ready_timeouts_agree_and_ready_means_with_media() {
        let registers = registers();
        let cap = registers.read(offset::CAP, 8);
        assert_eq!(cap >> 59 & 3, 1, "CRMS: with media, and no other way");
        assert_eq!(registers.read(offset::CRTO, 4) & 0xffff, cap >> 24 & 0xff);
        assert_eq!(registers.read(offset::VS, 4), 0x0002_0000);
        // CRIME belongs to the other way, and what is reserved stays clear.
        registers.write(offset::CC, 0xffff_fffe);
        assert_eq!(registers.read(offset::CC, 4), 0x00ff_fff0);
    }

    /// Windows Server 2025 and Windows 11 24H2 read the admin queue registers
    /// back while the controller is enabled and give up on zeroes.
    #[test]
    fn admin_queue_registers_read_back_while_enabled_and_hold() {
        let registers = registers();
        registers.write(offset::AQA, 0x00ff_f0ff);
        registers.write(offset::ASQ, 0x1234_5678);
        registers.write(ASQ_HIGH, 9);
        registers.write(offset::ACQ, 0x8765_4000);
        registers.write(offset::CC, 1);
        registers.write(offset::AQA, 0);
        registers.write(offset::ASQ, 0);
        assert_eq!(registers.read(offset::AQA, 4), 0x00ff_00ff);
        assert_eq!(registers.read(offset::ASQ, 8), 9 << 32 | 0x1234_5000);
        assert_eq!(registers.read(offset::ACQ, 8), 0x8765_4000);
    }

    #[test]
    fn read_only_and_reserved_registers_take_nothing() {
        let registers = registers();
        for at in (0..0x1000).step_by(4) {
            if ![offset::CC, offset::INTMS, offset::INTMC, offset::AQA].contains(&at)
                && !(offset::ASQ..offset::ACQ + 8).contains(&at)
            {
                let before = registers.read(at, 4);
                assert!(!registers.write(at, u32::MAX), "{at:#x}");
                assert_eq!(registers.read(at, 4), before, "{at:#x}");
            }
        }
    }

    #[test]
    fn a_panic_shows_as_fatal_status() {
        let fault = Arc::new(Fault::new("test"));
        let registers = Registers::new(2, fault.clone());
        registers.set_status(ControllerStatus::READY);
        assert!(fault.guard("test", || panic!("on purpose")).is_none());
        assert_eq!(registers.status(), ControllerStatus::READY | ControllerStatus::FATAL);
        registers.set_status(ControllerStatus::empty());
        registers.write(offset::CC, 1);
        registers.write(offset::CC, 0);
        assert_eq!(registers.read(offset::CSTS, 4), 2, "no reset cures it");
        assert!(registers.take_disabled());
        assert_eq!(registers.read(offset::CSTS, 4), 2);
    }
}
