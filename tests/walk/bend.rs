// SPDX-License-Identifier: BSD-2-Clause

//! Lists of pointers that change while a command is in flight: to other pages
//! of the same shape, one of them maybe to nowhere.
//!
//! The controller may take each pointer as it was before or as it is after, and
//! must stay with what it has taken: so each word of the data is moved in one
//! of the two places, once, and nothing beside them.

use super::disk;
use super::expect::SGL_TYPE_INVALID;
use super::io::{Counted, Effect, Flight, Keep, SGL_BLOCK, SGL_KEYED};
use super::world::{Done, World, ensure};
use devhost::driver::{Buffer, Data, Status};

/// Bytes that are moved as a whole at least.
const WORD: usize = 4;
/// What buffers are filled with: no word of a block.
const FILL: u8 = 0xee;

/// What a list was changed to.
pub(crate) struct Bend {
    pub twin: Data,
    /// How the command may end for it.
    pub code: Option<u16>,
}

/// How one pointer is spoiled.
#[derive(Clone, Copy)]
enum Spoil {
    LowBits,
    NoMemory,
}

impl World {
    /// Changes the list of a command in flight; `spoil` says which of its
    /// pointers is spoiled, and how, if any.
    pub(crate) fn bend(&mut self, which: usize, spoil: Option<u8>) {
        let fit = |flight: &Flight| {
            let moves = match &flight.effect {
                Effect::Read { .. } | Effect::Compare { .. } => true,
                Effect::Change { .. } => flight.counted == Counted::Write,
                Effect::Nothing => false,
            };
            moves && flight.code == Status::SUCCESS && flight.bend.is_none() && flight.has_list()
        };
        let fitting = self.flights.iter().filter(|(_, flight)| fit(flight));
        let keys: Vec<_> = fitting.map(|(key, _)| *key).collect();
        let Some(key) = keys.get(which % keys.len().max(1)) else { return };
        let tag = self.new_tag();
        let Some(flight) = self.flights.get_mut(key) else { return };
        let Some(data) = &flight.data else { return };
        // Memory may be short: another time, then.
        let Ok(twin) = data.twin() else { return };
        twin.fill(FILL);
        match &mut flight.effect {
            Effect::Compare { data, .. } => twin.write(data),
            Effect::Change { tags, ranges } => {
                for (lba, blocks) in ranges.iter().copied() {
                    self.disk.begin(tag, flight.begun, lba, blocks);
                    let blocks = (lba..lba + blocks).flat_map(|at| disk::block(tag, at));
                    twin.write(&blocks.collect::<Vec<u8>>());
                }
                tags.push(tag);
            }
            Effect::Read { .. } | Effect::Nothing => {}
        }
        let spoil = spoil.map(|slot| {
            let how = if slot & 1 == 0 { Spoil::LowBits } else { Spoil::NoMemory };
            (usize::from(slot / 2), how)
        });
        let mut code = None;
        for list in &flight.lists {
            code = code.or(match list {
                Keep::Prp(prp) => {
                    let lists = prp.lists();
                    let per_list = lists.iter().map(|list| bend_prps(list, data, &twin, spoil));
                    per_list.fold(None, Option::or)
                }
                Keep::Buffer(list) => bend_sgl(list, data, &twin, spoil),
            });
        }
        flight.bend = Some(Bend { twin, code });
    }
}

/// The pointers to `data` in a PRP list.
fn bend_prps(
    list: &Buffer,
    data: &Data,
    twin: &Data,
    spoil: Option<(usize, Spoil)>,
) -> Option<u16> {
    let bytes = list.to_vec();
    let pointers = bytes.chunks_exact(8).enumerate().filter_map(|(slot, pointer)| {
        let old = u64::from_le_bytes(pointer.try_into().expect("8 bytes"));
        data.in_twin(twin, old).map(|new| (slot, new))
    });
    let pointers: Vec<(usize, u64)> = pointers.collect();
    let mut code = None;
    for (index, (slot, new)) in pointers.iter().enumerate() {
        let pointer = match spoil {
            Some((at, how)) if at % pointers.len() == index => {
                let (status, pointer) = match how {
                    Spoil::LowBits => (Status::PRP_OFFSET_INVALID, new | 4),
                    Spoil::NoMemory => (Status::DATA_TRANSFER_ERROR, World::in_no_memory().prp1),
                };
                code = Some(status);
                pointer
            }
            _ => *new,
        };
        list.write(slot * 8, &pointer.to_le_bytes());
    }
    code
}

/// The descriptors of `data` in a segment.
fn bend_sgl(list: &Buffer, data: &Data, twin: &Data, spoil: Option<(usize, Spoil)>) -> Option<u16> {
    let bytes = list.to_vec();
    let blocks = bytes.chunks_exact(16).enumerate().filter_map(|(slot, descriptor)| {
        let old = u64::from_le_bytes(descriptor[..8].try_into().expect("8 bytes"));
        let new = data.in_twin(twin, old)?;
        (descriptor[15] == SGL_BLOCK).then_some((slot, new))
    });
    let blocks: Vec<(usize, u64)> = blocks.collect();
    let mut code = None;
    for (index, (slot, new)) in blocks.iter().enumerate() {
        match spoil {
            Some((at, Spoil::LowBits)) if at % blocks.len() == index => {
                list.write(slot * 16 + 15, &[SGL_KEYED]);
                code = Some(SGL_TYPE_INVALID);
            }
            Some((at, Spoil::NoMemory)) if at % blocks.len() == index => {
                list.write(slot * 16, &World::in_no_memory().prp1.to_le_bytes());
                code = Some(Status::DATA_TRANSFER_ERROR);
            }
            _ => list.write(slot * 16, &new.to_le_bytes()),
        }
    }
    code
}

impl Flight {
    fn has_list(&self) -> bool {
        self.data.is_some()
            && self.lists.iter().any(|list| match list {
                Keep::Prp(prp) => !prp.lists().is_empty(),
                Keep::Buffer(_) => true,
            })
    }

    /// What the command has read, wherever it went. Nothing else was touched.
    pub(crate) fn bytes_read(&self) -> Done<Vec<u8>> {
        let data = self.data.as_ref().ok_or("a read without data")?;
        ensure!(data.spilt(FILL) == 0, "memory beside the data was written to");
        let mut bytes = data.to_vec();
        let Some(Bend { twin, .. }) = &self.bend else { return Ok(bytes) };
        ensure!(twin.spilt(FILL) == 0, "memory beside the other data was written to");
        let other = twin.to_vec();
        for (word, other) in bytes.chunks_exact_mut(WORD).zip(other.chunks_exact(WORD)) {
            if other != [FILL; WORD] {
                ensure!(word == [FILL; WORD], "read to two places");
                word.copy_from_slice(other);
            }
        }
        Ok(bytes)
    }
}
