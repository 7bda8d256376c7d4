// SPDX-License-Identifier: BSD-2-Clause

//! I/O commands: made, submitted, and judged when they end.

use super::action::{Io, Op, Place, Wrong};
use super::bend::Bend;
use super::disk::{self, BLOCK, Moment, Tag, ZEROES};
use super::expect::{FORMAT_IN_PROGRESS, Target, do_not_retry};
use super::world::{Done, World, ensure};
use devhost::driver::{Buffer, Completion, Data, Entry, Prp, Status, io_opcode};

const FIRST: u8 = 1;
const SECOND: u8 = 2;
pub(crate) const SGL_BLOCK: u8 = 0x00;
const SGL_BUCKET: u8 = 0x10;
const SGL_LAST: u8 = 0x30;
pub(crate) const SGL_KEYED: u8 = 0x40;

/// What a command does, if it succeeds.
#[derive(Debug)]
pub(crate) enum Effect {
    Nothing,
    /// Reads, but for a last block that may go into a bit bucket.
    Read {
        lba: u64,
        blocks: u64,
    },
    Compare {
        lba: u64,
        data: Vec<u8>,
    },
    /// Changes ranges of blocks. A buffer that changed meanwhile gives it a
    /// second tag.
    Change {
        tags: Vec<Tag>,
        ranges: Vec<(u64, u64)>,
    },
}

/// Which half of a fused operation a command is.
#[derive(Debug)]
pub(crate) enum Half {
    None,
    /// The other half's identifier.
    First(u16),
    /// Whether the first has succeeded.
    Second(Option<bool>),
    /// Either of two that are no operation, as long as both are there.
    Unfit,
}

/// A command in flight.
pub(crate) struct Flight {
    pub sq: u16,
    pub number: u64,
    pub begun: Moment,
    pub code: u16,
    pub effect: Effect,
    pub half: Half,
    pub counted: Counted,
    /// An Abort said that it was aborted.
    pub aborted: bool,
    /// Its queue is being deleted, or all are being shut down.
    pub closing: bool,
    /// The guest's data, and what else has to stay.
    pub data: Option<Data>,
    pub lists: Vec<Keep>,
    /// Its list was changed.
    pub bend: Option<Bend>,
}

impl Flight {
    /// Whether some of it may be done and the rest not.
    fn has_parts(&self) -> bool {
        matches!(&self.effect, Effect::Change { ranges, .. } if ranges.len() > 1)
    }
}

/// What the SMART log counts it as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    Read,
    Write,
    No,
}

pub(crate) enum Keep {
    Prp(Prp),
    Buffer(Buffer),
}

fn text(error: devhost::driver::Error) -> String {
    error.to_string()
}

impl World {
    pub(crate) fn submit(&mut self, id: u16, commands: &[Io]) -> Done {
        if self.sqs[usize::from(id)].is_none() {
            return Ok(());
        }
        for io in commands {
            if let Op::Fused { same, matching } = io.op {
                self.submit_fused(id, io, same, matching)?;
            } else {
                self.submit_one(id, io)?;
            }
        }
        if let Some(sq) = &self.sqs[usize::from(id)] {
            sq.ring.ring();
        }
        Ok(())
    }

    fn entries_left(&self, id: u16) -> u64 {
        self.sqs[usize::from(id)].as_ref().map_or(0, super::queues::Sq::room)
    }

    fn submit_one(&mut self, id: u16, io: &Io) -> Done {
        let half = self.sqs[usize::from(id)].as_ref().is_some_and(|sq| sq.half);
        // Beside a first half, a second one would make an operation of both.
        if self.entries_left(id) == 0 || half && io.wrong == Wrong::Fuse(SECOND) {
            return Ok(());
        }
        let flags = if let Wrong::Fuse(fuse) = io.wrong { fuse } else { 0 };
        let (code, begun) = (self.code_of(io), self.moment());
        let (entry, mut flight) = self.make(id, io, begun, self.target(io))?;
        flight.code = code;
        if code != Status::SUCCESS {
            self.cancel(&flight);
            flight.effect = Effect::Nothing;
        }
        self.push(id, entry, flags, flight).map(drop)
    }

