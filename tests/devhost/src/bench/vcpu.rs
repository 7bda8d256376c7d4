// SPDX-License-Identifier: BSD-2-Clause

//! One of the guest's CPUs with the queue pair that is its own: rings the
//! doorbells, reaps completions, and does as little else as it can.
//!
//! It behaves as Linux does. With interrupts it looks at the completion queue
//! only after one has come, takes all that is there, rings the head doorbell
//! once, and submits as many commands anew, each with its own ring of the tail
//! doorbell. When it has nothing to do it sleeps until the next interrupt. A
//! lost interrupt is an error, and so is a wrong status.

use super::Result;
use super::clock::{Window, clock, thread_cpu_ns, ticks};
use super::histogram::Histogram;
use super::line::Line;
use super::work::{Op, PAGE, Places, Work, stamp};
use devhost::driver::{CompletionQueue, Data, Entry, Function, Memory, Prp, SubmissionQueue};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

const SQ_ENTRY: usize = 64;
const CQ_ENTRY: usize = 16;

/// Nothing that the device does takes as long.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the CPU learns of completions.
#[derive(Clone)]
pub(crate) enum Wait {
    /// It looks again and again.
    Poll,
    /// It looks again and again, and lets other threads run in between.
    Yield,
    /// It sleeps until this line is raised.
    Interrupt(Arc<[Line]>, usize),
}

/// How long a CPU works.
#[derive(Clone, Copy)]
pub(crate) enum Span {
    Time(Window),
    /// As many commands.
    Count(u64),
}

/// What a CPU has counted.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    /// Commands completed within the span.
    pub(crate) ios: u64,
    /// CPU time of the thread in that span, in nanoseconds.
    pub(crate) cpu_ns: u64,
    pub(crate) interrupts: u64,
    /// Writes to doorbell registers.
    pub(crate) traps: u64,
    /// Writes to the tail doorbell.
    pub(crate) rings: u64,
    /// Ticks of those that were timed, one in [`TIMED_EVERY`].
    pub(crate) doorbells: Histogram,
    /// Ticks from the doorbell of a command that was timed until its completion
    /// is reaped.
    pub(crate) latency: Histogram,
}

/// A guest has no clock at its doorbells: reading it each time would take a
/// tenth of what a command on a RAM disk takes. Not a divisor of the numbers of
/// commands that are submitted together, so that each of them has its turn.
const TIMED_EVERY: u64 = 7;

/// A command identifier with the buffer that belongs to it.
struct Slot {
    entry: [u8; SQ_ENTRY],
    /// Where the buffer's pages are in this process.
    pages: Vec<NonNull<AtomicU64>>,
    /// Number of the store's first page that the command is about.
    first_page: u64,
    /// Ticks at the doorbell, if it was timed.
    begun: Option<u64>,
    in_flight: bool,
    _hold: (Data, Prp),
}

/// What a CPU is built from.
pub(crate) struct Parts<'a> {
    pub(crate) function: &'a Arc<dyn Function>,
    pub(crate) memory: &'a Arc<Memory>,
    pub(crate) sq: SubmissionQueue,
    pub(crate) cq: CompletionQueue,
    pub(crate) wait: Wait,
    pub(crate) work: Work,
    pub(crate) places: Places,
    pub(crate) depth: usize,
    /// No two pages of a buffer are neighbours.
    pub(crate) scattered: bool,
    /// One ring of the tail doorbell for all commands submitted together.
    pub(crate) batched: bool,
    /// Bytes of a logical block.
    pub(crate) block_size: u64,
}

pub(crate) struct Vcpu {
    function: Arc<dyn Function>,
    // The rings are held so that their memory is not given to others.
    sq: SubmissionQueue,
    cq: CompletionQueue,
    sq_base: NonNull<u8>,
    cq_base: NonNull<u8>,
    wait: Wait,
    work: Work,
    places: Places,
    batched: bool,
    block_size: u64,
    slots: Vec<Slot>,
    /// Identifiers whose commands are to be submitted.
    free: Vec<u16>,
    seen: u32,
    traps: u64,
}

// SAFETY: the pointers lead into the machine's memory, which `function` and the
// buffers keep, and which is accessed by raw copies and atomic operations only.
unsafe impl Send for Vcpu {}

