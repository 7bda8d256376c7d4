// SPDX-License-Identifier: BSD-2-Clause

//! The sandboxed program: devices first, then the sandbox, then the checks.

use super::checks::CHECKS;
use super::outside::RESIZE;
use devhost::bhyve::{Device, Machine};
use devhost::driver::{Data, Enable, Entry, Memory, Nvme, QueuePair, Wait};
use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Bytes of guest memory.
const RAM: u64 = 32 << 20;

/// One store, with a device that writes and, in a machine of its own, one that
/// only reads.
pub(crate) struct Subject {
    pub(crate) kind: String,
    pub(crate) path: String,
    pub(crate) writer: Disk,
    pub(crate) reader: Disk,
}

/// A device with a driver at it.
pub(crate) struct Disk {
    pub(crate) nvme: Nvme,
    memory: Arc<Memory>,
}

impl Subject {
    fn new(kind: &str, path: &str) -> Subject {
        let (kind, path) = (kind.to_owned(), path.to_owned());
        let (writer, reader) = (Disk::new(&path, ""), Disk::new(&path, ",ro"));
        Subject { kind, path, writer, reader }
    }

    /// Whether its size can be changed.
    pub(crate) fn can_resize(&self) -> bool {
        self.kind != "device"
    }

    /// Has the size of the store changed to `bytes`.
    pub(crate) fn resize(&self, bytes: u64) {
        println!("{RESIZE}{} {} {bytes}", self.kind, self.path);
        std::io::stdout().flush().expect("a pipe");
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).expect("a pipe");
        assert_eq!(answer.trim(), "done", "resizing {} to {bytes}", self.path);
    }
}

impl Disk {
    fn new(path: &str, options: &str) -> Disk {
        let machine = Machine::with_ram(RAM);
        let memory = Memory::all(&machine);
        let slot = format!("4,nvme,{path},maxq=4,ioslots=4{options}");
        let device = Device::new(&machine, &slot);
        let device = Arc::new(device.unwrap_or_else(|error| panic!("{path}: {error}")));
        let nvme = Nvme::new(device, &memory);
        Disk { nvme, memory }
    }

    /// Begins anew, whatever was before.
    fn enable(&self) {
        self.nvme.disable().expect("it becomes quiescent");
        self.nvme.enable(&Enable::default()).expect("it becomes ready");
    }

    /// Queue pair `id`, polled.
    pub(crate) fn pair(&self, id: u16) -> QueuePair {
        self.nvme.create_pair(id, 64, Some(id), Wait::Poll).expect("a queue pair")
    }

    /// `len` bytes in contiguous pages.
    pub(crate) fn data(&self, len: usize) -> Data {
        Data::new(&self.memory, len).expect("guest memory")
    }

    /// `len` bytes in pages apart from each other, from byte `offset` of the
    /// first on.
    pub(crate) fn scattered(&self, len: usize, offset: usize) -> Data {
        Data::scattered(&self.memory, len, offset).expect("guest memory")
    }

    /// Bytes of a block.
    pub(crate) fn block(&self) -> usize {
        self.nvme.namespace(1).expect("a namespace").block_size as usize
    }

    /// Bytes of the namespace.
    pub(crate) fn size(&self) -> u64 {
        let namespace = self.nvme.namespace(1).expect("a namespace");
        namespace.blocks * u64::from(namespace.block_size)
    }

    /// Moves all of `data`, from block `lba` on; the status code.
    pub(crate) fn read(&self, pair: &QueuePair, data: &Data, lba: u64) -> u16 {
        let prp = data.prp().expect("guest memory");
        let blocks = (data.len() / self.block()) as u32;
        pair.run(Entry::read(1, lba, blocks, &prp)).expect("an answer").status.code()
    }

    /// As [`Disk::read`].
    pub(crate) fn write(&self, pair: &QueuePair, data: &Data, lba: u64, fua: bool) -> u16 {
        let prp = data.prp().expect("guest memory");
        let blocks = (data.len() / self.block()) as u32;
        let entry = Entry::write(1, lba, blocks, &prp);
        let entry = if fua { entry.fua() } else { entry };
        pair.run(entry).expect("an answer").status.code()
    }
}

/// From here on the process opens nothing any more.
#[cfg(target_os = "freebsd")]
fn enter_sandbox() {
    capsicum::enter().expect("the kernel has Capsicum");
    assert!(capsicum::sandboxed());
}

/// There is none here: what is checked is the rest.
#[cfg(not(target_os = "freebsd"))]
fn enter_sandbox() {}

/// Whether all went well.
pub(crate) fn run(stores: &[(String, String)]) -> bool {
    let subjects: Vec<Subject> =
        stores.iter().map(|(kind, path)| Subject::new(kind, path)).collect();
    enter_sandbox();
    let (mut passed, mut failed) = (0, 0);
    for subject in &subjects {
        for (name, check) in CHECKS {
            let what = format!("{}:{}: {name}", subject.kind, subject.path);
            let checked = catch_unwind(AssertUnwindSafe(|| {
                subject.writer.enable();
                subject.reader.enable();
                check(subject);
            }));
            match checked {
                Ok(()) => {
                    passed += 1;
                    println!("ok      {what}");
                }
                Err(_) => {
                    failed += 1;
                    println!("FAILED  {what}");
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    failed == 0 && passed > 0
}
