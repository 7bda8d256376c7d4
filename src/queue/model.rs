// SPDX-License-Identifier: BSD-2-Clause

//! The queues' protocols under a model checker: in every interleaving, what
//! must not happen does not.

use super::*;
use crate::host::Host;
use crate::memory::{Region, Segment};
use crate::sync::{AtomicBool, AtomicU32, Ordering, fence, thread};
use crate::wire::completion::Completion;
use crate::wire::status::Status;
use loom::cell::UnsafeCell;
use loom::sync::Arc;

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn entry() -> Completion {
    Completion { dw0: 0, sq_head: 0, sq_id: 1, cid: 0, status: Status::SUCCESS }
}

/// A submission queue that is closed while a worker enters it: either the
/// worker sees it closed, or the closer sees the worker.
#[test]
fn closing_against_a_claim() {
    check(3, || {
        let region = Arc::new(Region::zeroed(SubmissionQueue::bytes(4)).expect("memory"));
        let queue = Arc::new(SubmissionQueue::new());
        queue.open(region.segment(), SubmissionParameters { size: 4, cq_id: 1 });
        queue.ring(2).expect("a legal tail");
        // Set while a worker touches the queue's memory.
        let touching = Arc::new(AtomicBool::new(false));
        let idle = Arc::new(AtomicU32::new(0));
        let worker = {
            let (queue, touching, idle) = (queue.clone(), touching.clone(), idle.clone());
            thread::spawn(move || {
                let told = || {
                    idle.fetch_add(1, Ordering::SeqCst);
                };
                let Some(visit) = queue.visit(&told) else { return };
                touching.store(true, Ordering::SeqCst);
                if let Some(mut claim) = visit.claim() {
                    let waiting = claim.waiting();
                    claim.consume(waiting);
                }
                touching.store(false, Ordering::SeqCst);
            })
        };
        queue.close();
        let quiescent = queue.is_idle();
        if quiescent {
            assert!(!touching.load(Ordering::SeqCst), "the guest has its memory back");
        }
        worker.join().expect("a worker");
        assert!(queue.is_idle());
        assert!(quiescent || idle.load(Ordering::SeqCst) > 0, "nobody tells the controller thread");
    });
}

/// A completion tells a head that another worker has moved: the guest writes to
/// the entries before it at once, and they have all been copied.
#[test]
fn entries_before_the_head_are_the_guests() {
    check(3, || {
        let region = Arc::new(Region::zeroed(SubmissionQueue::bytes(4)).expect("memory"));
        let queue = Arc::new(SubmissionQueue::new());
        queue.open(region.segment(), SubmissionParameters { size: 4, cq_id: 1 });
        queue.ring(2).expect("a legal tail");
        // Stands for the entries: the checker reports what is read and written
        // at once.
        let entries = Arc::new(UnsafeCell::new(0));
        let worker = {
            let (queue, entries) = (queue.clone(), entries.clone());
            thread::spawn(move || {
                let visit = queue.visit(&|| ()).expect("an open queue");
                let mut claim = visit.claim().expect("nobody else claims");
                entries.with(|_copied| ());
                claim.consume(2);
            })
        };
        // As the worker that completes a command it fetched before.
        if queue.head() == 2 {
            entries.with_mut(|_written| ());
        }
        worker.join().expect("a worker");
    });
}

/// A queue is closed and made anew, smaller, while a vCPU writes a tail that
/// only the old one can have.
#[test]
fn a_doorbell_against_creation_anew() {
    check(3, || {
        let region = Arc::new(Region::zeroed(SubmissionQueue::bytes(8)).expect("memory"));
        let queue = Arc::new(SubmissionQueue::new());
        queue.open(region.segment(), SubmissionParameters { size: 8, cq_id: 1 });
        let vcpu = {
            let queue = queue.clone();
            thread::spawn(move || queue.ring(6))
        };
        queue.close();
        queue.open(region.segment(), SubmissionParameters { size: 4, cq_id: 1 });
        let rung = vcpu.join().expect("a vCPU");
        let visit = queue.visit(&|| ()).expect("an open queue");
        let claim = visit.claim().expect("nobody else claims");
        assert_eq!(claim.waiting(), 0, "the old queue's tail in the new queue: {rung:?}");
    });
}

