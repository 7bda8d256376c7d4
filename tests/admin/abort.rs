// SPDX-License-Identifier: BSD-2-Clause

use super::*;
use devhost::driver::Error;

impl Setup {
    /// Abort: whether bit 0 of its result says that the command was aborted.
    fn abort(&self, queue: u16, cid: u16) -> bool {
        self.nvme.abort(queue, cid).unwrap()
    }
}

#[test]
fn what_is_not_there_is_not_aborted() {
    let setup = setup();
    let pair = setup.pair(1, 16);
    pair.execute(read(&setup.data(512), 0)).unwrap();
    for queue in [0, 1, 2, 4, 5, 0xfffe, 0xffff] {
        for cid in [0, 1, 0x7fff, 0xfffe, 0xffff] {
            assert!(!setup.abort(queue, cid), "{queue} {cid}");
        }
    }
    // Itself: it has begun.
    let admin = setup.nvme.admin();
    let cid = admin.submit(Entry::new(0x08).word(10, 0)).unwrap();
    assert_eq!(admin.wait(cid).unwrap().dw0 & 1, 1);
    let own = admin.submit(Entry::new(0x08).word(10, u32::from(cid) << 16)).unwrap();
    assert_eq!(admin.wait(own).unwrap().dw0 & 1, 1);
}

#[test]
fn a_held_event_request_is_aborted() {
    let setup = setup();
    let requests = [(); 3].map(|()| setup.nvme.request_event().unwrap());
    assert!(setup.abort(0, requests[1]));
    let completion = setup.nvme.admin().take(requests[1]).expect("completed before the Abort");
    assert_eq!(completion.status.code(), Status::ABORTED_BY_REQUEST);
    assert!(!setup.abort(0, requests[1]), "once");
    setup.nvme.write32(setup.nvme.sq_doorbell(9), 0);
    assert!(setup.nvme.admin().wait(requests[0]).unwrap().status.is_success());
    assert!(setup.nvme.admin().take(requests[2]).is_none());
}

/// With all slots taken, what waits in the queue can be aborted: the first, one
/// in the middle, the last. It never reaches the store, and all else does.
#[test]
fn a_command_that_waits_is_aborted_and_never_begins() {
    for inline in [false, true] {
        let one_slot = Settings { io_slots: 1, inline, ..settings() };
        let setup = setup_with(one_slot, 16 * MIB, |gate| gate);
        let (blocker, pair) = (setup.pair(2, 16), setup.pair(1, 16));
        let data = setup.data(512);
        setup.gate.close();
        let entry = read(&data, 100);
        std::thread::scope(|scope| {
            let blocked = scope.spawn(|| blocker.run(entry).unwrap());
            assert_eq!(setup.gate.wait_inside(1), 1);
            let entries: Vec<Entry> = (0..8).map(|lba| write(&data, lba)).collect();
            let cids = pair.submit_all(&entries).unwrap();
            for index in [4, 0, 7] {
                assert!(setup.abort(1, cids[index]), "{index}");
                let completion = pair.take(cids[index]).or_else(|| {
                    pair.poll();
                    pair.take(cids[index])
                });
                let status = completion.expect("completed before the Abort").status;
                assert_eq!(status.code(), Status::ABORTED_BY_REQUEST);
                assert!(!setup.abort(1, cids[index]), "{index} once");
            }
            setup.gate.open();
            assert!(blocked.join().unwrap().status.is_success());
            for index in [1, 2, 3, 5, 6] {
                assert!(pair.wait(cids[index]).unwrap().status.is_success(), "{index}");
            }
        });
        let mut written: Vec<u64> = setup
            .gate
            .log()
            .iter()
            .filter_map(|op| match op {
                devhost::bare::Op::Write { offset, .. } => Some(offset / 512),
                _ => None,
            })
            .collect();
        written.sort_unstable();
        assert_eq!(written, [1, 2, 3, 5, 6], "inline {inline}");
        // The queue is in step, and its identifiers are free.
        for lba in 0..40 {
            pair.execute(read(&data, lba)).unwrap();
        }
        assert!(pair.strays().is_empty());
    }
}