    /// Compare and Write. What is wrong is wrong with the Compare.
    fn submit_fused(&mut self, id: u16, io: &Io, same: bool, matching: bool) -> Done {
        let cq = self.sqs[usize::from(id)].as_ref().map_or(0, |sq| sq.cq);
        let alone = self.cqs[usize::from(cq)].as_ref().is_none_or(|cq| cq.ring.entries() <= 2);
        if self.entries_left(id) < 2
            || matches!(io.wrong, Wrong::Fuse(_))
            || io.blocks == 1 && !matching
        {
            return Ok(());
        }
        let target = self.target(io);
        let compare = Io { op: Op::Compare { same }, ..*io };
        let begun = self.moment();
        let (first, mut comparing) = self.make(id, &compare, begun, target)?;
        let write = Io { op: Op::Write, wrong: Wrong::Nothing, ..*io };
        // Not the same blocks: one less.
        let second = Target { blocks: target.blocks - u64::from(!matching), ..target };
        let begun = self.moment();
        let (second, mut writing) = self.make(id, &write, begun, second)?;
        let code = self.code_of_half(&compare);
        let codes = match (alone, matching, code) {
            // A completion queue that never has room for two.
            (true, _, _) => (Status::ABORTED_MISSING_FUSED, Status::ABORTED_MISSING_FUSED),
            (_, false, _) => (Status::INVALID_FIELD, Status::INVALID_FIELD),
            (_, true, Status::SUCCESS) => (Status::SUCCESS, Status::SUCCESS),
            (_, true, code) => (code, Status::ABORTED_FAILED_FUSED),
        };
        (comparing.code, writing.code) = codes;
        if codes.0 != Status::SUCCESS {
            self.cancel(&writing);
            (comparing.effect, writing.effect) = (Effect::Nothing, Effect::Nothing);
        }
        (comparing.half, writing.half) = match !alone && matching {
            true => (Half::None, Half::Second(None)),
            false => (Half::Unfit, Half::Unfit),
        };
        let first_cid = self.push(id, first, FIRST, comparing)?;
        let second_cid = self.push(id, second, SECOND, writing)?;
        if !alone
            && matching
            && let Some(flight) = self.flights.get_mut(&(id, first_cid))
        {
            flight.half = Half::First(second_cid);
        }
        Ok(())
    }

    fn push(&mut self, id: u16, entry: Entry, fuse: u8, mut flight: Flight) -> Done<u16> {
        let cid = self.new_cid();
        let sq = self.sqs[usize::from(id)].as_mut().ok_or("no such queue")?;
        // Byte 1 of the entry.
        let flags = (u16::from_le_bytes([entry.to_bytes()[0], entry.to_bytes()[1]]) >> 8) as u8;
        flight.number = sq.push(&entry.flags(flags | fuse).cid(cid));
        sq.half = fuse == FIRST;
        self.flights.insert((id, cid), flight);
        Ok(cid)
    }

    /// A command, and what it does; a change is known to the disk at once.
    fn make(&mut self, id: u16, io: &Io, begun: Moment, target: Target) -> Done<(Entry, Flight)> {
        let Target { nsid, lba, blocks } = target;
        let (opcode, counted) = match io.op {
            Op::Read => (io_opcode::READ, Counted::Read),
            Op::Write | Op::Fused { .. } => (io_opcode::WRITE, Counted::Write),
            Op::Compare { .. } => (io_opcode::COMPARE, Counted::Read),
            Op::WriteZeroes { .. } => (io_opcode::WRITE_ZEROES, Counted::No),
            Op::Verify => (io_opcode::VERIFY, Counted::No),
            Op::Flush { .. } => (io_opcode::FLUSH, Counted::No),
            Op::Deallocate { .. } => (io_opcode::DATASET_MANAGEMENT, Counted::No),
            Op::Unknown(opcode) => (opcode, Counted::No),
        };
        let mut flight = Flight {
            sq: id,
            number: 0,
            begun,
            code: Status::SUCCESS,
            effect: Effect::Nothing,
            half: Half::None,
            counted,
            aborted: false,
            closing: false,
            data: None,
            lists: Vec::new(),
            bend: None,
        };
        let mut entry = Entry::on_blocks(opcode, nsid, lba, blocks.min(65536) as u32);
        if let Op::Deallocate { hint, ranges, gap } = io.op {
            entry = self.deallocation(&mut flight, io, (hint, ranges, gap), nsid)?;
        } else if let Op::Flush { all } = io.op {
            entry = Entry::flush(if all && nsid == 1 { u32::MAX } else { nsid });
        } else if io.fua {
            entry = entry.fua();
        }
        if matches!(io.op, Op::WriteZeroes { deallocate: true }) {
            let word = (blocks - 1) as u32 | 1 << 25 | if io.fua { 1 << 30 } else { 0 };
            entry = entry.word(12, word);
        }
        // Only what can succeed has blocks to speak of.
        let inside = lba.checked_add(blocks).is_some_and(|end| end <= self.blocks);
        let contents = |world: &World, tag: Option<Tag>| -> Vec<u8> {
            let tag_at = |at| tag.unwrap_or_else(|| world.disk.likely(at));
            (lba..lba + blocks).flat_map(|at| disk::block(tag_at(at), at)).collect()
        };
        match io.op {
            Op::Read if inside => {
                flight.effect = Effect::Read { lba, blocks };
                entry = self.place(entry, &mut flight, io, blocks as usize * BLOCK, None)?;
            }
            Op::Compare { same } if inside => {
                let mut data = contents(self, None);
                if !same && let Some(last) = data.last_mut() {
                    *last ^= 0x80;
                }
                entry = self.place(entry, &mut flight, io, data.len(), Some(&data))?;
                flight.effect = Effect::Compare { lba, data };
            }
            Op::Write if inside => {
                let tag = self.new_tag();
                let data = contents(self, Some(tag));
                entry = self.place(entry, &mut flight, io, data.len(), Some(&data))?;
                self.disk.begin(tag, begun, lba, blocks);
                flight.effect = Effect::Change { tags: vec![tag], ranges: vec![(lba, blocks)] };
            }
            Op::WriteZeroes { .. } if inside => {
                self.disk.begin(ZEROES, begun, lba, blocks);
                flight.effect = Effect::Change { tags: vec![ZEROES], ranges: vec![(lba, blocks)] };
            }
            _ => {}
        }
        if let Wrong::Psdt(psdt) = io.wrong {
            entry = entry.flags(psdt << 6);
        }
        Ok((entry, flight))
    }

