// SPDX-License-Identifier: BSD-2-Clause

//! Admin commands: every field at its limits, and every status.

mod abort;
mod events;
mod features;
mod format;
mod identify;
mod keep_alive;
mod logs;
mod opcodes;

use bhyve_nvme::controller::Settings;
use devhost::bare::{Bare, Gate, GateHandle, settings};
use devhost::bhyve::Machine;
use devhost::driver::{
    Completion, Data, Enable, Entry, Function, Memory, Nvme, QueuePair, Status, Wait,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

struct Setup {
    bare: Arc<Bare>,
    memory: Arc<Memory>,
    nvme: Nvme,
    gate: GateHandle,
}

/// A controller over a store of `bytes` bytes.
fn setup_with(settings: Settings, bytes: u64, store: impl FnOnce(Gate) -> Gate) -> Setup {
    let machine = Machine::with_ram(64 * MIB);
    let memory = Memory::all(&machine);
    let (gate, handle) = Gate::new(bytes);
    let bare = Bare::new(&machine, settings, Arc::new(store(gate)));
    let function: Arc<dyn Function> = bare.clone();
    let nvme = Nvme::new(function, &memory);
    nvme.enable(&Enable::default()).unwrap();
    Setup { bare, memory, nvme, gate: handle }
}

fn setup() -> Setup {
    setup_with(settings(), 16 * MIB, |gate| gate)
}

impl Setup {
    fn pair(&self, id: u16, entries: u32) -> QueuePair {
        self.nvme.create_pair(id, entries, Some(id), Wait::Poll).unwrap()
    }

    fn data(&self, len: usize) -> Data {
        Data::new(&self.memory, len).unwrap()
    }

    fn admin(&self, entry: Entry) -> Completion {
        self.nvme.admin().run(entry).unwrap()
    }

    /// The status code of an admin command that must fail for good; the error
    /// log has it.
    fn refused(&self, entry: Entry) -> u16 {
        let status = self.admin(entry).status;
        assert!(!status.is_success(), "{entry:?} succeeded");
        assert!(status.dnr() && status.more(), "{entry:?}: {status:?}");
        let log = self.nvme.get_log(1, 0, 0, 64, false).unwrap();
        assert_eq!(u16::from_le_bytes([log[12], log[13]]) >> 1 & 0x7ff, status.code(), "{entry:?}");
        status.code()
    }

    /// Runs an admin command with a buffer of `len` bytes; what is in it then.
    fn fetch(&self, entry: Entry, len: usize) -> Result<Vec<u8>, u16> {
        let data = self.data(len);
        data.fill(0xee);
        let completion = self.admin(entry.prp(&data.prp().unwrap()));
        if completion.status.is_success() {
            return Ok(data.to_vec());
        }
        assert!(completion.status.dnr(), "{:?}", completion.status);
        assert_eq!(data.to_vec(), vec![0xee; len], "a failed command wrote");
        Err(completion.status.code())
    }

    fn reset(&self) {
        self.nvme.disable().unwrap();
        self.nvme.enable(&Enable::default()).unwrap();
    }
}

fn write(data: &Data, lba: u64) -> Entry {
    Entry::write(1, lba, (data.len() / 512) as u32, &data.prp().unwrap())
}

fn read(data: &Data, lba: u64) -> Entry {
    Entry::read(1, lba, (data.len() / 512) as u32, &data.prp().unwrap())
}

/// Whether `condition` comes true before patience ends.
fn soon(mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + devhost::PATIENCE;
    while Instant::now() < end {
        if condition() {
            return true;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    false
}
