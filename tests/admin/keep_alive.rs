// SPDX-License-Identifier: BSD-2-Clause

use super::*;
use devhost::driver::registers as reg;

const KEEP_ALIVE: u8 = 0x18;

#[test]
fn without_a_timer_keep_alive_does_nothing() {
    let setup = setup();
    assert!(setup.admin(Entry::new(KEEP_ALIVE)).status.is_success());
    assert_eq!(setup.nvme.get_feature(0x0f, 0, 0).unwrap(), 0);
}

#[test]
fn a_timeout_is_rounded_up_to_the_granularity() {
    let setup = setup();
    let granularity = u32::from(u16::from_le_bytes(
        setup.nvme.identify(1, 0).unwrap()[320..322].try_into().unwrap(),
    )) * 100;
    for (value, kept) in
        [(30_000, 30_000), (30_001, 30_000 + granularity), (0, 0), (u32::MAX, u32::MAX)]
    {
        setup.nvme.set_feature(0x0f, value, 0).unwrap();
        assert_eq!(setup.nvme.get_feature(0x0f, 0, 0).unwrap(), kept);
    }
}

/// The guest falls silent: CFS, an entry in the log, and no more service until
/// it resets the controller, which then is as new.
#[test]
fn silence_is_fatal_and_a_reset_cures_it() {
    let setup = setup();
    let pair = setup.pair(1, 16);
    let data = setup.data(512);
    let request = setup.nvme.request_event().unwrap();
    setup.nvme.set_feature(0x0f, 1000, 0).unwrap();
    let begun = Instant::now();
    // Alive for twice as long as the timeout.
    while begun.elapsed() < Duration::from_secs(2) {
        assert!(setup.admin(Entry::new(KEEP_ALIVE)).status.is_success());
        pair.execute(read(&data, 0)).unwrap();
        std::thread::park_timeout(Duration::from_millis(50));
    }
    assert_eq!(setup.nvme.csts(), reg::CSTS_RDY);
    let silent = Instant::now();
    // I/O is no sign of life.
    let mut last = None;
    assert!(soon(|| {
        if last.is_none_or(|cid| pair.take(cid).is_some()) {
            last = Some(pair.submit(read(&data, 0)).unwrap());
        }
        pair.poll();
        setup.nvme.csts() & reg::CSTS_CFS != 0
    }));
    assert!(silent.elapsed() >= Duration::from_millis(800), "{:?}", silent.elapsed());
    assert_eq!(setup.nvme.csts(), reg::CSTS_RDY | reg::CSTS_CFS);
    assert!(setup.nvme.admin().take(request).is_none());
    let operations = setup.gate.log().len();
    setup.nvme.write32(setup.nvme.sq_doorbell(1), 5);
    setup.nvme.write32(setup.nvme.sq_doorbell(0), 5);
    std::thread::park_timeout(Duration::from_millis(20));
    assert_eq!(setup.gate.log().len(), operations, "served though it is fatal");

    setup.reset();
    assert_eq!(setup.nvme.csts(), reg::CSTS_RDY);
    assert_eq!(setup.nvme.get_feature(0x0f, 0, 0).unwrap(), 0);
    let log = setup.nvme.get_log(1, 0, 0, 64 * 64, false).unwrap();
    let expired = log.chunks(64).any(|entry| {
        entry[8..12] == [0xff; 4] && u16::from_le_bytes([entry[12], entry[13]]) >> 1 == 0x19
    });
    assert!(expired, "no entry for the timer");
    setup.pair(1, 16).execute(read(&data, 0)).unwrap();
    assert!(!setup.bare.controller().has_failed());
}

/// The timer does not run while the controller is disabled or shut down.
#[test]
fn the_timer_ends_with_the_life_it_was_set_in() {
    let setup = setup();
    setup.nvme.set_feature(0x0f, 1000, 0).unwrap();
    setup.nvme.shutdown(false).unwrap();
    std::thread::park_timeout(Duration::from_millis(1300));
    assert_eq!(setup.nvme.csts(), reg::CSTS_RDY | reg::CSTS_SHST_COMPLETE);
    setup.nvme.disable().unwrap();
    setup.nvme.enable(&Enable::default()).unwrap();
    setup.nvme.set_feature(0x0f, 1000, 0).unwrap();
    setup.nvme.disable().unwrap();
    setup.nvme.enable(&Enable::default()).unwrap();
    std::thread::park_timeout(Duration::from_millis(1300));
    assert_eq!(setup.nvme.csts(), reg::CSTS_RDY);
    setup.nvme.identify(1, 0).unwrap();
}