    /// A list of ranges: apart, meeting, or over each other.
    fn deallocation(
        &mut self,
        flight: &mut Flight,
        io: &Io,
        (hint, count, gap): (bool, u8, u8),
        nsid: u32,
    ) -> Done<Entry> {
        let mut list = Vec::new();
        let mut ranges = Vec::new();
        let (mut lba, len) = (u64::from(io.lba) % 64, u64::from(io.blocks % 8));
        for index in 0..=u64::from(count) {
            let blocks = if index % 3 == 2 { 0 } else { len + 1 };
            ranges.push((lba, blocks));
            // Some go back over what was said.
            lba = (lba + len + u64::from(gap)).saturating_sub(index % 5) % (self.blocks / 2);
        }
        match io.wrong {
            Wrong::End => ranges.push((self.blocks, 1)),
            Wrong::FarEnd => ranges.push((u64::MAX, u64::from(u32::MAX))),
            _ => {}
        }
        ranges.truncate(256);
        if matches!(io.wrong, Wrong::End | Wrong::FarEnd) && ranges.len() == 256 {
            ranges[255] = (self.blocks, 1);
        }
        for (lba, blocks) in &ranges {
            list.extend([0; 4]);
            list.extend((*blocks as u32).to_le_bytes());
            list.extend(lba.to_le_bytes());
        }
        let entry = Entry::new(io_opcode::DATASET_MANAGEMENT)
            .nsid(nsid)
            .word(10, (ranges.len() - 1) as u32)
            .word(11, if hint { 0x3 } else { 0x4 });
        let entry = self.place(entry, flight, io, list.len(), Some(&list))?;
        if !hint && !matches!(io.wrong, Wrong::End | Wrong::FarEnd) {
            ranges.retain(|(_, blocks)| *blocks > 0);
            // Twice the same block is once.
            for (lba, blocks) in &ranges {
                self.disk.begin(ZEROES, flight.begun, *lba, *blocks);
            }
            flight.effect = Effect::Change { tags: vec![ZEROES], ranges };
        }
        Ok(entry)
    }

