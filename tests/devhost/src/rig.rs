// SPDX-License-Identifier: BSD-2-Clause

//! A device of a `-s` option with a driver at it: what most tests begin with.

use crate::bhyve::{Device, Machine};
use crate::driver::{Data, Enable, Entry, Memory, Nvme, Prp, QueuePair, Wait, admin_opcode};
use crate::faults::{self, Faults};
pub use crate::temp::TempDir;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of guest memory.
pub const RAM: u64 = 16 << 20;

/// Bytes of the store.
pub const DISK: u64 = 16 << 20;

/// Bytes of a logical block.
pub const BLOCK: usize = 512;

/// What keeps the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// `ram=`.
    Ram,
    /// A regular file, all zero.
    File,
}

/// Both kinds of store, with one I/O slot and with the default.
pub const STORES: [(Store, &str); 4] =
    [(Store::Ram, ""), (Store::Ram, ",ioslots=1"), (Store::File, ""), (Store::File, ",ioslots=1")];

/// A running device in slot 4 of a machine of its own, with blocks of
/// [`BLOCK`] bytes, and a driver that polls unless a queue says otherwise.
pub struct Rig {
    /// What goes wrong with the store, if it was made to be faulty.
    pub faults: Faults,
    /// The driver.
    pub nvme: Nvme,
    /// Guest memory for queues and buffers.
    pub memory: Arc<Memory>,
    /// The device.
    pub device: Arc<Device>,
    /// The machine.
    pub machine: Arc<Machine>,
    dir: TempDir,
}

impl Rig {
    /// A device that is not enabled, over `store`, with more `options` (each
    /// after a comma).
    pub fn idle(store: Store, options: &str) -> Rig {
        Rig::build(store, options, false, &[(0, RAM)])
    }

    /// The same over a store that meets [`Rig::faults`]; none of them yet. In
    /// memory or not, its commands never run on a vCPU's thread.
    pub fn idle_faulty(store: Store, options: &str) -> Rig {
        Rig::build(store, options, true, &[(0, RAM)])
    }

    /// [`Rig::idle`], then MSI-X set up and the controller enabled.
    pub fn new(store: Store, options: &str) -> Rig {
        Rig::idle(store, options).start()
    }

    /// [`Rig::idle_faulty`], then MSI-X set up and the controller enabled.
    pub fn faulty(store: Store, options: &str) -> Rig {
        Rig::idle_faulty(store, options).start()
    }

    /// [`Rig::new`] in a machine whose memory is as `layout` says (address and
    /// length). Queues and buffers come from the first range.
    pub fn in_layout(store: Store, layout: &[(u64, u64)]) -> Rig {
        Rig::build(store, "", false, layout).start()
    }

    fn build(store: Store, options: &str, faulty: bool, layout: &[(u64, u64)]) -> Rig {
        let dir = TempDir::new("rig").expect("a temporary folder");
        let path = dir.path().join("disk");
        let keeper = match store {
            Store::Ram => format!("ram={}", DISK >> 20),
            Store::File => {
                let file = File::create(&path).expect("a file");
                file.set_len(DISK).expect("room for a file");
                path.display().to_string()
            }
        };
        let slot = format!("4,nvme,{keeper},sectsz={BLOCK}{options}");
        let machine = Machine::with_layout("rig", layout);
        let faults = Faults::none();
        let device = if faulty {
            faults::device(&machine, Some(&slot), &[], &faults)
        } else {
            Device::new(&machine, &slot)
        };
        let device = Arc::new(device.expect("a device"));
        let (address, len) = layout[0];
        // The page at address 0 is left out, as in `Memory::all`.
        let start = address.max(4096);
        let memory = Memory::part(&machine, start, address + len - start);
        let nvme = Nvme::new(device.clone(), &memory);
        Rig { faults, nvme, memory, device, machine, dir }
    }

    fn start(self) -> Rig {
        self.nvme.msix().setup();
        self.enable();
        self
    }

    /// Enables the controller, with an admin queue that is polled.
    pub fn enable(&self) {
        self.nvme.enable(&Enable::default()).expect("it becomes ready");
    }

