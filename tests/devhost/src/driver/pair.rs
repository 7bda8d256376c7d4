// SPDX-License-Identifier: BSD-2-Clause

//! A submission queue with a completion queue of its own: submit, wait, and
//! notice what should not come.

use super::controller::describe;
use super::error::Error;
use super::function::Function;
use super::queue::{CompletionQueue, SubmissionQueue};
use super::wire::{Completion, Entry};
use crate::bhyve::Interrupts;
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How a driver learns of completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It looks again and again.
    Poll,
    /// It looks only after an interrupt of the queue's vector: one that gets
    /// lost is a time-out.
    Interrupt,
}

/// What became of a command identifier.
#[derive(Clone, Copy)]
enum Slot {
    Free,
    InFlight { opcode: u8 },
    Done(Completion),
}

struct Rings {
    sq: SubmissionQueue,
    cq: CompletionQueue,
    slots: Vec<Slot>,
    /// The identifier that was free for longest comes first.
    free: VecDeque<u16>,
    in_flight: usize,
    strays: Vec<Completion>,
    /// Interrupts that were raised before the last look at the queue.
    handled: u64,
}

/// A submission and a completion queue. Every method may be called from
/// several threads at once, unless it says otherwise.
pub struct QueuePair {
    function: Arc<dyn Function>,
    interrupts: Option<Arc<Interrupts>>,
    rings: Mutex<Rings>,
    id: u16,
    vector: Option<u16>,
    wait: Wait,
    limit: Duration,
}

impl QueuePair {
    /// Both queues must be known to the controller already. Waiting takes at
    /// most `limit`.
    pub fn new(
        function: &Arc<dyn Function>,
        interrupts: Option<Arc<Interrupts>>,
        sq: SubmissionQueue,
        cq: CompletionQueue,
        wait: Wait,
        limit: Duration,
    ) -> QueuePair {
        // More commands can be in flight than the queue has entries.
        let cids = sq.entries().clamp(64, 65535) as u16;
        let (id, vector) = (sq.id(), cq.vector);
        assert!(
            wait == Wait::Poll || (vector.is_some() && interrupts.is_some()),
            "queue {id} waits for interrupts and has no vector"
        );
        let handled = raised(interrupts.as_deref(), vector);
        let rings = Rings {
            sq,
            cq,
            slots: vec![Slot::Free; usize::from(cids)],
            free: (0..cids).collect(),
            in_flight: 0,
            strays: Vec::new(),
            handled,
        };
        let function = function.clone();
        QueuePair { function, interrupts, rings: Mutex::new(rings), id, vector, wait, limit }
    }

    /// Queue identifier.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// The vector of the completion queue.
    pub fn vector(&self) -> Option<u16> {
        self.vector
    }

    /// Number of entries of the submission queue.
    pub fn entries(&self) -> u32 {
        self.lock().sq.entries()
    }

    /// How many commands were submitted and not seen complete.
    pub fn in_flight(&self) -> usize {
        self.lock().in_flight
    }

    /// Completions that nobody waited for.
    pub fn strays(&self) -> Vec<Completion> {
        self.lock().strays.clone()
    }

    /// Works on the rings themselves, for tests that do it wrong. What is
    /// pushed here has no identifier of this queue: its completion counts as
    /// a stray, unless it is popped here as well.
    pub fn raw<T>(&self, work: impl FnOnce(&mut SubmissionQueue, &mut CompletionQueue) -> T) -> T {
        let mut rings = self.lock();
        let rings = &mut *rings;
        work(&mut rings.sq, &mut rings.cq)
    }

    /// Submits `entry` under an identifier of its own, which is returned.
    pub fn submit(&self, entry: Entry) -> Result<u16, Error> {
        Ok(self.submit_all(&[entry])?[0])
    }

    /// Submits all `entries` with one ring of the doorbell, or more where the
    /// queue is too small; returns their identifiers.
    pub fn submit_all(&self, entries: &[Entry]) -> Result<Vec<u16>, Error> {
        let mut cids = Vec::with_capacity(entries.len());
        let mut patience = Patience::new(self.limit);
        while cids.len() < entries.len() {
            let mut rings = self.lock();
            let before = cids.len();
            while let Some(entry) = entries.get(cids.len()) {
                let Some(cid) = rings.push(entry) else { break };
                cids.push(cid);
            }
            if cids.len() > before {
                rings.sq.ring();
                patience = Patience::new(self.limit);
                continue;
            }
            rings.poll();
            drop(rings);
            if patience.is_over() {
                return Err(Error::Timeout(self.dump("no room to submit")));
            }
            patience.pause();
        }
        Ok(cids)
    }

