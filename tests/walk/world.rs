// SPDX-License-Identifier: BSD-2-Clause

//! The guest with all it knows: its queues, what is in flight, and what the
//! controller and the disk must be like.

use super::action::{Action, Shape};
use super::disk::{Disk, Moment, Tag};
use super::events::Events;
use super::features::Features;
use super::io::Flight;
use super::queues::{Cq, Sq};
use devhost::PATIENCE;
use devhost::bare::{Bare, Gate, GateHandle, settings};
use devhost::bhyve::Machine;
use devhost::driver::{Completion, Entry, Function, Memory, PAGE, Prp, Status};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) type Done<T = ()> = Result<T, String>;

/// Blocks of the store.
pub(crate) const BLOCKS: u64 = 4096;
/// I/O queue pairs, and entries of the largest queue.
pub(crate) const PAIRS: u16 = 4;
pub(crate) const ENTRIES: u32 = 64;
const RAM: u64 = 24 << 20;

/// An error with what was found and what there should be.
macro_rules! ensure {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err(format!($($what)+));
        }
    };
}
pub(crate) use ensure;

/// An admin command that is not waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Later {
    Format { begun: Moment },
    CacheOff,
    Deletion,
}

/// What the logs must have counted, at least and at most: what a reset has cut
/// short may be among it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub errors: (u64, u64),
    pub reads: (u64, u64),
    pub writes: (u64, u64),
}

/// Memory that nobody may write to any more.
pub(crate) struct Grave {
    pub address: u64,
    pub bytes: Vec<u8>,
    /// Keeps it from being given away.
    pub _owner: Box<dyn std::any::Any>,
}

pub(crate) struct World {
    pub bare: Arc<Bare>,
    pub function: Arc<dyn Function>,
    pub machine: Arc<Machine>,
    pub memory: Arc<Memory>,
    pub gate: GateHandle,
    pub shape: Shape,
    pub now: Moment,
    pub disk: Disk,
    /// Size of the namespace.
    pub blocks: u64,
    pub resized: bool,
    pub holding: bool,
    /// One operation more may pass: it was let, and nothing may have been there.
    pub passing: bool,
    pub failing: bool,
    /// By identifier; the admin queues are the first.
    pub sqs: [Option<Sq>; 5],
    pub cqs: [Option<Cq>; 5],
    pub flights: BTreeMap<(u16, u16), Flight>,
    pub later: BTreeMap<u16, Later>,
    /// The completion of the admin command that is waited for.
    pub answer: Option<(u16, Option<Completion>)>,
    pub events: Events,
    /// The log page that the admin command reads, if that clears its event.
    pub reading: Option<u8>,
    pub features: Features,
    pub counts: Counts,
    /// When a format was last seen to be under way.
    pub formatted: Moment,
    pub grave: Vec<Grave>,
    cid: u16,
    tag: Tag,
}

impl World {
    pub(crate) fn new(shape: &Shape) -> Done<World> {
        let machine = Machine::with_ram(RAM);
        let memory = Memory::all(&machine);
        let (gate, handle) = Gate::new(BLOCKS * 512);
        let gate = if shape.inline { gate.never_waiting() } else { gate };
        let gate = if shape.cached { gate } else { gate.uncached() };
        let mut settings = settings();
        settings.io_slots = shape.slots;
        settings.queue_entries = ENTRIES;
        let bare = Bare::new(&machine, settings, Arc::new(gate));
        let mut world = World {
            function: bare.clone(),
            bare,
            machine,
            memory,
            gate: handle,
            shape: shape.clone(),
            now: 0,
            disk: Disk::new(BLOCKS),
            blocks: BLOCKS,
            resized: false,
            holding: false,
            passing: false,
            failing: false,
            sqs: Default::default(),
            cqs: Default::default(),
            flights: BTreeMap::new(),
            later: BTreeMap::new(),
            answer: None,
            events: Events::default(),
            reading: None,
            features: Features::new(),
            counts: Counts::default(),
            formatted: 0,
            grave: Vec::new(),
            cid: 0,
            tag: 0,
        };
        world.enable()?;
        Ok(world)
    }

