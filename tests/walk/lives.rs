// SPDX-License-Identifier: BSD-2-Clause

//! From one life of the controller to the next: enabling, resets, shutdowns,
//! and the registers between.

use super::action::{Again, BadCreate, Io, Op, Place, Wrong};
use super::events::Events;
use super::features::Features;
use super::io::Counted;
use super::queues::{Cq, Sq};
use super::world::{BLOCKS, Done, ENTRIES, Later, PAIRS, World, ensure};

const CC: u64 = 0x14;
const CSTS: u64 = 0x1c;
const AQA: u64 = 0x24;
const ASQ: u64 = 0x28;
const ACQ: u64 = 0x30;
/// Entries of 64 and 16 bytes.
const SETTINGS: u32 = 0x0046_0000;
const EN: u32 = 1;
const RDY: u32 = 1;
const CFS: u32 = 2;
const SHST: u32 = 3 << 2;
const SHUT_DOWN: u32 = 2 << 2;

impl World {
    fn await_status(&mut self, mask: u32, value: u32) -> Done {
        self.until(&format!("CSTS {value:#x}"), |world| Ok(world.read32(CSTS) & mask == value))
    }

    pub(crate) fn enable(&mut self) -> Done {
        let (sq, cq) = self.new_rings(0, (self.shape.admin_sq, self.shape.admin_cq))?;
        self.write32(AQA, (cq.entries() - 1) << 16 | (sq.entries() - 1));
        self.function.bar_write(0, ASQ, 8, sq.address());
        self.function.bar_write(0, ACQ, 8, cq.address());
        self.write32(CC, SETTINGS | EN);
        self.await_status(!0, RDY)?;
        self.sqs[0] = Some(Sq::new(sq, 0));
        self.cqs[0] = Some(Cq { ring: cq });
        let mut cq = 0;
        for (id, (entries, own)) in (1..).zip(self.shape.pairs.clone()) {
            if let Some(entries) = own.or((cq == 0).then_some(entries)) {
                cq = id;
                self.create_cq(cq, entries - 1, id, BadCreate::Nothing)?;
            }
            self.create_sq(id, cq, entries - 1, BadCreate::Nothing)?;
        }
        Ok(())
    }

    pub(crate) fn reset(&mut self, again: Again) -> Done {
        self.close();
        match again {
            Again::Function => self.bare.controller().reset_function(),
            Again::Storm => {
                for cc in [0, EN, 0] {
                    self.write32(CC, SETTINGS | cc);
                }
            }
            _ => self.write32(CC, SETTINGS),
        }
        self.release();
        self.await_status(!0, 0)?;
        self.forget()?;
        match again {
            Again::BadCc(bits) => self.fail_to_enable(SETTINGS | bits | EN, 0x0003_0003)?,
            Again::BadQueues => self.fail_to_enable(SETTINGS | EN, 0)?,
            _ => {}
        }
        self.enable()
    }

    fn fail_to_enable(&mut self, cc: u32, aqa: u32) -> Done {
        self.write32(AQA, aqa);
        self.write32(CC, cc);
        self.await_status(!0, CFS)?;
        self.write32(CC, SETTINGS);
        self.await_status(!0, 0)
    }

    /// What was posted is looked at; all else of the old life is gone, whether
    /// it was done or not.
    fn forget(&mut self) -> Done {
        for id in (1..=PAIRS).chain([0]) {
            while let Some(completion) = self.pop(id) {
                self.settle(completion)?;
            }
        }
        let now = self.moment();
        let flights = std::mem::take(&mut self.flights);
        let cut = flights.len() as u64 + self.later.len() as u64;
        for flight in flights.into_values() {
            self.abandon(&flight, now);
            match flight.counted {
                Counted::Read => self.counts.reads.1 += 1,
                Counted::Write => self.counts.writes.1 += 1,
                Counted::No => {}
            }
            let twin = flight.bend.iter().map(|bend| &bend.twin);
            let pages = flight.data.iter().chain(twin).flat_map(|data| data.pages());
            for page in pages.collect::<Vec<u64>>() {
                self.bury(page / 4096 * 4096, 4096, ());
            }
            self.keep(flight);
        }
        for later in std::mem::take(&mut self.later).into_values() {
            if let Later::Format { begun } = later {
                self.formatted = now;
                self.disk.abandon(begun, now, 0, self.blocks);
            }
        }
        self.counts.errors.1 += cut;
        for cq in std::mem::take(&mut self.cqs).into_iter().flatten() {
            let (at, len) = (cq.ring.address(), cq.ring.entries() as usize * 16);
            self.bury(at, len, cq);
        }
        for sq in std::mem::take(&mut self.sqs).into_iter().flatten() {
            let (at, len) = (sq.ring.address(), sq.ring.entries() as usize * 64);
            self.bury(at, len, sq);
        }
        self.events = Events::default();
        self.features = Features::new();
        Ok(())
    }

    fn keep(&mut self, flight: super::io::Flight) {
        self.bury(4096, 0, flight);
    }

    /// The queues are closed, and may say so of what was fetched from them.
    fn close(&mut self) {
        for flight in self.flights.values_mut() {
            flight.closing = true;
        }
    }

    pub(crate) fn shutdown(&mut self, abrupt: bool) -> Done {
        self.close();
        let how = if abrupt { 2 << 14 } else { 1 << 14 };
        self.write32(CC, SETTINGS | EN | how);
        self.release();
        self.await_status(SHST, SHUT_DOWN)?;
        self.reset(Again::Plain)
    }

    /// Registers that nobody can write say what they always say; the admin
    /// queues' hold while the controller is enabled.
    pub(crate) fn register(&mut self, at: u64, size: usize, value: u64) -> Done {
        // Those that are there, and their neighbours of this one.
        let places: Vec<u64> = (0..0x70).step_by(4).chain([at / 4 * 4, at / 4 * 4 + 4]).collect();
        let before: Vec<u32> = places.iter().map(|at| self.read32(*at)).collect();
        // CC would start a new life, and the interrupt masks are kept.
        let last = at + size as u64;
        if !at.is_multiple_of(size as u64) || at < CC + 4 && last > CC {
            return Ok(());
        }
        self.function.bar_write(0, at, size, value);
        let masks = 0x0c..0x14;
        for (at, before) in places.into_iter().zip(before) {
            let after = self.read32(at);
            ensure!(
                after == before || masks.contains(&at),
                "register {at:#x} was {before:#x} and is {after:#x}"
            );
        }
        let cap = self.function.bar_read(0, 0, 8);
        ensure!(cap & 0xffff == u64::from(ENTRIES) - 1, "CAP {cap:#x}");
        ensure!(self.read32(8) == 0x2_0000, "VS");
        Ok(())
    }

    /// Reads the disk from one end to the other.
    pub(crate) fn read_all(&mut self) -> Done {
        self.shape.pairs.clear();
        self.reset(Again::Plain)?;
        self.create_cq(1, 7, 1, BadCreate::Nothing)?;
        self.create_sq(1, 1, 7, BadCreate::Nothing)?;
        let blocks = (BLOCKS / 4) as u16;
        let place = Place::Contiguous { offset: 0 };
        for part in 0..(self.blocks / u64::from(blocks)) as u16 {
            let wrong = Wrong::Nothing;
            let lba = part * blocks;
            let read = Io { op: Op::Read, lba, blocks, place, fua: false, wrong };
            self.submit(1, &[read])?;
        }
        self.drain()
    }
}