    /// Takes what has completed off the queue and rings its doorbell; returns
    /// how many there were.
    pub fn poll(&self) -> usize {
        self.lock().poll()
    }

    /// The completion of `cid`, if it was seen; the identifier is free then.
    pub fn take(&self, cid: u16) -> Option<Completion> {
        self.lock().take(cid)
    }

    /// Waits for the completion of `cid`, whatever its status.
    pub fn wait(&self, cid: u16) -> Result<Completion, Error> {
        self.wait_within(cid, self.limit)
    }

    /// As [`QueuePair::wait`], for `limit` at most.
    pub fn wait_within(&self, cid: u16, limit: Duration) -> Result<Completion, Error> {
        let mut patience = Patience::new(limit);
        loop {
            let over = patience.is_over();
            let mut rings = self.lock();
            let called = self.called(&mut rings);
            if called || over {
                rings.poll();
            }
            let taken = rings.take(cid);
            let stray = !rings.strays.is_empty();
            let handled = rings.handled;
            drop(rings);
            if stray {
                return Err(Error::Stray(self.dump("a completion that nobody waits for")));
            }
            match taken {
                Some(_) if over && !called => {
                    let what = format!("command {cid} completed, but no interrupt came");
                    return Err(Error::Timeout(self.dump(&what)));
                }
                Some(completion) => return Ok(completion),
                None if over => {
                    return Err(Error::Timeout(self.dump(&format!("command {cid}"))));
                }
                None => self.pause(&mut patience, handled),
            }
        }
    }

    /// Submits `entry` and waits for it, whatever its status.
    pub fn run(&self, entry: Entry) -> Result<Completion, Error> {
        let cid = self.submit(entry)?;
        self.wait(cid)
    }

    /// Submits `entry` and waits for it; every status but success is an error.
    pub fn execute(&self, entry: Entry) -> Result<Completion, Error> {
        let completion = self.run(entry)?;
        if completion.status.is_success() { Ok(completion) } else { Err(Error::Status(completion)) }
    }

    /// Runs `count` commands and keeps `depth` of them in flight: `make` is
    /// told each one's number and gives its entry, `done` is told the number
    /// and how it went. Nobody else may use the queue meanwhile.
    pub fn stream(
        &self,
        depth: usize,
        count: usize,
        mut make: impl FnMut(usize) -> Entry,
        mut done: impl FnMut(usize, Completion),
    ) -> Result<(), Error> {
        let mut rings = self.lock();
        assert_eq!(rings.in_flight, 0, "a stream has its queue for itself");
        let mut number_of = vec![usize::MAX; rings.slots.len()];
        let (mut made, mut finished) = (0, 0);
        let mut patience = Patience::new(self.limit);
        while finished < count {
            let before = made;
            while made < count && made - finished < depth && rings.has_room() {
                if let Some(cid) = rings.push(&make(made)) {
                    number_of[usize::from(cid)] = made;
                    made += 1;
                }
            }
            if made > before {
                rings.sq.ring();
            }
            let over = patience.is_over();
            let called = self.called(&mut rings);
            let mut popped = 0;
            while (called || over)
                && let Some(completion) = rings.cq.pop()
            {
                popped += 1;
                rings.settle(completion);
                if let Some(completion) = rings.take(completion.cid) {
                    done(number_of[usize::from(completion.cid)], completion);
                    finished += 1;
                }
            }
            if popped > 0 {
                rings.cq.ring();
            }
            let stray = !rings.strays.is_empty();
            if popped > 0 && called && !stray {
                patience = Patience::new(self.limit);
                continue;
            }
            if popped == 0 && !over && !stray {
                if made == before {
                    let handled = rings.handled;
                    drop(rings);
                    self.pause(&mut patience, handled);
                    rings = self.lock();
                }
                continue;
            }
            drop(rings);
            let what = format!("{finished} of {count} done, {popped} found at the last look");
            let dump = self.dump(&what);
            return Err(if stray { Error::Stray(dump) } else { Error::Timeout(dump) });
        }
        Ok(())
    }

