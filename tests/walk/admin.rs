// SPDX-License-Identifier: BSD-2-Clause

//! Admin commands but for queues and features.

use super::action::{Target, Wrong};
use super::disk::ZEROES;
use super::events::NAMESPACE;
use super::expect::FORMAT_IN_PROGRESS;
use super::world::{BLOCKS, Done, Later, World, ensure};
use devhost::driver::{Completion, Data, Entry, Status};

pub(crate) const NOT_NAMESPACE_SPECIFIC: u16 = 0x10f;
const INVALID_FORMAT: u16 = 0x10a;
const KNOWN: [u8; 13] = [0, 1, 2, 4, 5, 6, 8, 9, 0xa, 0xc, 0x18, 0x7c, 0x80];

/// Log pages and their sizes.
const PAGES: [(u8, usize); 8] = [
    (0x00, 1024),
    (0x01, 4096),
    (0x02, 512),
    (0x03, 512),
    (0x04, 4096),
    (0x05, 4096),
    (0x12, 1024),
    (0x13, 1024),
];

impl World {
    pub(crate) fn formatting(&self) -> bool {
        self.later.values().any(|later| matches!(later, Later::Format { .. }))
    }

    /// An admin command has ended.
    pub(crate) fn settle_admin(&mut self, completion: Completion) -> Done {
        self.judge_error(&completion).map_err(|what| format!("{completion:?}: {what}"))?;
        if let Some(at) = self.events.held.iter().position(|cid| *cid == completion.cid) {
            return self.settle_event(at, &completion);
        }
        if let Some(later) = self.later.remove(&completion.cid) {
            return self
                .settle_later(later, completion.status.code())
                .map_err(|what| format!("{later:?}, {completion:?}: {what}"));
        }
        match &mut self.answer {
            Some((cid, answer @ None)) if *cid == completion.cid => *answer = Some(completion),
            _ => return Err(format!("nobody waits for {completion:?}")),
        }
        if let Some(page) = self.reading.take()
            && completion.status.is_success()
        {
            self.events.read(page);
        }
        // Admin commands are taken in order, and one is waited for at a time.
        if let Some(sq) = &mut self.sqs[0] {
            sq.taken = sq.submitted;
        }
        Ok(())
    }

    fn settle_later(&mut self, later: Later, code: u16) -> Done {
        let now = self.moment();
        let Later::Format { begun } = later else {
            let flush = later == Later::CacheOff;
            let expected =
                if flush && self.failing { Status::WRITE_FAULT } else { Status::SUCCESS };
            ensure!(code == expected, "not {expected:#x}");
            return Ok(());
        };
        self.formatted = now;
        match code {
            Status::SUCCESS if !self.failing => {
                self.disk.end(&[ZEROES], begun, now, 0, self.blocks)
            }
            Status::WRITE_FAULT if self.failing => self.disk.cancel(begun, 0, self.blocks),
            // Ended by a shutdown, with some of it done or none.
            Status::ABORTED_BY_REQUEST => self.disk.abandon(begun, now, 0, self.blocks),
            _ => return Err("a format".to_owned()),
        }
        Ok(())
    }

    pub(crate) fn format(&mut self, nsid: u32, cdw10: u32) -> Done {
        let entry = Entry::new(0x80).nsid(nsid).word(10, cdw10);
        let code = match (nsid, cdw10) {
            (1 | u32::MAX, 0 | 0x200) => Status::SUCCESS,
            (1 | u32::MAX, 0x400) => Status::INVALID_FIELD,
            (1 | u32::MAX, _) => INVALID_FORMAT,
            _ => Status::INVALID_NAMESPACE,
        };
        if code != Status::SUCCESS {
            return self.expect(entry, code).map(drop);
        }
        if self.formatting() {
            // It may have ended by now, and must not begin again.
            if self.holding && !self.flights.is_empty() {
                return Ok(());
            }
            self.drain()?;
        }
        let begun = self.moment();
        self.disk.begin(ZEROES, begun, 0, self.blocks);
        self.leave(entry, Later::Format { begun })?;
        // With the store held, the second one comes too early for sure.
        if self.formatting() && self.holding && !self.passing && self.later.len() == 1 {
            let second = Entry::new(0x80).nsid(nsid).word(10, cdw10);
            self.expect(second, FORMAT_IN_PROGRESS)?;
        }
        Ok(())
    }