impl Vcpu {
    pub(crate) fn new(parts: Parts<'_>) -> Result<Vcpu> {
        let Parts { function, memory, sq, cq, work, depth, block_size, .. } = parts;
        let machine = memory.machine();
        assert!((depth as u32) < sq.entries() && sq.entries() == cq.entries(), "room for {depth}");
        let place = |address, len| machine.pointer(address, len).ok_or("no guest memory");
        let sq_base = place(sq.address(), sq.entries() as usize * SQ_ENTRY)?;
        let cq_base = place(cq.address(), cq.entries() as usize * CQ_ENTRY)?;
        let blocks = (work.bytes / block_size) as u32;
        let mut slots = Vec::with_capacity(depth);
        for cid in 0..depth as u16 {
            let len = work.bytes as usize;
            let data = if parts.scattered {
                Data::scattered(memory, len, 0)?
            } else {
                Data::new(memory, len)?
            };
            let prp = data.prp()?;
            let entry = match work.op {
                Op::Read => Entry::read(1, 0, blocks, &prp),
                Op::Write => Entry::write(1, 0, blocks, &prp),
            };
            let pages = data
                .pages()
                .iter()
                .map(|&page| place(page, PAGE as usize).map(NonNull::cast))
                .collect::<std::result::Result<_, _>>()?;
            slots.push(Slot {
                entry: entry.cid(cid).to_bytes(),
                pages,
                first_page: 0,
                begun: None,
                in_flight: false,
                _hold: (data, prp),
            });
        }
        Ok(Vcpu {
            function: function.clone(),
            sq,
            cq,
            sq_base,
            cq_base,
            wait: parts.wait,
            work,
            places: parts.places,
            batched: parts.batched,
            block_size,
            free: (0..depth as u16).collect(),
            slots,
            seen: 0,
            traps: 0,
        })
    }

    /// Works for `span`, at full depth, and leaves nothing in flight. Before a
    /// window of time begins, the data of each read is looked at.
    pub(crate) fn run(&mut self, span: Span) -> Result<Tally> {
        let (begin, end, mut left) = match span {
            Span::Time(window) => (window.begin, window.end, u64::MAX),
            Span::Count(count) => (0, u64::MAX, count),
        };
        let mut warm = begin > 0;
        let mut tally = Tally::default();
        let mut start = Start::now(self);
        self.seen = self.raised();
        self.submit(&mut left, &mut tally);
        while self.busy() {
            let now = self.wait_for_completions()?;
            if now >= end {
                start.account(self, &mut tally);
                self.drain()?;
                return Ok(tally);
            }
            if self.reap(now, warm, &mut tally)? == 0 {
                continue;
            }
            self.traps += u64::from(self.cq.ring());
            if warm && now >= begin {
                warm = false;
                start = Start::now(self);
                tally = Tally::default();
            }
            self.submit(&mut left, &mut tally);
        }
        start.account(self, &mut tally);
        Ok(tally)
    }

    /// Takes what is there, and waits for all that is in flight.
    fn drain(&mut self) -> Result<()> {
        let mut uncounted = Tally::default();
        loop {
            if self.reap(ticks(), false, &mut uncounted)? > 0 {
                self.cq.ring();
            }
            if !self.busy() {
                return Ok(());
            }
            self.wait_for_completions()?;
        }
    }

    fn busy(&self) -> bool {
        self.free.len() < self.slots.len()
    }

    /// Submits the free commands, at most `left` of them.
    fn submit(&mut self, left: &mut u64, tally: &mut Tally) {
        let mut pushed = false;
        while *left > 0
            && let Some(cid) = self.free.pop()
        {
            *left -= 1;
            self.push(cid);
            if self.batched {
                // Timed as all of them: the first waits longest.
                self.slots[usize::from(cid)].begun = (!pushed).then(ticks);
                pushed = true;
            } else {
                self.slots[usize::from(cid)].begun = self.ring(tally);
            }
        }
        if pushed {
            self.ring(tally);
        }
    }

    /// Writes the command `cid`, for the next place, to the ring.
    fn push(&mut self, cid: u16) {
        let transfer = self.places.next();
        let slot = &mut self.slots[usize::from(cid)];
        slot.first_page = transfer * self.work.pages();
        slot.in_flight = true;
        if self.work.op == Op::Write {
            for (page, number) in slot.pages.iter().zip(slot.first_page..) {
                // SAFETY: a page of a buffer that the slot keeps, aligned.
                unsafe { page.as_ref() }.store(stamp(number).to_le(), Ordering::Relaxed);
            }
        }
        let lba = transfer * (self.work.bytes / self.block_size);
        slot.entry[40..48].copy_from_slice(&lba.to_le_bytes());
        let at = self.sq.tail as usize * SQ_ENTRY;
        // SAFETY: the tail is inside the ring, whose memory `sq` keeps.
        let to = unsafe { self.sq_base.as_ptr().add(at) };
        // SAFETY: as above; a slot never overlaps guest memory.
        unsafe { std::ptr::copy_nonoverlapping(slot.entry.as_ptr(), to, SQ_ENTRY) };
        self.sq.tail += 1;
        if self.sq.tail == self.sq.entries() {
            self.sq.tail = 0;
        }
    }