/// A full queue whose commands are all aborted, in whatever order, is empty: no
/// other completion would tell the guest that there is room.
#[test]
fn a_queue_whose_commands_are_all_aborted_has_room() {
    let one_slot = Settings { io_slots: 1, ..settings() };
    let setup = setup_with(one_slot, 16 * MIB, |gate| gate);
    let (blocker, data) = (setup.pair(2, 16), setup.data(512));
    for (id, order) in [(1, [0, 1, 2]), (3, [2, 1, 0]), (4, [1, 2, 0])] {
        let pair = setup.pair(id, 4);
        setup.gate.close();
        let blocked = blocker.submit(read(&data, 0)).unwrap();
        assert_eq!(setup.gate.wait_inside(1), 1);
        let cids = pair.submit_all(&[read(&data, 0); 3]).unwrap();
        assert_eq!(pair.raw(|sq, _| sq.room()), 0);
        for index in order {
            assert!(setup.abort(id, cids[index]), "{order:?} {index}");
        }
        assert_eq!(pair.poll(), 3);
        assert_eq!(pair.raw(|sq, _| sq.room()), 3, "{order:?}");
        setup.gate.open();
        assert!(blocker.wait(blocked).unwrap().status.is_success());
        assert!(pair.run(read(&data, 0)).unwrap().status.is_success());
    }
}

/// An aborted command's entry is free, and with it those before it, though they
/// have not begun: guests count what is in flight, and not where the head is.
#[test]
fn the_entry_of_an_aborted_command_can_be_used_again() {
    let one_slot = Settings { io_slots: 1, ..settings() };
    let setup = setup_with(one_slot, 16 * MIB, |gate| gate);
    let (blocker, data) = (setup.pair(2, 16), setup.data(512));
    let pair = setup.pair(1, 8);
    for index in [0usize, 3, 6] {
        setup.gate.close();
        let blocked = blocker.submit(read(&data, 0)).unwrap();
        assert_eq!(setup.gate.wait_inside(1), 1);
        let before = setup.gate.log().len();
        let first: Vec<Entry> = (0..7).map(|lba| write(&data, lba)).collect();
        let cids = pair.submit_all(&first).unwrap();
        // That one, and then the one before it, whose entry is free by now.
        let mut aborted = 0;
        for index in [Some(index), index.checked_sub(1)].into_iter().flatten() {
            assert!(setup.abort(1, cids[index]), "{index}");
            aborted += 1;
        }
        pair.poll();
        let room = pair.raw(|sq, _| sq.room());
        assert_eq!(room, index as u32 + 1, "{index}");
        let more: Vec<Entry> = (0..room).map(|n| write(&data, 100 + u64::from(n))).collect();
        let more = pair.submit_all(&more).unwrap();
        setup.gate.open();
        assert!(blocker.wait(blocked).unwrap().status.is_success());
        let codes = |cids: &[u16]| -> Vec<u16> {
            cids.iter().map(|cid| pair.wait(*cid).unwrap().status.code()).collect()
        };
        let failed = codes(&cids).into_iter().filter(|code| *code != 0).count();
        assert_eq!(failed, aborted, "{index}");
        assert!(codes(&more).iter().all(|code| *code == 0));
        // In their order, with what is aborted left out.
        let written: Vec<u64> = setup.gate.log()[before..]
            .iter()
            .filter_map(|op| match op {
                devhost::bare::Op::Write { offset, .. } => Some(offset / 512),
                _ => None,
            })
            .collect();
        assert!(written.is_sorted() && written.len() == 7 - aborted + more.len(), "{written:?}");
    }
    assert!(pair.strays().is_empty());
}

/// What waits before an aborted command is kept in memory of the host: so much
/// and no more.
#[test]
fn a_command_far_behind_others_is_not_aborted() {
    let one_slot = Settings { io_slots: 1, ..settings() };
    let setup = setup_with(one_slot, 16 * MIB, |gate| gate);
    let (blocker, data) = (setup.pair(2, 16), setup.data(512));
    let pair = setup.pair(1, 512);
    setup.gate.close();
    let blocked = blocker.submit(read(&data, 0)).unwrap();
    assert_eq!(setup.gate.wait_inside(1), 1);
    let cids = pair.submit_all(&vec![read(&data, 0); 300]).unwrap();
    for (index, aborted) in [(299, false), (64, false), (63, true), (64, false), (10, true)] {
        assert_eq!(setup.abort(1, cids[index]), aborted, "{index}");
    }
    setup.gate.open();
    assert!(blocker.wait(blocked).unwrap().status.is_success());
    for (index, cid) in cids.into_iter().enumerate() {
        let success = pair.wait(cid).unwrap().status.is_success();
        assert_eq!(success, ![10, 63].contains(&index), "{index}");
    }
    assert!(pair.strays().is_empty());
}