/// Reservations of two workers and the guest's doorbell never exceed the ring.
#[test]
fn reservations_never_exceed_the_ring() {
    check(3, || {
        let region = Arc::new(Region::zeroed(CompletionQueue::bytes(3)).expect("memory"));
        let queue = Arc::new(CompletionQueue::new());
        queue.open(region.segment(), CompletionParameters { size: 3, vector: None });
        assert_eq!(queue.reserve(1), 1);
        queue.publish(|| entry());
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let queue = queue.clone();
                thread::spawn(move || queue.reserve(2))
            })
            .collect();
        queue.ring(1).expect("a legal head");
        let granted: u32 = workers.into_iter().map(|worker| worker.join().expect("a worker")).sum();
        assert!((1..=2).contains(&granted), "{granted} of 2 entries");
        let rest = queue.reserve(2);
        assert_eq!(granted + rest, 2);
    });
}

/// A submission queue that parks on a full completion queue is woken by the
/// doorbell, or by whoever gives a reservation back.
#[test]
fn a_parked_queue_is_woken() {
    for by_doorbell in [true, false] {
        check(3, move || {
            let region = Arc::new(Region::zeroed(CompletionQueue::bytes(2)).expect("memory"));
            let queue = Arc::new(CompletionQueue::new());
            queue.open(region.segment(), CompletionParameters { size: 2, vector: None });
            assert_eq!(queue.reserve(1), 1);
            if by_doorbell {
                queue.publish(|| entry());
            }
            let worker = {
                let queue = queue.clone();
                // Whether it runs: it got an entry, or found room when parking.
                thread::spawn(move || queue.reserve(1) == 1 || queue.park(1, 1))
            };
            let woken = if by_doorbell {
                queue.ring(1).expect("a legal head")
            } else {
                queue.give_back(1);
                queue.take_parked()
            };
            let runs = worker.join().expect("a worker");
            assert!(runs || woken & 1 != 0, "parked for ever");
        });
    }
}

/// Two workers that each post an entry and take what waits for an interrupt:
/// none is left waiting, and none is signalled twice.
#[test]
fn what_two_workers_post_is_signalled() {
    check(3, || {
        let region = Arc::new(Region::zeroed(CompletionQueue::bytes(4)).expect("memory"));
        let queue = Arc::new(CompletionQueue::new());
        queue.open(region.segment(), CompletionParameters { size: 4, vector: Some(1) });
        let post = |queue: &CompletionQueue| {
            assert!(queue.publish(|| entry()) <= 2);
            u32::from(queue.take_interrupt().is_some())
        };
        let worker = {
            let queue = queue.clone();
            thread::spawn(move || post(&queue))
        };
        let interrupts = post(&queue) + worker.join().expect("a worker");
        assert!((1..=2).contains(&interrupts) && !queue.is_unsignalled(), "{interrupts}");
    });
}

/// A host whose only vector's mask is one bit.
#[derive(Default)]
struct Table {
    masked: AtomicBool,
    delivered: AtomicU32,
}

impl Host for Table {
    fn map(&self, _: u64, _: usize) -> Option<Segment> {
        None
    }

    fn msix_deliverable(&self, _: u16) -> bool {
        !self.masked.load(Ordering::SeqCst)
    }