    pub(crate) fn identify(
        &mut self,
        cns: u8,
        nsid: u32,
        controller: u16,
        csi: u8,
        wrong: Wrong,
    ) -> Done {
        let (data, mut prp) = self.room(4096)?;
        match wrong {
            Wrong::LowBits => prp.prp1 |= 1,
            Wrong::NoMemory => prp = World::in_no_memory(),
            _ => {}
        }
        let entry = Entry::new(0x06)
            .nsid(nsid)
            .prp(&prp)
            .word(10, u32::from(controller) << 16 | u32::from(cns))
            .word(11, u32::from(csi) << 24);
        let active = if nsid == 1 { Status::SUCCESS } else { Status::INVALID_NAMESPACE };
        let list = if nsid < 0xffff_fffe { Status::SUCCESS } else { Status::INVALID_NAMESPACE };
        let code = match cns {
            5..=7 if csi != 0 => Status::INVALID_FIELD,
            0 | 3 | 5 | 8 | 0x11 | 0x12 => active,
            2 | 7 | 0x10 => list,
            1 | 6 | 0x13 => Status::SUCCESS,
            0x1c if matches!(controller, 0 | 0xffff) => Status::SUCCESS,
            _ => Status::INVALID_FIELD,
        };
        let code = match (code, wrong) {
            (Status::SUCCESS, Wrong::LowBits) => Status::PRP_OFFSET_INVALID,
            (Status::SUCCESS, Wrong::NoMemory) => Status::DATA_TRANSFER_ERROR,
            _ => code,
        };
        self.expect(entry, code)?;
        let bytes = data.to_vec();
        if code != Status::SUCCESS {
            ensure!(bytes.iter().all(|byte| *byte == 0xee), "a failed command wrote");
            return Ok(());
        }
        ensure!(bytes[4000] == 0, "not all of the structure was written");
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let (found, expected) = match cns {
            0 | 0x11 => (long(0), self.blocks),
            2 | 7 | 0x10 => (long(0), u64::from(nsid == 0)),
            0x12 | 0x13 => (long(0), u64::from(controller == 0)),
            0x1c => (long(0), 1),
            1 => (u64::from(bytes[77]), 9),
            _ => return Ok(()),
        };
        ensure!(found == expected, "found {found:#x}, not {expected:#x}");
        Ok(())
    }

    pub(crate) fn log(
        &mut self,
        page: u8,
        nsid: u32,
        offset: u64,
        dwords_z: u32,
        retain: bool,
    ) -> Done {
        let size = PAGES.iter().find(|(id, _)| *id == page).map(|(_, size)| *size);
        let len = (u64::from(dwords_z) + 1) * 4;
        let code = match (size, nsid) {
            (None, _) => Status::INVALID_LOG_PAGE,
            (Some(_), 0 | u32::MAX) | (Some(512), 1) if page != 3 || nsid != 1 => Status::SUCCESS,
            (Some(_), 0 | u32::MAX) => Status::SUCCESS,
            (Some(512), 2..) if page == 2 => Status::INVALID_NAMESPACE,
            _ => Status::INVALID_FIELD,
        };
        let code = match (code, size) {
            (Status::SUCCESS, Some(size)) if len <= 2 << 20 && offset.is_multiple_of(4) => {
                if offset <= size as u64 { Status::SUCCESS } else { Status::INVALID_FIELD }
            }
            (Status::SUCCESS, _) => Status::INVALID_FIELD,
            _ => code,
        };
        let (data, prp) = self.room(len.min(2 << 20) as usize)?;
        let entry = Entry::new(0x02)
            .nsid(nsid)
            .prp(&prp)
            .word(10, (dwords_z & 0xffff) << 16 | u32::from(retain) << 15 | u32::from(page))
            .word(11, dwords_z >> 16)
            .long(12, offset);
        self.reading = (!retain).then_some(page);
        self.expect(entry, code)?;
        if code != Status::SUCCESS {
            return Ok(());
        }
        let bytes = data.to_vec();
        let inside = (size.unwrap_or(0) - offset as usize).min(bytes.len());
        ensure!(bytes[inside..].iter().all(|byte| *byte == 0), "something past the page's end");
        if offset == 0 && bytes.len() >= 4 {
            let word = u32::from_le_bytes(bytes[..4].try_into().expect("4 bytes"));
            match page {
                0 => ensure!(word == 1, "{word:#x}"),
                2 => {
                    let warning = word & 0xff;
                    let expected = u32::from(self.features.is_too_warm()) << 1;
                    ensure!(warning == expected, "warning {warning:#x}, not {expected:#x}");
                }
                4 => ensure!(word == u32::from(self.resized), "changed namespaces: {word}"),
                5 => ensure!(word & 1 == 1, "{word:#x}"),
                _ => {}
            }
        }
        if !retain && page == 4 {
            self.resized = false;
        }
        Ok(())
    }