#[test]
fn a_command_in_the_store_is_not_aborted() {
    let setup = setup();
    let pair = setup.pair(1, 16);
    let data = setup.data(512);
    setup.gate.close();
    let cid = pair.submit(read(&data, 0)).unwrap();
    assert_eq!(setup.gate.wait_inside(1), 1);
    assert!(!setup.abort(1, cid));
    setup.gate.open();
    assert!(pair.wait(cid).unwrap().status.is_success());
}

/// All that waits, and far more Aborts than ACL allows at once: each is
/// answered, and every command completes once.
#[test]
fn a_flood_of_aborts_loses_nothing() {
    let settings = Settings { io_slots: 2, ..settings() };
    let setup = setup_with(settings, 16 * MIB, |gate| gate);
    let pair = setup.pair(1, 256);
    let data = setup.data(512);
    for round in 0..4 {
        setup.gate.close();
        let cids = pair.submit_all(&vec![read(&data, 0); 200]).unwrap();
        assert_eq!(setup.gate.wait_inside(2), 2);
        let admin = setup.nvme.admin();
        let mut aborted = 0;
        for some in cids.chunks(20) {
            let aborts: Vec<Entry> = some
                .iter()
                .map(|cid| Entry::new(0x08).word(10, u32::from(*cid) << 16 | 1))
                .collect();
            for cid in admin.submit_all(&aborts).unwrap() {
                let completion = admin.wait(cid).unwrap();
                assert!(completion.status.is_success());
                aborted += usize::from(completion.dw0 & 1 == 0);
            }
        }
        setup.gate.open();
        let mut counts = (0, 0);
        for cid in cids {
            match pair.wait(cid).unwrap().status.code() {
                Status::SUCCESS => counts.0 += 1,
                Status::ABORTED_BY_REQUEST => counts.1 += 1,
                other => panic!("{other:#x}"),
            }
        }
        assert_eq!(counts, (200 - aborted, aborted), "round {round}");
        assert!(aborted >= 64, "round {round}: only {aborted}");
    }
    assert!(pair.strays().is_empty());
}

/// No room for the completion: the command is not aborted, and goes on.
#[test]
fn without_room_for_its_completion_a_command_is_not_aborted() {
    let setup = setup();
    let mut cq = setup.nvme.create_cq(1, 2, Some(1)).unwrap();
    let mut sq = setup.nvme.create_sq(1, 1, 16).unwrap();
    let data = setup.data(512);
    for cid in 0..3 {
        sq.push(&read(&data, 0).cid(cid));
    }
    sq.ring();
    assert!(soon(|| cq.ready()));
    assert!(!setup.abort(1, 2));
    for cid in 0..3 {
        assert!(soon(|| cq.ready()));
        let completion = cq.pop().unwrap();
        assert_eq!((completion.cid, completion.status.is_success()), (cid, true));
        cq.ring();
    }
}

/// A queue that is deleted and created anew over an aborted entry forgets it.
#[test]
fn a_new_queue_knows_nothing_of_aborts_in_the_old() {
    let one_slot = Settings { io_slots: 1, ..settings() };
    let setup = setup_with(one_slot, 16 * MIB, |gate| gate);
    let blocker = setup.pair(2, 16);
    let pair = Arc::new(setup.pair(1, 16));
    let data = setup.data(512);
    setup.gate.close();
    let blocked = blocker.submit(read(&data, 0)).unwrap();
    assert_eq!(setup.gate.wait_inside(1), 1);
    let cids = pair.submit_all(&[read(&data, 0), read(&data, 1)]).unwrap();
    assert!(setup.abort(1, cids[1]));
    setup.nvme.delete_pair(&pair).unwrap();
    let again = setup.pair(1, 16);
    let cids = again.submit_all(&[read(&data, 0), read(&data, 1)]).unwrap();
    setup.gate.open();
    assert!(blocker.wait(blocked).unwrap().status.is_success());
    for cid in cids {
        assert!(again.wait(cid).unwrap().status.is_success());
    }
    assert!(!matches!(again.execute(read(&data, 2)), Err(Error::Status(_))));
}