    /// Points a command to `len` bytes, which are `contents`.
    fn place(
        &self,
        entry: Entry,
        flight: &mut Flight,
        io: &Io,
        len: usize,
        contents: Option<&[u8]>,
    ) -> Done<Entry> {
        let fill = |data: &Data| {
            data.fill(0xee);
            contents.iter().for_each(|contents| data.write(contents));
        };
        let place = match io.wrong {
            Wrong::LowBits | Wrong::NoMemory => Place::Contiguous { offset: 0 },
            Wrong::SglType | Wrong::SglShort => Place::Sgl,
            _ => io.place,
        };
        let data = match place {
            Place::Contiguous { offset } => {
                Data::contiguous(&self.memory, len, usize::from(offset))
            }
            Place::Scattered { offset, .. } => {
                Data::scattered(&self.memory, len, usize::from(offset))
            }
            _ => Data::new(&self.memory, len),
        };
        let data = data.map_err(text)?;
        fill(&data);
        let entry = match place {
            Place::Contiguous { .. } | Place::Scattered { .. } => {
                let at = if let Place::Scattered { list, .. } = place { list } else { 0 };
                let mut prp = data.prp_with_list_at(usize::from(at)).map_err(text)?;
                match io.wrong {
                    Wrong::LowBits => prp.prp1 |= 2,
                    Wrong::NoMemory => prp.prp1 = World::in_no_memory().prp1,
                    _ => {}
                }
                let entry = entry.prp(&prp);
                flight.lists.push(Keep::Prp(prp));
                entry
            }
            Place::Sgl => {
                let kind = if io.wrong == Wrong::SglType { SGL_KEYED } else { SGL_BLOCK };
                let short = if io.wrong == Wrong::SglShort { 1 } else { 0 };
                entry.sgl(kind, data.pages()[0], (len - short) as u32)
            }
            Place::SglList { pieces, bucket } => {
                let bucket = bucket && io.op == Op::Read && len > BLOCK;
                let list = self.sgl_list(data.pages()[0], len, usize::from(pieces), bucket)?;
                if bucket && let Effect::Read { blocks, .. } = &mut flight.effect {
                    *blocks -= 1;
                }
                let entry = entry.sgl(SGL_LAST, list.address(), list.to_vec().len() as u32);
                flight.lists.push(Keep::Buffer(list));
                entry
            }
        };
        flight.data = Some(data);
        Ok(entry)
    }

    /// `len` bytes in pieces; the last block may go nowhere.
    fn sgl_list(&self, address: u64, len: usize, pieces: usize, bucket: bool) -> Done<Buffer> {
        let end = if bucket { len - BLOCK } else { len };
        let mut bytes = Vec::new();
        let mut push = |kind: u8, address: u64, len: usize| {
            bytes.extend(address.to_le_bytes());
            bytes.extend((len as u32).to_le_bytes());
            bytes.extend([0, 0, 0, kind]);
        };
        let step = (end / pieces).max(4) / 4 * 4;
        let mut at = 0;
        for piece in 1..=pieces {
            let to = if piece == pieces { end } else { (at + step).min(end) };
            push(SGL_BLOCK, address + at as u64, to - at);
            at = to;
        }
        if bucket {
            push(SGL_BUCKET, 0, BLOCK);
        }
        let list = self.memory.alloc(bytes.len()).map_err(text)?;
        list.write(0, &bytes);
        Ok(list)
    }

    /// Changes the data of a write in flight.
    pub(crate) fn scribble(&mut self, which: usize) {
        let writes: Vec<_> = self
            .flights
            .iter()
            .filter(|(_, flight)| {
                flight.counted == Counted::Write && matches!(flight.effect, Effect::Change { .. })
            })
            .map(|(key, _)| *key)
            .collect();
        if writes.is_empty() {
            return;
        }
        let tag = self.new_tag();
        if let Some(flight) = self.flights.get_mut(&writes[which % writes.len()])
            && let Effect::Change { tags, ranges } = &mut flight.effect
            && let (Some(data), Some((lba, blocks))) = (&flight.data, ranges.first().copied())
        {
            self.disk.begin(tag, flight.begun, lba, blocks);
            tags.push(tag);
            let bytes: Vec<u8> = (lba..lba + blocks).flat_map(|at| disk::block(tag, at)).collect();
            data.write(&bytes);
        }
    }

    /// The command did what it does, or nothing, or some of it.
    pub(crate) fn abandon(&mut self, flight: &Flight, now: Moment) {
        if let Effect::Change { ranges, .. } = &flight.effect {
            for (lba, blocks) in ranges {
                self.disk.abandon(flight.begun, now, *lba, *blocks);
            }
        }
    }

    /// The command did nothing.
    pub(crate) fn cancel(&mut self, flight: &Flight) {
        if let Effect::Change { ranges, .. } = &flight.effect {
            for (lba, blocks) in ranges {
                self.disk.cancel(flight.begun, *lba, *blocks);
            }
        }
    }

    /// Judges a completion.
    pub(crate) fn settle(&mut self, completion: Completion) -> Done {
        if completion.sqid == 0 {
            return self.settle_admin(completion);
        }
        let key = (completion.sqid, completion.cid);
        let now = self.moment();
        let flight = self.flights.remove(&key).ok_or(format!("nobody waits for {completion:?}"))?;
        self.judge(&completion, flight, now).map_err(|what| format!("{completion:?}: {what}"))
    }

