// SPDX-License-Identifier: BSD-2-Clause

//! The guest's rings, and the commands that make and delete them.

use super::action::BadCreate;
use super::world::{Done, ENTRIES, Later, PAIRS, World, ensure};
use devhost::driver::{Buffer, Completion, CompletionQueue, Entry, Status, SubmissionQueue};
use devhost::rig;

/// A submission queue. What the guest may overwrite is told by the commands
/// that have ended: all entries before the last of these were taken.
pub(crate) struct Sq {
    pub ring: SubmissionQueue,
    pub cq: u16,
    pub submitted: u64,
    pub taken: u64,
    /// The last entry was the first half of a fused operation.
    pub half: bool,
}

pub(crate) struct Cq {
    pub ring: CompletionQueue,
}

impl Sq {
    pub(crate) fn new(ring: SubmissionQueue, cq: u16) -> Sq {
        Sq { ring, cq, submitted: 0, taken: 0, half: false }
    }

    pub(crate) fn room(&self) -> u64 {
        u64::from(self.ring.entries()) - 1 - (self.submitted - self.taken)
    }

    /// Puts an entry into the ring; its number.
    pub(crate) fn push(&mut self, entry: &Entry) -> u64 {
        self.ring.push(entry);
        self.submitted += 1;
        self.submitted - 1
    }

    /// Address of the entry `number`, if nothing newer is there.
    pub(crate) fn slot(&self, number: u64) -> Option<u64> {
        let entries = u64::from(self.ring.entries());
        let at = self.ring.address() + number % entries * 64;
        (self.submitted <= number + entries).then_some(at)
    }
}

impl World {
    pub(crate) fn new_rings(
        &mut self,
        id: u16,
        sizes: (u32, u32),
    ) -> Done<(SubmissionQueue, CompletionQueue)> {
        let sq = self.memory.alloc(SubmissionQueue::bytes(sizes.0)).map_err(|e| e.to_string())?;
        let cq = self.memory.alloc(CompletionQueue::bytes(sizes.1)).map_err(|e| e.to_string())?;
        // The controller's phase does not depend on what was there.
        cq.fill(0xff);
        zero_phases(&cq);
        let (tail, head) = (doorbell(id, false), doorbell(id, true));
        let sq = SubmissionQueue::new(&self.function, id, sizes.0, sq, tail);
        let cq = CompletionQueue::new(&self.function, id, sizes.1, cq, head, None);
        Ok((sq, cq))
    }

    /// Takes up to `most` completions off queue `id`.
    pub(crate) fn poll(&mut self, id: u16, most: u32) -> Done {
        let mut taken = 0;
        while taken < most {
            let Some(completion) = self.pop(id) else { break };
            taken += 1;
            self.settle(completion)?;
        }
        if taken > 0
            && let Some(cq) = &self.cqs[usize::from(id)]
        {
            cq.ring.ring();
        }
        Ok(())
    }

    /// The next completion of queue `id`; what it leaves is of no use.
    pub(crate) fn pop(&mut self, id: u16) -> Option<Completion> {
        let cq = self.cqs[usize::from(id)].as_mut()?;
        let (at, phase) = (cq.ring.address() + u64::from(cq.ring.head) * 16, cq.ring.phase);
        let completion = cq.ring.pop()?;
        let mut junk = [0xa5u8; 16];
        junk[14] = junk[14] & !1 | u8::from(phase);
        self.machine.write(at, &junk);
        Some(completion)
    }

    fn granted(&self) -> u16 {
        self.features.granted
    }

    fn create_code(&self, id: u16, size: u16, exists: bool, bad: BadCreate) -> Option<u16> {
        let size = if let BadCreate::Size(size) = bad { size } else { size };
        let id = if let BadCreate::Id(id) = bad { id } else { id };
        if id == 0 || id > self.granted() || exists {
            return Some(Status::INVALID_QUEUE_ID);
        }
        if size == 0 || u32::from(size) >= ENTRIES {
            return Some(Status::INVALID_QUEUE_SIZE);
        }
        match bad {
            BadCreate::Scattered => Some(Status::INVALID_FIELD),
            BadCreate::Address => Some(Status::PRP_OFFSET_INVALID),
            _ => None,
        }
    }

