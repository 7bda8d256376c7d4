// SPDX-License-Identifier: BSD-2-Clause

//! The queues by themselves, and interrupts against a host that drops what is
//! masked.

use super::*;
use crate::host::Host;
use crate::memory::{Region, Segment};
use crate::wire::command::Command;
use crate::wire::completion::Completion;
use crate::wire::status::Status;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

fn entry(cid: u16) -> Completion {
    Completion { dw0: 0, sq_head: 0, sq_id: 1, cid, status: Status::SUCCESS }
}

fn open(size: u32) -> (CompletionQueue, Region) {
    let region = Region::zeroed(CompletionQueue::bytes(size)).unwrap();
    let queue = CompletionQueue::new();
    queue.open(region.segment(), CompletionParameters { size, vector: Some(3) });
    (queue, region)
}

#[test]
fn reservations_end_where_the_ring_is_full() {
    for size in [2, 3, 8, 65536] {
        let (queue, _region) = open(size);
        assert_eq!(queue.reserve(u32::MAX), size - 1);
        assert_eq!(queue.reserve(1), 0);
        queue.give_back(1);
        assert_eq!(queue.reserve(5), 1);
        queue.publish(|| entry(0));
        assert_eq!(queue.reserve(1), 0, "posted, but not consumed");
        assert_eq!(queue.ring(1), Ok(0));
        assert_eq!(queue.reserve(5), 1);
    }
}

#[test]
fn the_head_cannot_pass_what_was_posted() {
    let (queue, _region) = open(4);
    assert_eq!(queue.reserve(3), 3);
    assert_eq!(queue.ring(1), Err(DoorbellError::Value));
    queue.publish(|| entry(0));
    queue.publish(|| entry(1));
    for value in [3, 4, 5, 0xffff, u32::MAX] {
        assert_eq!(queue.ring(value), Err(DoorbellError::Value), "{value:#x}");
    }
    assert_eq!(queue.ring(2), Ok(0));
    assert_eq!(queue.ring(1), Err(DoorbellError::Value), "back");
}

/// Phase tags over memory that was not cleared, round after round.
#[test]
fn phase_tags_are_the_controllers_own() {
    let (queue, region) = open(4);
    for byte in [0x00, 0xff] {
        queue.close();
        for at in 0..region.segment().len() {
            region.segment().slice(at, 1).unwrap().write(&[byte]).unwrap();
        }
        queue.open(region.segment(), CompletionParameters { size: 4, vector: None });
        for round in 0..6u32 {
            for at in 0..4u32 {
                assert_eq!(queue.reserve(1), 1);
                queue.publish(|| entry(7));
                let word =
                    region.segment().load64(at as usize * 16 + 8, Ordering::Relaxed).unwrap();
                assert_eq!(word >> 48 & 1, u64::from(round % 2 == 0), "round {round}, entry {at}");
                queue.ring((at + 1) % 4).unwrap();
            }
        }
    }
}

#[test]
fn a_closed_queue_takes_and_posts_nothing() {
    let (queue, region) = open(4);
    assert_eq!(queue.reserve(2), 2);
    queue.close();
    queue.publish(|| entry(1));
    assert_eq!(queue.reserve(1), 0);
    assert_eq!(queue.ring(0), Err(DoorbellError::NoQueue));
    assert_eq!(region.segment().load64(8, Ordering::Relaxed), Some(0));
    assert_eq!(queue.take_interrupt(), None);
}

/// After a reset the guest is not interrupted for what was posted before.
#[test]
fn a_closed_queue_has_no_interrupt_left_to_raise() {
    let (queue, _region) = open(4);
    assert_eq!(queue.reserve(2), 2);
    assert_eq!(queue.publish(|| entry(1)), 1);
    queue.close();
    assert!(!queue.is_unsignalled());
    assert_eq!(queue.take_interrupt(), None);
    assert_eq!(queue.publish(|| entry(2)), 0);
    assert_eq!(queue.take_interrupt(), None);
}

#[test]
fn parking_is_noticed_by_the_doorbell_and_by_who_gives_back() {
    let (queue, _region) = open(3);
    assert_eq!(queue.reserve(2), 2);
    assert!(!queue.park(0b10, 1));
    queue.publish(|| entry(0));
    assert_eq!(queue.ring(1), Ok(0b10));
    assert_eq!(queue.reserve(1), 1);
    assert!(!queue.park(0b01, 1));
    queue.give_back(1);
    assert_eq!(queue.take_parked(), 0b01);
    assert!(!queue.park(0b01, 2), "there is room for one");
    assert_eq!(queue.take_parked(), 0b01);
    assert!(queue.park(0b01, 1), "there is room by now");
    assert_eq!(queue.take_parked(), 0);
}

#[test]
fn one_interrupt_covers_what_was_posted() {
    let (queue, _region) = open(8);
    assert_eq!(queue.take_interrupt(), None);
    queue.reserve(3);
    assert_eq!(queue.publish(|| entry(0)), 1);
    assert_eq!(queue.publish(|| entry(1)), 2);
    assert_eq!(queue.take_interrupt(), Some(3));
    assert_eq!(queue.take_interrupt(), None);
    assert_eq!(queue.publish(|| entry(2)), 1);
}

/// An entry is made when its turn to be posted has come: were it made before,
/// one that tells a newer head could be posted first.
#[test]
fn an_entry_is_made_where_no_other_can_be_posted() {
    let (queue, region) = open(4);
    assert_eq!(queue.reserve(2), 2);
    let (begun, posted) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !begun.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            queue.publish(|| entry(2));
            posted.store(true, Ordering::SeqCst);
        });
        queue.publish(|| {
            begun.store(true, Ordering::SeqCst);
            std::thread::park_timeout(std::time::Duration::from_millis(100));
            assert!(!posted.load(Ordering::SeqCst));
            entry(1)
        });
    });
    let cid =
        |at: usize| region.segment().load64(at + 8, Ordering::Relaxed).unwrap() >> 32 & 0xffff;
    assert_eq!((cid(0), cid(16)), (1, 2));
}

