// SPDX-License-Identifier: BSD-2-Clause

//! A controller without the C ABI, over whatever store and host a test brings.
//! Its queues are polled: it has no MSI-X capability, and counts what it
//! raises.

mod gate;
mod notices;

pub use gate::{Gate, GateHandle, Op};
pub use notices::Notices;

use crate::bhyve::{Interrupts, Machine};
use crate::driver::Function;
use bhyve_nvme::backend::Backend;
use bhyve_nvme::controller::{Controller, Identity, Settings, Statistics};
use bhyve_nvme::host::Host;
use bhyve_nvme::memory::Segment;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A controller, as a PCI function that is nothing but BAR 0.
pub struct Bare {
    controller: Controller,
    machine: Arc<Machine>,
    raised: Arc<AtomicU64>,
}

/// Guest memory of a [`Machine`], and vectors that are always deliverable.
struct BareHost {
    machine: Arc<Machine>,
    raised: Arc<AtomicU64>,
    /// Mapping this address panics.
    poisoned: Option<u64>,
}

impl Host for BareHost {
    fn map(&self, address: u64, len: usize) -> Option<Segment> {
        assert_ne!(Some(address), self.poisoned, "mapped what the test forbids");
        let base = self.machine.pointer(address, len)?;
        // SAFETY: the machine's memory lives as long as the machine, which
        // this host holds; tests reach it by raw copies only.
        Some(unsafe { Segment::new(base, len) })
    }

    fn msix_deliverable(&self, _vector: u16) -> bool {
        true
    }

    fn msix_raise(&self, _vector: u16) {
        self.raised.fetch_add(1, Ordering::SeqCst);
    }

    fn msix_table_write(&self, _offset: u64, _size: usize, _value: u64) {
        panic!("the test's host has no MSI-X table");
    }

    fn msix_table_read(&self, _offset: u64, _size: usize) -> u64 {
        u64::MAX
    }
}

/// Settings for tests: 4 queue pairs of up to 1024 entries, 8 slots, blocks of
/// 512 bytes, with Dataset Management and SGLs.
pub fn settings() -> Settings {
    Settings {
        name: "4:0".to_owned(),
        queue_pairs: 4,
        queue_entries: 1024,
        io_slots: 8,
        block_size: 512,
        inline: false,
        dsm: true,
        sgl: true,
        dbbuf: true,
        spin: Duration::ZERO,
        identity: Identity {
            serial: *b"TEST                ",
            eui64: [0x58, 0x9c, 0xfc, 0x20, 0x44, 0xbf, 0, 1],
            subnqn: "nqn.2013-12.org.freebsd:bhyve-test-0-4-0".to_owned(),
            global_ids: true,
        },
    }
}

impl Bare {
    /// A controller over `store` in `machine`.
    pub fn new(machine: &Arc<Machine>, settings: Settings, store: Arc<dyn Backend>) -> Arc<Bare> {
        Bare::with_poison(machine, settings, store, None)
    }

    /// As [`Bare::new`], with a guest address whose mapping panics.
    pub fn with_poison(
        machine: &Arc<Machine>,
        settings: Settings,
        store: Arc<dyn Backend>,
        poisoned: Option<u64>,
    ) -> Arc<Bare> {
        let raised = Arc::new(AtomicU64::new(0));
        let host = BareHost { machine: machine.clone(), raised: raised.clone(), poisoned };
        let controller = Controller::new(settings, Arc::new(host), store).expect("a controller");
        Arc::new(Bare { controller, machine: machine.clone(), raised })
    }

    /// The controller itself.
    pub fn controller(&self) -> &Controller {
        &self.controller
    }

    /// What it has counted.
    pub fn statistics(&self) -> Statistics {
        self.controller.statistics()
    }

    /// Interrupts raised.
    pub fn raised(&self) -> u64 {
        self.raised.load(Ordering::SeqCst)
    }
}

impl Function for Bare {
    fn bar_read(&self, bar: usize, offset: u64, size: usize) -> u64 {
        match bar {
            0 => self.controller.read(offset, size),
            _ => self.controller.read_msix_table(offset, size),
        }
    }

    fn bar_write(&self, bar: usize, offset: u64, size: usize, value: u64) {
        match bar {
            0 => self.controller.write(offset, size, value),
            _ => self.controller.write_msix_table(offset, size, value),
        }
    }

    fn cfg_read(&self, _offset: usize, _bytes: usize) -> u32 {
        0
    }

    fn cfg_write(&self, _offset: usize, _bytes: usize, _value: u32) {}

    fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    fn interrupts(&self, vectors: usize) -> (u64, Arc<Interrupts>) {
        self.machine.interrupts(vectors)
    }
}