    /// What every completion that is an error has to say.
    pub(crate) fn judge_error(&mut self, completion: &Completion) -> Done {
        let (status, code) = (completion.status, completion.status.code());
        // What an Abort or a deletion has ended is nobody's error.
        let unlogged = matches!(code, Status::SUCCESS | Status::ABORTED_SQ_DELETED);
        ensure!(
            status.more() != unlogged || code == Status::ABORTED_BY_REQUEST,
            "More is {}",
            status.more()
        );
        ensure!(status.dnr() == do_not_retry(code), "DNR is {}", status.dnr());
        if status.more() {
            self.counts.errors.0 += 1;
            self.counts.errors.1 += 1;
        }
        Ok(())
    }

    fn judge(&mut self, completion: &Completion, mut flight: Flight, now: Moment) -> Done {
        let code = completion.status.code();
        self.judge_error(completion)?;
        ensure!(completion.dw0 == 0, "it has a result");
        ensure!(flight.aborted == (code == Status::ABORTED_BY_REQUEST), "aborted, or not");
        let formatting = self.formatting() || flight.begun <= self.formatted;
        let expected = match flight.half {
            Half::Second(None) => return Err("the second half came first".to_owned()),
            Half::Second(Some(false)) if !flight.aborted => Status::ABORTED_FAILED_FUSED,
            _ => flight.code,
        };
        let compared = matches!(flight.effect, Effect::Compare { .. });
        let fits = code == expected
            || flight.aborted
            || compared && code == Status::COMPARE_FAILURE
            || flight.closing && code == Status::ABORTED_SQ_DELETED
            || formatting && code == FORMAT_IN_PROGRESS
            || flight.bend.as_ref().is_some_and(|bend| bend.code == Some(code));
        ensure!(fits, "not {expected:#x}");
        if let Half::First(second) = flight.half
            && let Some(other) = self.flights.get_mut(&(flight.sq, second))
        {
            other.half = Half::Second(Some(code == Status::SUCCESS));
            if code == Status::ABORTED_SQ_DELETED {
                (other.half, other.code) = (Half::None, code);
            }
        }
        if let Effect::Compare { lba, data } = &flight.effect
            && matches!(code, Status::SUCCESS | Status::COMPARE_FAILURE)
        {
            let (equal, different) = self.disk.compare(data, *lba, flight.begun);
            let fits = if code == Status::SUCCESS { equal } else { different };
            ensure!(fits, "may be equal: {equal}, different: {different}");
        }
        if code == Status::SUCCESS {
            let count = match flight.counted {
                Counted::Read => &mut self.counts.reads,
                Counted::Write => &mut self.counts.writes,
                Counted::No => &mut (0, 0),
            };
            *count = (count.0 + 1, count.1 + 1);
            self.succeed(&flight, now)?;
        } else if code == Status::ABORTED_SQ_DELETED && flight.has_parts() {
            self.abandon(&flight, now);
        } else {
            self.cancel(&flight);
        }
        self.take_back(&mut flight, completion)
    }

    fn succeed(&mut self, flight: &Flight, now: Moment) -> Done {
        match &flight.effect {
            Effect::Read { lba, blocks } => {
                let bytes = flight.bytes_read()?;
                self.disk.check(&bytes[..*blocks as usize * BLOCK], *lba, flight.begun)?;
                ensure!(
                    bytes[*blocks as usize * BLOCK..].iter().all(|byte| *byte == 0xee),
                    "a bit bucket reached memory"
                );
            }
            Effect::Change { tags, ranges } => {
                for (lba, blocks) in ranges {
                    self.disk.end(tags, flight.begun, now, *lba, *blocks);
                }
            }
            Effect::Nothing | Effect::Compare { .. } => {}
        }
        Ok(())
    }

    /// The guest uses the entry and all before it again.
    fn take_back(&mut self, flight: &mut Flight, completion: &Completion) -> Done {
        let Some(sq) = self.sqs[usize::from(flight.sq)].as_mut() else { return Ok(()) };
        let entries = u64::from(sq.ring.entries());
        let step = (u64::from(completion.sqhd) + entries - sq.taken % entries) % entries;
        ensure!(sq.taken + step > flight.number, "its own entry is not free");
        sq.taken = sq.taken.max(flight.number + 1);
        if let Some(at) = sq.slot(flight.number) {
            self.machine.write(at, &[0xff; 64]);
        }
        Ok(())
    }
}