    pub(crate) fn create_cq(&mut self, id: u16, size: u16, vector: u16, bad: BadCreate) -> Done {
        let used = if let BadCreate::Id(id) = bad { id } else { id };
        let exists = self.cqs.get(usize::from(used)).is_some_and(Option::is_some);
        let code = self.create_code(id, size, exists, bad).or(match bad {
            BadCreate::Vector => Some(Status::INVALID_VECTOR),
            BadCreate::NoMemory => Some(Status::DATA_TRANSFER_ERROR),
            _ => None,
        });
        let entries = u32::from(size) + 1;
        let (_, cq) = self.new_rings(id, (2, entries))?;
        let vector = if bad == BadCreate::Vector { PAIRS + 1 } else { vector };
        let (address, size_z, flags) = raw(bad, cq.address(), size, 3);
        let entry = rig::create_cq(used, size_z, address, vector, flags);
        self.expect(entry, code.unwrap_or(Status::SUCCESS))?;
        if code.is_none() {
            self.cqs[usize::from(id)] = Some(Cq { ring: cq });
        }
        Ok(())
    }

    pub(crate) fn create_sq(&mut self, id: u16, cq: u16, size: u16, bad: BadCreate) -> Done {
        let used = if let BadCreate::Id(id) = bad { id } else { id };
        let exists = self.sqs.get(usize::from(used)).is_some_and(Option::is_some);
        let there = self.cqs.get(usize::from(cq)).is_some_and(Option::is_some);
        let code = self.create_code(id, size, exists, bad).or(match cq {
            cq if cq == 0 || cq > self.granted() => Some(Status::INVALID_QUEUE_ID),
            _ if !there => Some(Status::CQ_INVALID),
            _ if bad == BadCreate::NoMemory => Some(Status::DATA_TRANSFER_ERROR),
            _ => None,
        });
        let (sq, _) = self.new_rings(id, (u32::from(size) + 1, 2))?;
        let (address, size_z, flags) = raw(bad, sq.address(), size, 1);
        let entry = rig::create_sq(used, size_z, address, cq, flags);
        self.expect(entry, code.unwrap_or(Status::SUCCESS))?;
        if code.is_none() {
            self.sqs[usize::from(id)] = Some(Sq::new(sq, cq));
        }
        Ok(())
    }

    /// Commands that were not fetched go with their queue; the others end
    /// before it does.
    pub(crate) fn delete_sq(&mut self, id: u16) -> Done {
        let entry = Entry::new(0x00).word(10, u32::from(id));
        let cq = match self.sqs.get(usize::from(id)) {
            Some(Some(sq)) if id != 0 => sq.cq,
            _ => return self.expect(entry, Status::INVALID_QUEUE_ID).map(drop),
        };
        for flight in self.flights.values_mut().filter(|flight| flight.sq == id) {
            flight.closing = true;
        }
        // If it ends while the store holds a command of the queue, that one's
        // completion comes later, and nobody waits for it.
        self.leave(entry, Later::Deletion)?;
        if self.later.values().any(|later| *later == Later::Deletion) {
            self.release();
        }
        self.until("a deletion", |world| {
            world.poll(0, u32::MAX)?;
            Ok(!world.later.values().any(|later| *later == Later::Deletion))
        })?;
        self.poll(cq, u32::MAX)?;
        let dropped: Vec<_> = self.flights.keys().filter(|key| key.0 == id).copied().collect();
        for key in dropped {
            if let Some(flight) = self.flights.remove(&key) {
                self.cancel(&flight);
            }
        }
        self.sqs[usize::from(id)] = None;
        Ok(())
    }

    pub(crate) fn delete_cq(&mut self, id: u16) -> Done {
        let exists = id != 0 && self.cqs.get(usize::from(id)).is_some_and(Option::is_some);
        let used = self.sqs.iter().skip(1).flatten().any(|sq| sq.cq == id);
        let code = match (exists, used) {
            (false, _) => Status::INVALID_QUEUE_ID,
            (_, true) => Status::INVALID_QUEUE_DELETION,
            _ => Status::SUCCESS,
        };
        self.expect(Entry::new(0x04).word(10, u32::from(id)), code)?;
        if code == Status::SUCCESS {
            ensure!(self.pop(id).is_none(), "a completion that nobody waits for");
            self.cqs[usize::from(id)] = None;
        }
        Ok(())
    }
}

/// Address, size and flags of a Create command that is wrong in one way.
fn raw(bad: BadCreate, address: u64, size: u16, flags: u16) -> (u64, u16, u16) {
    match bad {
        BadCreate::Address => (address + 512, size, flags),
        BadCreate::NoMemory => (World::in_no_memory().prp1, size, flags),
        BadCreate::Scattered => (address, size, flags & !1),
        BadCreate::Size(size) => (address, size, flags),
        _ => (address, size, flags),
    }
}

/// Byte of BAR 0 where a doorbell is.
pub(crate) fn doorbell(id: u16, head: bool) -> u64 {
    0x1000 + 8 * u64::from(id) + if head { 4 } else { 0 }
}

fn zero_phases(ring: &Buffer) {
    let bytes = ring.to_vec();
    for at in (14..bytes.len()).step_by(16) {
        ring.write(at, &[bytes[at] & !1]);
    }
}