    pub(crate) fn abort(&mut self, target: Target) -> Done {
        let keys: Vec<_> = self
            .flights
            .iter()
            .filter(|(_, flight)| matches!(flight.half, super::io::Half::None))
            .map(|(key, _)| *key)
            .collect();
        let (sq, cid) = match target {
            Target::InFlight(which) if !keys.is_empty() => keys[usize::from(which) % keys.len()],
            Target::Event(which) if !self.events.held.is_empty() => {
                (0, self.events.held[usize::from(which) % self.events.held.len()])
            }
            Target::InFlight(_) | Target::Event(_) => (0xffff, 1),
            Target::Unknown(sq, cid) if self.flights.contains_key(&(sq, cid)) => (0xffff, 0),
            Target::Unknown(0, cid) if self.events.held.contains(&cid) => (0xffff, 0),
            Target::Unknown(sq, cid) => (sq, cid),
        };
        let completion =
            self.expect(Entry::new(0x08).word(10, u32::from(cid) << 16 | u32::from(sq)), 0)?;
        ensure!(completion.dw0 <= 1, "result {:#x}", completion.dw0);
        if completion.dw0 == 1 {
            return Ok(());
        }
        if sq == 0 {
            ensure!(!self.events.held.contains(&cid), "an event request was not aborted");
            return Ok(());
        }
        let Some(flight) = self.flights.get_mut(&(sq, cid)) else {
            return Err("what is not there was aborted".to_owned());
        };
        flight.aborted = true;
        // Its completion came before that of the Abort.
        let cq = self.sqs[usize::from(sq)].as_ref().map_or(0, |sq| sq.cq);
        self.poll(cq, u32::MAX)?;
        ensure!(!self.flights.contains_key(&(sq, cid)), "aborted, and no completion");
        Ok(())
    }

    /// Opcodes that are not there, and flags that admin commands do not take.
    pub(crate) fn refused(&mut self, opcode: u8, flags: u8) -> Done {
        let code = match opcode {
            _ if flags != 0 => Status::INVALID_FIELD,
            // Identify with CNS FFh.
            0x06 => Status::INVALID_FIELD,
            _ if KNOWN.contains(&opcode) => return Ok(()),
            _ => Status::INVALID_OPCODE,
        };
        self.expect(Entry::new(opcode).flags(flags).nsid(1).word(10, 0xff), code).map(drop)
    }

    /// The store takes another size while nothing is under way.
    pub(crate) fn resize(&mut self, quarters: u64) -> Done {
        self.drain()?;
        let blocks = BLOCKS - quarters * BLOCKS / 4;
        if blocks == self.blocks {
            return Ok(());
        }
        self.gate.resize(blocks * 512);
        // Before it is told: it may be told at once.
        if self.features.wants_notices() {
            self.events.post(NAMESPACE);
        }
        self.bare.controller().store_resized();
        self.resized = true;
        self.blocks = blocks;
        let data = Data::new(&self.memory, 4096).map_err(|e| e.to_string())?;
        let prp = data.prp().map_err(|e| e.to_string())?;
        let entry = Entry::new(0x06).nsid(1).prp(&prp);
        self.until("a new size", |world| {
            world.expect(entry, Status::SUCCESS)?;
            Ok(data.to_vec()[..8] == blocks.to_le_bytes())
        })
    }

    /// What the SMART log has counted, with nothing in flight.
    pub(crate) fn check_counts(&mut self) -> Done {
        let (data, prp) = self.room(512)?;
        let entry = Entry::new(0x02).prp(&prp).word(10, 127 << 16 | 1 << 15 | 2);
        self.expect(entry, Status::SUCCESS)?;
        let bytes = data.to_vec();
        let counts = self.counts;
        for (what, at, (least, most)) in [
            ("errors", 176, counts.errors),
            ("reads", 64, counts.reads),
            ("writes", 80, counts.writes),
        ] {
            let found = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
            ensure!((least..=most).contains(&found), "{found} {what}, not {least} to {most}");
        }
        Ok(())
    }
}