    /// Rings the tail doorbell; returns the ticks before, if it was timed.
    fn ring(&mut self, tally: &mut Tally) -> Option<u64> {
        // What was written to the ring is there before the doorbell rings.
        std::sync::atomic::fence(Ordering::Release);
        tally.rings += 1;
        if !tally.rings.is_multiple_of(TIMED_EVERY) {
            self.write_tail();
            return None;
        }
        let before = ticks();
        self.write_tail();
        let after = ticks();
        tally.doorbells.record(clock().between(before, after));
        Some(before)
    }

    fn write_tail(&mut self) {
        let trapped = if self.sq.shadow.is_some() {
            self.sq.ring()
        } else {
            self.function.bar_write(0, self.sq.doorbell(), 4, u64::from(self.sq.tail));
            true
        };
        self.traps += u64::from(trapped);
    }

    /// Waits for what may bring completions; returns the ticks when it came.
    fn wait_for_completions(&mut self) -> Result<u64> {
        if let Wait::Interrupt(lines, vector) = &self.wait {
            if !lines[*vector].wait(self.seen, PATIENCE) {
                return Err(self.stuck("no interrupt came"));
            }
            self.seen = lines[*vector].count();
            return Ok(ticks());
        }
        let begun = ticks();
        loop {
            let now = ticks();
            if self.head().is_some() {
                return Ok(now);
            }
            if now.wrapping_sub(begun) > clock().ticks(PATIENCE) {
                return Err(self.stuck("no completion came"));
            }
            if matches!(self.wait, Wait::Yield) {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// The last word of the completion at the head, if there is one.
    fn head(&self) -> Option<u32> {
        let at = self.cq.head as usize * CQ_ENTRY + 12;
        // SAFETY: the head is inside the ring, whose memory `cq` keeps.
        let at = unsafe { self.cq_base.as_ptr().add(at) };
        // SAFETY: aligned, and accessed by atomic operations only.
        let word = unsafe { AtomicU32::from_ptr(at.cast()) }.load(Ordering::Acquire);
        (word >> 16 & 1 == u32::from(self.cq.phase)).then_some(word)
    }

    /// Takes all completions that are there; returns how many. With `look`, the
    /// data of reads must be what the store holds.
    fn reap(&mut self, now: u64, look: bool, tally: &mut Tally) -> Result<usize> {
        let mut reaped = 0;
        while let Some(word) = self.head() {
            let (cid, status) = (word as u16, word >> 17);
            self.cq.head += 1;
            if self.cq.head == self.cq.entries() {
                self.cq.head = 0;
                self.cq.phase = !self.cq.phase;
            }
            let slot = self.slots.get_mut(usize::from(cid)).filter(|slot| slot.in_flight);
            let slot = slot.ok_or_else(|| format!("command {cid} completed, and was not there"))?;
            if status != 0 {
                return Err(format!("a command failed with status {status:#x}").into());
            }
            slot.in_flight = false;
            tally.ios += 1;
            if let Some(begun) = slot.begun {
                tally.latency.record(now.saturating_sub(begun));
            }
            if look && self.work.op == Op::Read {
                slot.check()?;
            }
            self.free.push(cid);
            reaped += 1;
        }
        Ok(reaped)
    }

    /// How often the line was raised; 0 if none is waited for.
    fn raised(&self) -> u32 {
        match &self.wait {
            Wait::Interrupt(lines, vector) => lines[*vector].count(),
            _ => 0,
        }
    }

    fn stuck(&self, what: &str) -> super::Error {
        let in_flight = self.slots.iter().filter(|slot| slot.in_flight).count();
        let posted = if self.head().is_some() { "a completion is" } else { "nothing is" };
        format!("{what} in {PATIENCE:?}: {in_flight} commands in flight, {posted} posted").into()
    }
}

/// When counting began.
struct Start {
    cpu_ns: u64,
    raised: u32,
    traps: u64,
}

impl Start {
    fn now(vcpu: &Vcpu) -> Start {
        Start { cpu_ns: thread_cpu_ns(), raised: vcpu.raised(), traps: vcpu.traps }
    }

    /// Counting ends now.
    fn account(&self, vcpu: &Vcpu, tally: &mut Tally) {
        tally.cpu_ns = thread_cpu_ns() - self.cpu_ns;
        tally.traps = vcpu.traps - self.traps;
        tally.interrupts = u64::from(vcpu.raised().wrapping_sub(self.raised));
    }
}

impl Slot {
    /// Whether the buffer holds what a read of its place brings.
    fn check(&self) -> Result<()> {
        for (page, number) in self.pages.iter().zip(self.first_page..) {
            // SAFETY: a page of a buffer that the slot keeps, aligned.
            let found = unsafe { page.as_ref() }.load(Ordering::Relaxed);
            if found != stamp(number).to_le() {
                return Err(format!("page {number} of the store was read wrongly").into());
            }
        }
        Ok(())
    }
}
