// SPDX-License-Identifier: BSD-2-Clause

use super::*;
use devhost::driver::registers as reg;
use devhost::rig::pause;

const KEEP_ALIVE: u8 = 0x18;

/// The shortest that there is.
const TIMEOUT: Duration = Duration::from_secs(1);

impl Setup {
    fn set_timer(&self) {
        self.nvme.set_feature(0x0f, TIMEOUT.as_millis() as u32, 0).unwrap();
    }

    fn is_fatal(&self) -> bool {
        self.nvme.csts() & reg::CSTS_CFS != 0
    }

    /// Runs `entry`, which nobody answers once the timer has expired.
    fn succeeds(&self, pair: &QueuePair, entry: Entry) -> bool {
        let cid = pair.submit(entry).unwrap();
        let mut status = None;
        assert!(soon(|| {
            let fatal = self.is_fatal();
            pair.poll();
            status = pair.take(cid).map(|completion| completion.status);
            status.is_some() || fatal
        }));
        status.is_some_and(|status| status.is_success())
    }

    /// The guest says that it is alive for twice as long as the timeout.
    /// Returns when it began to say so for the last time; `None` if the host
    /// has stopped it for so long meanwhile that it was silent.
    fn stay_alive(&self, pair: &QueuePair, entry: Entry) -> Option<Instant> {
        let admin = self.nvme.admin();
        let begun = Instant::now();
        let mut last = begun;
        self.set_timer();
        while begun.elapsed() < 2 * TIMEOUT {
            let next = Instant::now();
            if !self.succeeds(&admin, Entry::new(KEEP_ALIVE)) || !self.succeeds(pair, entry) {
                assert!(self.is_fatal() && last.elapsed() >= TIMEOUT, "{:?}", last.elapsed());
                return None;
            }
            last = next;
            std::thread::park_timeout(Duration::from_millis(50));
        }
        Some(last)
    }

    /// Sets the timer and calls `end` before it can have expired, which takes
    /// another life if the host stops the test in between.
    fn end_in_time(&self, end: impl Fn()) {
        for _ in 0..20 {
            let begun = Instant::now();
            self.set_timer();
            end();
            if begun.elapsed() < TIMEOUT {
                return;
            }
            self.reset();
        }
        panic!("the host stops all the time");
    }
}

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
    let data = setup.data(512);
    let (pair, request, last) = (0..20)
        .find_map(|_| {
            setup.reset();
            let pair = setup.pair(1, 16);
            let request = setup.nvme.request_event().unwrap();
            let last = setup.stay_alive(&pair, read(&data, 0))?;
            Some((pair, request, last))
        })
        .expect("a host that does not stop all the time");
    // I/O is no sign of life.
    let mut reading = None;
    assert!(soon(|| {
        if reading.is_none_or(|cid| pair.take(cid).is_some()) {
            reading = Some(pair.submit(read(&data, 0)).unwrap());
        }
        pair.poll();
        setup.is_fatal()
    }));
    assert!(last.elapsed() >= TIMEOUT, "{:?}", last.elapsed());
    assert_eq!(setup.nvme.csts(), reg::CSTS_RDY | reg::CSTS_CFS);
    assert!(setup.nvme.admin().take(request).is_none());
    let operations = setup.gate.log().len();
    setup.nvme.write32(setup.nvme.sq_doorbell(1), 5);
    setup.nvme.write32(setup.nvme.sq_doorbell(0), 5);
    pause(Duration::from_millis(20));
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
    setup.end_in_time(|| setup.nvme.write32(reg::CC, 0x0046_0001 | reg::CC_SHN_NORMAL));
    setup.nvme.wait_csts(reg::CSTS_SHST, reg::CSTS_SHST_COMPLETE).unwrap();
    pause(Duration::from_millis(1300));
    assert_eq!(setup.nvme.csts(), reg::CSTS_RDY | reg::CSTS_SHST_COMPLETE);
    setup.reset();
    setup.end_in_time(|| setup.nvme.write32(reg::CC, 0));
    setup.nvme.wait_csts(reg::CSTS_RDY, 0).unwrap();
    setup.nvme.enable(&Enable::default()).unwrap();
    pause(Duration::from_millis(1300));
    assert_eq!(setup.nvme.csts(), reg::CSTS_RDY);
    setup.nvme.identify(1, 0).unwrap();
}
