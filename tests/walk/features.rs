// SPDX-License-Identifier: BSD-2-Clause

//! The model of the features.

use super::admin::NOT_NAMESPACE_SPECIFIC;
use super::events::TEMPERATURE;
use super::world::{Done, Later, PAIRS, World, ensure};
use devhost::driver::{Data, Entry, Prp, Status};
use std::collections::BTreeMap;

const KELVINS: u32 = 296;

#[derive(Debug)]
pub(crate) struct Features {
    /// Values in force that are not the defaults, by feature and, where it has
    /// several, sensor or vector.
    values: BTreeMap<(u8, u32), u32>,
    data: BTreeMap<u8, Vec<u8>>,
    pub granted: u16,
    warned: bool,
}

impl Features {
    pub(crate) fn new() -> Features {
        Features { values: BTreeMap::new(), data: BTreeMap::new(), granted: PAIRS, warned: false }
    }

    fn value(&self, id: u8, part: u32) -> u32 {
        self.values.get(&(id, part)).copied().unwrap_or(default(id, part))
    }

    /// Whether namespace notices are wanted.
    pub(crate) fn wants_notices(&self) -> bool {
        self.value(0x0b, 0) & 1 << 8 != 0
    }

    pub(crate) fn is_too_warm(&self) -> bool {
        KELVINS >= self.value(4, 0) || KELVINS <= self.value(4, 1 << 20)
    }
}

fn default(id: u8, part: u32) -> u32 {
    match (id, part) {
        (1, _) => 7,
        (4, 0) => 0x157,
        (6, _) => 1,
        (7, _) => 0x0003_0003,
        (9, vector) => vector,
        _ => 0,
    }
}

fn counts(pairs: u16) -> u32 {
    u32::from(pairs - 1) << 16 | u32::from(pairs - 1)
}

/// Bytes of a feature's data structure.
fn data_len(id: u8, cdw11: u32) -> usize {
    match id {
        0x0e => 8,
        0x16 => 512,
        0x81 => 8 << (cdw11 & 1),
        _ => 0,
    }
}

impl World {
    fn is_feature(&self, id: u8) -> bool {
        matches!(id, 1 | 2 | 4 | 5 | 7..=0xb | 0xe | 0xf | 0x16 | 0x81)
            || id == 6 && self.shape.cached
    }

    /// Which of a feature's values dword 11 is about, if there is one.
    fn part(id: u8, cdw11: u32) -> Option<u32> {
        match id {
            4 => matches!(cdw11 >> 16, 0 | 0x10).then_some(cdw11 & 1 << 20),
            9 => (cdw11 & 0xffff <= u32::from(PAIRS)).then_some(cdw11 & 0xffff),
            _ => Some(0),
        }
    }

    pub(crate) fn get_feature(&mut self, id: u8, select: u8, nsid: u32, cdw11: u32) -> Done {
        let len = data_len(id, cdw11);
        let (data, prp) = self.room(len.max(4))?;
        let word = u32::from(select) << 8 | u32::from(id);
        let entry = Entry::new(0x0a).nsid(nsid).word(10, word).word(11, cdw11).prp(&prp);
        if !self.is_feature(id) {
            return self.expect(entry, Status::INVALID_FIELD).map(drop);
        }
        if id == 5 && nsid != 1 {
            return self.expect(entry, Status::INVALID_NAMESPACE).map(drop);
        }
        let part = World::part(id, cdw11);
        if select > 3 || select < 3 && part.is_none() {
            return self.expect(entry, Status::INVALID_FIELD).map(drop);
        }
        let part = part.unwrap_or(0);
        let found = self.expect(entry, Status::SUCCESS)?.dw0;
        let expected = match (select, id) {
            (3, 5) => 6,
            (3, _) => 4,
            (0, 7) => counts(self.features.granted),
            (0, _) => self.features.value(id, part),
            _ => default(id, part),
        };
        if len == 0 || select == 3 {
            ensure!(found == expected, "{found:#x}, not {expected:#x}");
            return Ok(());
        }
        let stored = self.features.data.get(&id).filter(|_| select == 0);
        let mut expected = stored.cloned().unwrap_or_default();
        expected.resize(len.max(expected.len()), 0);
        let bytes = data.to_vec();
        if id == 0x0e {
            let time = |bytes: &[u8]| {
                u64::from_le_bytes(bytes.try_into().expect("8 bytes")) & 0xffff_ffff_ffff
            };
            let origin = if stored.is_some() { 2 } else { 0 };
            ensure!(bytes[6] == origin, "origin {}", bytes[6]);
            ensure!((0..600_000).contains(&(time(&bytes) - time(&expected))), "{bytes:?}");
            ensure!(select == 0 || time(&bytes) == 0, "{bytes:?}");
        } else {
            ensure!(bytes[..len] == expected[..len], "{:x?}, not {expected:x?}", &bytes[..len]);
        }
        Ok(())
    }