#[test]
fn submission_queues_hand_out_what_the_doorbell_says() {
    let queue = SubmissionQueue::new();
    let region = Region::zeroed(SubmissionQueue::bytes(4)).unwrap();
    assert_eq!(queue.ring(1), Err(DoorbellError::NoQueue));
    queue.open(region.segment(), SubmissionParameters { size: 4, cq_id: 1 });
    for value in [4, 5, 0xffff, 0x1_0000, 0x1_0001, u32::MAX] {
        assert_eq!(queue.ring(value), Err(DoorbellError::Value), "{value:#x}");
    }
    for slot in 0..4u8 {
        let at = usize::from(slot) * 64;
        region.segment().slice(at, 1).unwrap().write(&[slot]).unwrap();
    }
    let mut expected = 0;
    for tail in [3u32, 2, 1, 0, 3] {
        queue.ring(tail).unwrap();
        let visit = queue.visit(&|| ()).unwrap();
        let mut claim = visit.claim().unwrap();
        assert!(visit.claim().is_none(), "claimed twice");
        let waiting = claim.waiting();
        let mut command = Command::zeroed();
        assert!(!claim.peek(waiting, &mut command));
        for index in 0..waiting {
            assert!(claim.peek(index, &mut command));
            assert_eq!(command.opcode, expected);
            expected = (expected + 1) % 4;
        }
        claim.consume(waiting);
        assert_eq!(u32::from(queue.head()), tail);
        drop(claim);
        assert!(!queue.has_work());
    }
}

#[test]
fn closing_waits_for_visitors_and_the_last_one_says_so() {
    let queue = SubmissionQueue::new();
    let region = Region::zeroed(SubmissionQueue::bytes(4)).unwrap();
    queue.open(region.segment(), SubmissionParameters { size: 4, cq_id: 1 });
    let told = AtomicU32::new(0);
    let tell = || {
        told.fetch_add(1, Ordering::SeqCst);
    };
    let (first, second) = (queue.visit(&tell).unwrap(), queue.visit(&tell).unwrap());
    queue.ring(1).unwrap();
    queue.close();
    assert!(!queue.is_idle());
    assert_eq!(first.claim().unwrap().waiting(), 0, "nothing is fetched from a closed queue");
    drop(first);
    assert!(!queue.is_idle());
    assert_eq!(told.load(Ordering::SeqCst), 0);
    drop(second);
    assert!(queue.is_idle());
    assert_eq!(told.load(Ordering::SeqCst), 1);
    assert!(queue.visit(&tell).is_none());
}

/// A host whose mask the test sets, and which drops what is masked.
#[derive(Default)]
struct Masked {
    masked: AtomicBool,
    delivered: AtomicU32,
    vectors: Mutex<BTreeSet<u16>>,
}

impl Host for Masked {
    fn map(&self, _: u64, _: usize) -> Option<Segment> {
        None
    }

    fn msix_deliverable(&self, _: u16) -> bool {
        !self.masked.load(Ordering::SeqCst)
    }

    fn msix_raise(&self, vector: u16) {
        if !self.masked.load(Ordering::SeqCst) {
            self.delivered.fetch_add(1, Ordering::SeqCst);
            self.vectors.lock().unwrap().insert(vector);
        }
    }

    fn msix_table_write(&self, _: u64, _: usize, _: u64) {}

    fn msix_table_read(&self, _: u64, _: usize) -> u64 {
        0
    }
}

#[test]
fn what_is_masked_is_raised_when_it_is_unmasked() {
    let host = Arc::new(Masked::default());
    let interrupts = Interrupts::new(host.clone(), 65);
    interrupts.change(|| host.masked.store(true, Ordering::SeqCst));
    for vector in [0, 5, 64, 65, u16::MAX] {
        interrupts.request(vector);
    }
    assert_eq!(host.delivered.load(Ordering::SeqCst), 0);
    interrupts.change(|| host.masked.store(false, Ordering::SeqCst));
    assert_eq!(*host.vectors.lock().unwrap(), BTreeSet::from([0, 5, 64]));
    interrupts.change(|| ());
    assert_eq!(host.delivered.load(Ordering::SeqCst), 3, "once only");
}

#[test]
fn a_reset_forgets_what_is_pending() {
    let host = Arc::new(Masked::default());
    let interrupts = Interrupts::new(host.clone(), 2);
    interrupts.change(|| host.masked.store(true, Ordering::SeqCst));
    interrupts.request(1);
    interrupts.forget();
    interrupts.change(|| host.masked.store(false, Ordering::SeqCst));
    assert_eq!(host.delivered.load(Ordering::SeqCst), 0);
    interrupts.request(1);
    assert_eq!(host.delivered.load(Ordering::SeqCst), 1);
}

/// Every request is followed by a delivery, however the masks flap.
#[test]
fn no_interrupt_is_lost_while_masks_change() {
    let host = Arc::new(Masked::default());
    let interrupts = Interrupts::new(host.clone(), 1);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flapping = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                interrupts.change(|| host.masked.fetch_xor(true, Ordering::SeqCst));
            }
            interrupts.change(|| host.masked.store(false, Ordering::SeqCst));
        });
        for _ in 0..20_000 {
            let before = host.delivered.load(Ordering::SeqCst);
            interrupts.request(0);
            while host.delivered.load(Ordering::SeqCst) == before {
                std::hint::spin_loop();
            }
        }
        stop.store(true, Ordering::SeqCst);
        flapping.join().unwrap();
    });
}