    /// The file of [`Store::File`].
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// Queue pair `id` with its own vector, polled.
    pub fn pair(&self, id: u16, entries: u32) -> QueuePair {
        self.nvme.create_pair(id, entries, Some(id), Wait::Poll).expect("a queue pair")
    }

    /// Queue pair `id` that looks at its completions when its vector says so.
    pub fn interrupting_pair(&self, id: u16, entries: u32) -> QueuePair {
        self.nvme.create_pair(id, entries, Some(id), Wait::Interrupt).expect("a queue pair")
    }

    /// `len` zeroed bytes from the start of a page.
    pub fn data(&self, len: usize) -> Data {
        Data::new(&self.memory, len).expect("guest memory")
    }

    /// Entries that were ever made in the Error Information log. The event
    /// that reading it would clear stays.
    pub fn errors(&self) -> u64 {
        let log = self.nvme.get_log(1, 0, 0, 64, true).expect("the error log");
        u64::from_le_bytes(log[..8].try_into().expect("8 bytes"))
    }

    /// The newest entries of the Error Information log.
    pub fn error_log(&self, count: usize) -> Vec<ErrorEntry> {
        let log = self.nvme.get_log(1, 0, 0, count * 64, true).expect("the error log");
        log.chunks_exact(64).map(ErrorEntry::from_bytes).collect()
    }
}

impl Drop for Rig {
    /// A device ends only when its I/O has.
    fn drop(&mut self) {
        self.faults.clear();
    }
}

/// An entry of the Error Information log, written down from the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own names")]
pub struct ErrorEntry {
    pub count: u64,
    pub sqid: u16,
    pub cid: u16,
    /// Status code type and status code, as [`crate::driver::Status::code`].
    pub code: u16,
    pub lba: u64,
    pub nsid: u32,
}

impl ErrorEntry {
    fn from_bytes(bytes: &[u8]) -> ErrorEntry {
        let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        ErrorEntry {
            count: long(0),
            sqid: short(8),
            cid: short(10),
            code: short(12) >> 1 & 0x7ff,
            lba: long(16),
            nsid: long(24) as u32,
        }
    }
}

/// A read of all of `data` from block `lba` on.
pub fn read(data: &Data, lba: u64) -> Entry {
    Entry::read(1, lba, blocks(data), &data.prp().expect("guest memory"))
}

/// A write of all of `data` from block `lba` on.
pub fn write(data: &Data, lba: u64) -> Entry {
    Entry::write(1, lba, blocks(data), &data.prp().expect("guest memory"))
}

fn blocks(data: &Data) -> u32 {
    (data.len() / BLOCK) as u32
}

/// Create I/O Completion Queue, as raw as it comes: `size_z` and `flags` are
/// the fields themselves.
pub fn create_cq(id: u16, size_z: u16, address: u64, vector: u16, flags: u16) -> Entry {
    create(admin_opcode::CREATE_CQ, id, size_z, address, vector, flags)
}

/// Create I/O Submission Queue, as [`create_cq`].
pub fn create_sq(id: u16, size_z: u16, address: u64, cqid: u16, flags: u16) -> Entry {
    create(admin_opcode::CREATE_SQ, id, size_z, address, cqid, flags)
}

fn create(opcode: u8, id: u16, size_z: u16, address: u64, high: u16, flags: u16) -> Entry {
    Entry::new(opcode)
        .prp(&Prp::raw(address, 0))
        .word(10, u32::from(size_z) << 16 | u32::from(id))
        .word(11, u32::from(high) << 16 | u32::from(flags))
}

/// Bytes that differ from place to place and from seed to seed.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    (0..len).map(|i| (seed as usize * 31 + i * 7 + i / BLOCK) as u8).collect()
}

/// Waits a while, for something that must not happen.
pub fn pause(time: Duration) {
    let end = std::time::Instant::now() + time;
    while let Some(left) = end.checked_duration_since(std::time::Instant::now()) {
        std::thread::park_timeout(left);
    }
}