    /// How things stand.
    pub fn dump(&self, what: &str) -> String {
        let mut text = String::new();
        let rings = self.lock();
        let (sq, cq) = (&rings.sq, &rings.cq);
        let _ = writeln!(text, "{what} (queue {})", self.id);
        let _ = writeln!(
            text,
            "  sq: {} entries at {:#x}, tail {}, head {}",
            sq.entries(),
            sq.address(),
            sq.tail,
            sq.head
        );
        let _ = writeln!(
            text,
            "  cq: {} entries at {:#x}, head {}, phase {}, next {:08x?}, vector {:?}, raised {}",
            cq.entries(),
            cq.address(),
            cq.head,
            u8::from(cq.phase),
            cq.words(),
            self.vector,
            self.raised()
        );
        let _ = write!(text, "  in flight: {}", rings.in_flight);
        let busy = rings.slots.iter().enumerate().filter_map(|(cid, slot)| match slot {
            Slot::InFlight { opcode } => Some((cid, opcode)),
            _ => None,
        });
        for (cid, opcode) in busy.take(16) {
            let _ = write!(text, " {cid}({opcode:#04x})");
        }
        for stray in rings.strays.iter().take(8) {
            let _ = write!(text, "\n  stray: {stray:?}");
        }
        drop(rings);
        let _ = write!(text, "\n{}", describe(self.function.as_ref()));
        text
    }

    fn raised(&self) -> u64 {
        raised(self.interrupts.as_deref(), self.vector)
    }

    /// Whether it is time to look at the completion queue.
    fn called(&self, rings: &mut Rings) -> bool {
        let raised = self.raised();
        let called = self.wait == Wait::Poll || raised > rings.handled;
        rings.handled = raised;
        called
    }

    /// Waits for what may bring the next completion.
    fn pause(&self, patience: &mut Patience, handled: u64) {
        match (self.wait, &self.interrupts, self.vector) {
            (Wait::Interrupt, Some(interrupts), Some(vector)) => {
                interrupts.wait(usize::from(vector), handled, patience.left());
            }
            _ => patience.pause(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn raised(interrupts: Option<&Interrupts>, vector: Option<u16>) -> u64 {
    match (interrupts, vector) {
        (Some(interrupts), Some(vector)) => interrupts.count(usize::from(vector)),
        _ => 0,
    }
}

impl Rings {
    fn has_room(&self) -> bool {
        self.sq.room() > 0 && !self.free.is_empty()
    }

    /// Puts `entry` into the ring; `None` if there is no room.
    fn push(&mut self, entry: &Entry) -> Option<u16> {
        if !self.has_room() {
            return None;
        }
        let cid = self.free.pop_front()?;
        self.slots[usize::from(cid)] = Slot::InFlight { opcode: entry.opcode() };
        self.in_flight += 1;
        self.sq.push(&entry.cid(cid));
        Some(cid)
    }

    fn poll(&mut self) -> usize {
        let mut popped = 0;
        while let Some(completion) = self.cq.pop() {
            popped += 1;
            self.settle(completion);
        }
        if popped > 0 {
            self.cq.ring();
        }
        popped
    }

    /// Gives a completion to its command.
    fn settle(&mut self, completion: Completion) {
        let head = u32::from(completion.sqhd);
        match self.slots.get_mut(usize::from(completion.cid)) {
            Some(slot @ Slot::InFlight { .. })
                if completion.sqid == self.sq.id() && head < self.sq.entries() =>
            {
                *slot = Slot::Done(completion);
                self.in_flight -= 1;
                self.sq.head = head;
            }
            _ => self.strays.push(completion),
        }
    }

    fn take(&mut self, cid: u16) -> Option<Completion> {
        let slot = self.slots.get_mut(usize::from(cid))?;
        let Slot::Done(completion) = *slot else { return None };
        *slot = Slot::Free;
        self.free.push_back(cid);
        Some(completion)
    }
}

/// Waiting that is short at first and ends.
pub(super) struct Patience {
    end: Instant,
    turns: u32,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Patience {
        Patience { end: Instant::now() + limit, turns: 0 }
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    pub(super) fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    pub(super) fn pause(&mut self) {
        self.turns = self.turns.saturating_add(1);
        match self.turns {
            0..=64 => std::hint::spin_loop(),
            65..=512 => thread::yield_now(),
            _ => thread::park_timeout(Duration::from_micros(100)),
        }
    }
}