    /// The data structure of Set Features, and whether it will do.
    fn feature_data(id: u8, cdw11: u32, nsid: u32) -> (Vec<u8>, bool) {
        let len = data_len(id, cdw11);
        let mut bytes = vec![0; len];
        match id {
            // 48 bits of time and two bytes that mean nothing.
            0x0e => bytes.copy_from_slice(&(u64::from(cdw11) << 8 | 0xffff << 48).to_le_bytes()),
            0x16 => bytes[(cdw11 / 2) as usize] = (1 + cdw11 % 2) as u8,
            0x81 => bytes
                .iter_mut()
                .enumerate()
                .for_each(|(at, byte)| *byte = (at as u8).wrapping_add(nsid as u8)),
            _ => {}
        }
        let good = id != 0x16 || bytes[0] <= 1 && bytes[1] == 0;
        if id == 0x0e {
            bytes[6..].fill(0);
        }
        (bytes, good)
    }

    fn set_code(&self, id: u8, nsid: u32, cdw11: u32, save: bool, good: bool) -> u16 {
        if !self.is_feature(id) {
            return Status::INVALID_FIELD;
        }
        if save {
            return Status::FEATURE_NOT_SAVEABLE;
        }
        match (nsid, id == 5) {
            (u32::MAX, _) | (0, false) | (1, true) => {}
            (1, false) => return NOT_NAMESPACE_SPECIFIC,
            _ => return Status::INVALID_NAMESPACE,
        }
        let queues = self.sqs.iter().skip(1).any(Option::is_some)
            || self.cqs.iter().skip(1).any(Option::is_some);
        let fits = match id {
            2 => cdw11 & 0x1f == 0,
            4 => matches!(cdw11 >> 16 & 0x3f, 0 | 0xf | 0x10 | 0x1f),
            5 => cdw11 & 1 << 16 == 0,
            7 => cdw11 & 0xffff != 0xffff && cdw11 >> 16 != 0xffff,
            9 => cdw11 & 0xffff <= u32::from(PAIRS),
            _ => good,
        };
        match fits {
            false => Status::INVALID_FIELD,
            true if id == 7 && queues => Status::SEQUENCE_ERROR,
            true => Status::SUCCESS,
        }
    }

    pub(crate) fn set_feature(&mut self, id: u8, nsid: u32, cdw11: u32, save: bool) -> Done {
        let (bytes, good) = World::feature_data(id, cdw11, nsid);
        let prp = if bytes.is_empty() {
            None
        } else {
            let data =
                Data::contiguous(&self.memory, bytes.len(), 4092).map_err(|e| e.to_string())?;
            data.write(&bytes);
            Some((data.prp().map_err(|e| e.to_string())?, data))
        };
        let pointers = prp.as_ref().map_or(Prp::raw(0, 0), |(prp, _)| Prp::raw(prp.prp1, prp.prp2));
        let word = u32::from(save) << 31 | u32::from(id);
        let entry = Entry::new(0x09).nsid(nsid).word(10, word).word(11, cdw11).prp(&pointers);
        let code = self.set_code(id, nsid, cdw11, save, good);
        if id == 6 && cdw11 == 0 && code == Status::SUCCESS {
            if self.later.values().any(|later| *later == Later::CacheOff) {
                return Ok(());
            }
            self.features.values.insert((6, 0), 0);
            return self.leave(entry, Later::CacheOff);
        }
        if code == Status::SUCCESS && matches!(id, 4 | 0x0b) {
            self.set_warning(id, cdw11);
        }
        let completion = self.expect(entry, code)?;
        if code != Status::SUCCESS {
            return Ok(());
        }
        match id {
            4 | 0x0b => {}
            7 => {
                let wanted = (cdw11 & 0xffff).max(cdw11 >> 16) + 1;
                self.features.granted = wanted.min(u32::from(PAIRS)) as u16;
                let (found, expected) = (completion.dw0, counts(self.features.granted));
                ensure!(found == expected, "{found:#x} queues, not {expected:#x}");
            }
            8 => drop(self.features.values.insert((8, 0), cdw11 & 0xffff)),
            9 => drop(self.features.values.insert((9, cdw11 & 0xffff), cdw11 & 0x1_ffff)),
            0x0a => drop(self.features.values.insert((0x0a, 0), cdw11 & 1)),
            0x0f => drop(self.features.values.insert((0x0f, 0), cdw11.div_ceil(1000) * 1000)),
            0x0e | 0x16 => drop(self.features.data.insert(id, bytes)),
            0x81 => {
                let mut bytes = bytes;
                bytes.resize(16, 0);
                self.features.data.insert(id, bytes);
            }
            _ => drop(self.features.values.insert((id, 0), cdw11)),
        }
        Ok(())
    }

    /// A threshold, or whether warnings are wanted: the event that may follow
    /// may be there before the command is seen complete.
    fn set_warning(&mut self, id: u8, cdw11: u32) {
        match id {
            4 => self.features.values.insert((4, cdw11 & 1 << 20), cdw11 & 0xffff),
            _ => self.features.values.insert((id, 0), cdw11),
        };
        let warned = self.features.is_too_warm() && self.features.value(0x0b, 0) & 2 != 0;
        if warned && !self.features.warned {
            self.events.post(TEMPERATURE);
        }
        self.features.warned = warned;
    }
}
