// SPDX-License-Identifier: BSD-2-Clause

use super::*;

/// The admin opcodes that the controller has.
const KNOWN: [u8; 13] =
    [0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0a, 0x0c, 0x18, 0x7c, 0x80];

/// Namespace management, firmware download and commit, self-test, directives, security,
/// sanitize, Get LBA Status, Doorbell Buffer Config and all else.
#[test]
fn an_unknown_opcode_is_invalid_whatever_its_fields() {
    let setup = setup();
    for opcode in (0..=255).filter(|op| !KNOWN.contains(op)) {
        for (nsid, word) in [(0, 0), (1, u32::MAX), (u32::MAX, 1)] {
            let entry = Entry::new(opcode).nsid(nsid).word(10, word).word(11, word);
            assert_eq!(setup.refused(entry), Status::INVALID_OPCODE, "{opcode:#x}");
        }
    }
}

/// OACS says that there is no firmware command, and so there is none: not for
/// the slot that Identify speaks of, nor for any action.
#[test]
fn firmware_cannot_be_committed_to_any_slot() {
    let setup = setup();
    let controller = setup.nvme.identify(1, 0).unwrap();
    assert_eq!(controller[256] & 1 << 2, 0, "OACS");
    for word in 0..64 {
        let entry = Entry::new(0x10).word(10, word);
        assert_eq!(setup.refused(entry), Status::INVALID_OPCODE, "{word:#x}");
    }
}

#[test]
fn fused_and_sgl_admin_commands_are_refused() {
    let setup = setup();
    for opcode in KNOWN {
        for flags in [0x01, 0x02, 0x03, 0x40, 0x80, 0xc0] {
            let entry = Entry::new(opcode).flags(flags);
            assert_eq!(setup.refused(entry), Status::INVALID_FIELD, "{opcode:#x} {flags:#x}");
        }
    }
}

/// Ten thousand refusals: the phase tag and the queue stay in step.
#[test]
fn a_long_run_of_refusals_leaves_the_queue_in_step() {
    let setup = setup();
    let entries = [
        (Entry::new(0x80).nsid(1).word(10, 1), 0x10a),
        (Entry::new(0x80).nsid(7), Status::INVALID_NAMESPACE),
        (Entry::new(0x09).word(10, 0xff), Status::INVALID_FIELD),
        (Entry::new(0x06).word(10, 0xff), Status::INVALID_FIELD),
        (Entry::new(0xff), Status::INVALID_OPCODE),
    ];
    for round in 0..2000 {
        for (entry, code) in entries {
            assert_eq!(setup.admin(entry).status.code(), code, "round {round}");
        }
    }
    setup.nvme.identify(1, 0).unwrap();
    assert!(setup.nvme.admin().strays().is_empty());
}

/// The parameter in error, where the status says which: byte, and bit.
#[test]
fn the_error_log_names_the_parameter() {
    let setup = setup();
    for (entry, location) in [
        (Entry::new(0xff), 0),
        (Entry::new(0x06).nsid(2).word(10, 0), 4),
        (Entry::new(0x02).word(10, 0x7f), 40),
        (Entry::new(0x01).word(10, 0x000f_ffff), 40),
        (Entry::new(0x09).word(10, 1 << 31 | 1), 43 | 7 << 8),
        (Entry::new(0x06).word(10, 0xff), 0xffff),
    ] {
        setup.refused(entry);
        let log = setup.nvme.get_log(1, 0, 0, 64, false).unwrap();
        assert_eq!(u16::from_le_bytes([log[14], log[15]]), location, "{entry:?}");
    }
}

/// An I/O command that fails says that the log has more, and the log has it
/// when the guest looks: queue, command, status, LBA, namespace.
#[test]
fn a_failed_io_command_is_in_the_log_when_its_completion_is_seen() {
    let setup = setup();
    let pair = setup.pair(2, 16);
    let data = setup.data(512);
    for round in 1..=200u64 {
        let lba = MIB + round;
        let cid = pair.submit(read(&data, lba)).unwrap();
        let completion = pair.wait(cid).unwrap();
        assert_eq!(completion.status.code(), Status::LBA_OUT_OF_RANGE);
        assert!(completion.status.more() && completion.status.dnr());
        let log = setup.nvme.get_log(1, 0, 0, 64, true).unwrap();
        assert_eq!(log[..8], round.to_le_bytes());
        assert_eq!(log[8..12], [2, 0, cid as u8, (cid >> 8) as u8]);
        assert_eq!(log[14..16], [40, 0]);
        assert_eq!(log[16..24], lba.to_le_bytes());
        assert_eq!(log[24..28], [1, 0, 0, 0]);
    }
}

/// Admin commands that wait, for a store that does not answer: the deletion of a
/// queue, and the cache that is switched off. The I/O of another queue goes on
/// meanwhile, and other admin commands too.
#[test]
fn no_admin_command_holds_up_the_io_of_another_queue() {
    let setup = setup();
    let (stuck, other) = (setup.pair(1, 16), setup.pair(2, 16));
    let data = setup.data(512);
    let admin = setup.nvme.admin();
    setup.gate.close();
    let held = stuck.submit(read(&data, 0)).unwrap();
    assert_eq!(setup.gate.wait_inside(1), 1);
    let deletion = admin.submit(Entry::new(0x00).word(10, 1)).unwrap();
    let cache_off = admin.submit(Entry::new(0x09).word(10, 0x06)).unwrap();
    assert_eq!(setup.gate.wait_inside(2), 2, "the flush");
    for _ in 0..100 {
        // It needs an answer, and nothing of the store.
        let outside = other.run(read(&data, 1 << 40)).unwrap();
        assert_eq!(outside.status.code(), Status::LBA_OUT_OF_RANGE);
        setup.nvme.get_log(0x01, 0, 0, 4096, true).unwrap();
    }
    assert!(admin.take(deletion).is_none() && admin.take(cache_off).is_none());
    setup.gate.open();
    for cid in [deletion, cache_off] {
        assert!(admin.wait(cid).unwrap().status.is_success());
    }
    assert!(stuck.wait(held).unwrap().status.is_success());
}