    fn msix_raise(&self, _: u16) {
        if !self.masked.load(Ordering::SeqCst) {
            self.delivered.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn msix_table_write(&self, _: u64, _: usize, _: u64) {}

    fn msix_table_read(&self, _: u64, _: usize) -> u64 {
        0
    }
}

/// A request while a vCPU masks and unmasks is delivered in the end.
#[test]
fn a_request_against_masking_and_unmasking() {
    check(3, || {
        let host = std::sync::Arc::new(Table::default());
        let interrupts = Arc::new(Interrupts::new(host.clone(), 1));
        let vcpu = {
            let (interrupts, host) = (interrupts.clone(), host.clone());
            thread::spawn(move || {
                interrupts.change(|| host.masked.store(true, Ordering::SeqCst));
                interrupts.change(|| host.masked.store(false, Ordering::SeqCst));
            })
        };
        interrupts.request(0);
        vcpu.join().expect("a vCPU");
        assert!(host.delivered.load(Ordering::SeqCst) > 0, "lost");
    });
}

/// Two requests, one of which finds the vector masked: the other must not
/// strike it off.
#[test]
fn two_requests_against_masking() {
    check(2, || {
        let host = std::sync::Arc::new(Table::default());
        let interrupts = Arc::new(Interrupts::new(host.clone(), 1));
        let other = {
            let interrupts = interrupts.clone();
            thread::spawn(move || interrupts.request(0))
        };
        let masker = {
            let (interrupts, host) = (interrupts.clone(), host.clone());
            thread::spawn(move || {
                interrupts.change(|| host.masked.store(true, Ordering::SeqCst));
            })
        };
        masker.join().expect("a vCPU");
        // Made while the vector is masked: pending until it is not.
        interrupts.request(0);
        other.join().expect("a worker");
        let before = host.delivered.load(Ordering::SeqCst);
        interrupts.change(|| host.masked.store(false, Ordering::SeqCst));
        assert!(host.delivered.load(Ordering::SeqCst) > before, "lost");
    });
}

/// The guest moves a shadow doorbell while a worker stops looking at it: the
/// worker sees the value, or the guest sees that it has to write to the
/// register. What it writes there arrives whenever it likes, and so does what
/// it wrote before it began to use the shadow.
#[test]
fn a_shadow_doorbell_against_the_last_look_and_late_register_writes() {
    check(2, || {
        let memory = Arc::new(Region::zeroed(4096).expect("memory"));
        let word = |at| memory.segment().slice(at, 4).expect("memory");
        let queue = Arc::new(SubmissionQueue::new());
        queue.open(word(0), SubmissionParameters { size: 8, cq_id: 1 });
        let (value, event) = (word(8), word(12));
        queue.set_shadow(Some(ShadowWords { value, event }));
        // One to the register alone.
        let late = {
            let queue = queue.clone();
            thread::spawn(move || queue.ring(1).expect("a legal tail"))
        };
        let guest = {
            let queue = queue.clone();
            thread::spawn(move || {
                let load = |word: Segment| word.load32(0, Ordering::SeqCst).expect("a word");
                let mut writes = Vec::new();
                for tail in 2..4u32 {
                    let before = load(value);
                    value.store32(0, tail, Ordering::SeqCst);
                    fence(Ordering::SeqCst);
                    let passed = tail.wrapping_sub(load(event)).wrapping_sub(1);
                    if passed < tail.wrapping_sub(before) {
                        writes.push(tail);
                    }
                }
                // They arrive when the shadow has moved on.
                for tail in writes {
                    queue.ring(tail).expect("a legal tail");
                }
            })
        };
        // A worker that fetches all there is and then relies on the register.
        let mut fetched = 0;
        let mut come = || {
            queue.refresh();
            let visit = queue.visit(&|| ()).expect("an open queue");
            let mut claim = visit.claim().expect("nobody else claims");
            let waiting = claim.waiting();
            claim.consume(waiting);
            fetched += waiting;
            drop(claim);
            queue.rely_on_register();
        };
        come();
        guest.join().expect("a guest");
        late.join().expect("a bus");
        // Whoever has rung has woken it.
        while queue.has_work() {
            come();
        }
        assert_eq!((fetched, queue.head()), (3, 3), "a command was lost, or fetched twice");
    });
}

/// Entries are posted while the guest consumes one that it was interrupted for:
/// whoever comes last sees the other, so that nothing is left without an
/// interrupt.
#[test]
fn posting_against_an_answer() {
    check(3, || {
        const SIZE: u32 = 4;
        let region = Arc::new(Region::zeroed(CompletionQueue::bytes(SIZE)).expect("memory"));
        let queue = Arc::new(CompletionQueue::new());
        queue.open(region.segment(), CompletionParameters { size: SIZE, vector: Some(1) });
        assert_eq!(queue.reserve(2), 2);
        queue.publish(|| entry());
        assert_eq!(queue.take_interrupt(), Some(1));
        let raised = Arc::new(AtomicU32::new(0));
        let poster = {
            let (queue, raised) = (queue.clone(), raised.clone());
            thread::spawn(move || {
                let waiting = queue.publish(|| entry());
                if !queue.is_answer_due(waiting) && queue.take_interrupt().is_some() {
                    raised.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let phase = |index: usize| {
            let word =
                region.segment().load64(index * 16 + 8, std::sync::atomic::Ordering::Acquire);
            word.expect("inside") >> 48 & 1 == 1
        };
        assert!(phase(0));
        let seen = if phase(1) { 2 } else { 1 };
        queue.ring(seen).expect("no more than was posted");
        if queue.is_left() && queue.take_interrupt().is_some() {
            raised.fetch_add(1, Ordering::SeqCst);
        }
        poster.join().expect("a poster");
        assert!(seen == 2 || raised.load(Ordering::SeqCst) > 0, "an entry without an interrupt");
    });
}