    pub(crate) fn moment(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    pub(crate) fn new_cid(&mut self) -> u16 {
        self.cid = self.cid.wrapping_add(1);
        self.cid
    }

    pub(crate) fn new_tag(&mut self) -> Tag {
        self.tag += 1;
        self.tag
    }

    /// Calls `look` until it finds what it waits for.
    pub(crate) fn until(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut World) -> Done<bool>,
    ) -> Done {
        let end = Instant::now() + PATIENCE;
        let mut turns = 0u32;
        while !look(self)? {
            turns += 1;
            match turns {
                0..200 => std::hint::spin_loop(),
                200..2000 => std::thread::yield_now(),
                _ => std::thread::park_timeout(Duration::from_micros(50)),
            }
            ensure!(Instant::now() < end, "{what}: waited in vain, {}", self.describe());
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let failed = self.bare.controller().has_failed();
        format!(
            "CSTS {:#x}, panicked: {failed}, in flight: {:?}, later: {:?}, events: {:?}",
            self.read32(0x1c),
            self.flights.keys().collect::<Vec<_>>(),
            self.later,
            self.events
        )
    }

    pub(crate) fn read32(&self, at: u64) -> u32 {
        self.function.bar_read(0, at, 4) as u32
    }

    pub(crate) fn write32(&self, at: u64, value: u32) {
        self.function.bar_write(0, at, 4, u64::from(value));
    }

    pub(crate) fn act(&mut self, action: &Action) -> Done {
        match action {
            Action::Io { sq, commands } => self.submit(u16::from(*sq), commands)?,
            Action::Poll { cq, most } => self.poll(u16::from(*cq), u32::from(*most))?,
            Action::Drain => self.drain()?,
            // A vCPU that runs commands itself would wait for this thread.
            Action::Hold if !self.shape.inline => {
                self.gate.close();
                self.holding = true;
            }
            Action::Hold => {}
            Action::ReleaseOne => {
                if self.holding {
                    self.gate.pass_one();
                    self.passing = true;
                }
            }
            Action::Release => self.release(),
            Action::Failing(failing) => {
                self.drain()?;
                self.failing = *failing;
                self.gate.fail(failing.then_some(bhyve_nvme::backend::Error::Io));
            }
            Action::Scribble(which) => self.scribble(usize::from(*which)),
            Action::Bend { which, spoil } => self.bend(usize::from(*which), *spoil),
            Action::CreateCq { id, size, vector, bad } => {
                self.create_cq(u16::from(*id), u16::from(*size), u16::from(*vector), *bad)?;
            }
            Action::CreateSq { id, cq, size, bad } => {
                self.create_sq(u16::from(*id), u16::from(*cq), u16::from(*size), *bad)?;
            }
            Action::DeleteSq(id) => self.delete_sq(u16::from(*id))?,
            Action::DeleteCq(id) => self.delete_cq(u16::from(*id))?,
            Action::Identify { cns, nsid, controller, csi, wrong } => {
                self.identify(*cns, *nsid, *controller, *csi, *wrong)?;
            }
            Action::Log { page, nsid, offset, dwords_z, retain } => {
                self.log(*page, *nsid, *offset, *dwords_z, *retain)?;
            }
            Action::GetFeature { id, select, nsid, cdw11 } => {
                self.get_feature(*id, *select, *nsid, *cdw11)?;
            }
            Action::SetFeature { id, nsid, cdw11, save } => {
                self.set_feature(*id, *nsid, *cdw11, *save)?;
            }
            Action::Abort(target) => self.abort(*target)?,
            Action::Event => self.request_event()?,
            Action::Format { nsid, cdw10 } => self.format(*nsid, *cdw10)?,
            Action::KeepAlive => self.expect(Entry::new(0x18), Status::SUCCESS).map(drop)?,
            Action::Refused { opcode, flags } => self.refused(*opcode, *flags)?,
            Action::Bell(bell) => self.bell(*bell),
            Action::Register { at, size, value } => {
                self.register(u64::from(*at), usize::from(*size), *value)?;
            }
            Action::Reset(again) => self.reset(*again)?,
            Action::Shutdown { abrupt } => self.shutdown(*abrupt)?,
            Action::Resize(quarters) => self.resize(u64::from(*quarters))?,
        }
        self.await_events()?;
        ensure!(!self.bare.controller().has_failed(), "a thread panicked");
        if self.flights.is_empty() {
            let now = self.now;
            self.disk.settle(now);
        }
        Ok(())
    }

    /// Everything ends and is looked at.
    pub(crate) fn end(&mut self) -> Done {
        self.drain()?;
        self.failing = false;
        self.gate.fail(None);
        self.check_counts()?;
        self.read_all()?;
        self.reset(super::action::Again::Plain)?;
        for grave in &self.grave {
            let mut now = vec![0; grave.bytes.len()];
            self.machine.read(grave.address, &mut now);
            ensure!(
                now == grave.bytes,
                "memory at {:#x} was written to after a reset",
                grave.address
            );
        }
        Ok(())
    }

    pub(crate) fn release(&mut self) {
        self.gate.open();
        self.holding = false;
        self.passing = false;
    }

    /// Lets all that is in flight end.
    pub(crate) fn drain(&mut self) -> Done {
        self.release();
        self.until("drain", |world| {
            for id in 0..=PAIRS {
                world.poll(id, u32::MAX)?;
            }
            Ok(world.flights.is_empty() && world.later.is_empty())
        })
    }

    /// Nobody may write to these bytes from now on.
    pub(crate) fn bury(&mut self, address: u64, len: usize, owner: impl std::any::Any) {
        let mut bytes = vec![0; len];
        self.machine.read(address, &mut bytes);
        self.grave.push(Grave { address, bytes, _owner: Box::new(owner) });
    }

    /// Submits an admin command.
    pub(crate) fn submit_admin(&mut self, entry: Entry) -> Done<u16> {
        let cid = self.new_cid();
        let sq = self.sqs[0].as_mut().ok_or("no admin queue")?;
        ensure!(sq.room() > 0, "no room in the admin queue");
        sq.push(&entry.cid(cid));
        sq.ring.ring();
        Ok(cid)
    }

    /// Runs an admin command.
    pub(crate) fn run(&mut self, entry: Entry) -> Done<Completion> {
        let cid = self.submit_admin(entry)?;
        self.answer = Some((cid, None));
        self.until("an admin command", |world| {
            world.poll(0, u32::MAX)?;
            Ok(matches!(world.answer, Some((_, Some(_)))))
        })?;
        match self.answer.take() {
            Some((_, Some(completion))) => Ok(completion),
            _ => Err("no answer".to_owned()),
        }
    }

    /// Runs an admin command that must end with `code`.
    pub(crate) fn expect(&mut self, entry: Entry, code: u16) -> Done<Completion> {
        let completion = self.run(entry)?;
        let found = completion.status.code();
        ensure!(found == code, "{entry:?} ended with {:?}, not {code:#x}", completion.status);
        Ok(completion)
    }

    /// Leaves an admin command to end by itself, and sees it taken.
    pub(crate) fn leave(&mut self, entry: Entry, later: Later) -> Done {
        let cid = self.submit_admin(entry)?;
        self.later.insert(cid, later);
        self.expect(Entry::new(0x18), Status::SUCCESS).map(drop)
    }

    /// A pointer to `len` bytes of fresh memory, all 0xee.
    pub(crate) fn room(&self, len: usize) -> Done<(devhost::driver::Data, Prp)> {
        let data = devhost::driver::Data::new(&self.memory, len).map_err(|e| e.to_string())?;
        data.fill(0xee);
        let prp = data.prp().map_err(|e| e.to_string())?;
        Ok((data, prp))
    }

    pub(crate) fn in_no_memory() -> Prp {
        Prp::raw(RAM + 16 * PAGE, RAM + 32 * PAGE)
    }
}

impl Drop for World {
    /// Threads end only when the store lets them.
    fn drop(&mut self) {
        self.gate.fail(None);
        self.gate.open();
    }
}
