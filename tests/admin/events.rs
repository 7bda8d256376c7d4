// SPDX-License-Identifier: BSD-2-Clause

use super::*;

const TEMPERATURE_WARNING: u32 = 0x0002_0101;
const NAMESPACE_CHANGED: u32 = 0x0004_0002;
const INVALID_REGISTER: u32 = 0x0001_0000;

impl Setup {
    /// Whether the request `cid` has been answered, after a round trip through
    /// the controller.
    fn answered(&self, cid: u16) -> Option<u32> {
        self.nvme.identify(1, 0).unwrap();
        let completion = self.nvme.admin().take(cid)?;
        assert!(completion.status.is_success());
        Some(completion.dw0)
    }

    fn event(&self, cid: u16) -> u32 {
        self.nvme.admin().wait(cid).unwrap().dw0
    }
}

/// As many as AERL says are held, for ever; one more is refused, at once.
#[test]
fn requests_are_held_up_to_the_limit_and_gone_after_a_reset() {
    let setup = setup();
    let limit = usize::from(setup.nvme.identify(1, 0).unwrap()[259]) + 1;
    for _ in 0..2 {
        let held: Vec<u16> = (0..limit).map(|_| setup.nvme.request_event().unwrap()).collect();
        for _ in 0..3 {
            assert_eq!(setup.refused(Entry::new(0x0c)), Status::AER_LIMIT_EXCEEDED);
        }
        assert!(held.iter().all(|cid| setup.answered(*cid).is_none()));
        setup.nvme.write32(setup.nvme.sq_doorbell(9), 0);
        assert_eq!(setup.event(held[0]), INVALID_REGISTER);
        assert!(
            held[1..].iter().all(|cid| setup.answered(*cid).is_none()),
            "one event, one answer"
        );
        setup.reset();
        assert_eq!(setup.nvme.admin().poll(), 0, "a request of the life before was answered");
    }
}

/// The temperature is 296 K; the guest moves the thresholds about it.
#[test]
fn a_crossed_temperature_threshold_is_told_once_if_wanted() {
    let setup = setup();
    let warning = || setup.nvme.get_log(2, 0, 0, 4, true).unwrap()[0];
    let threshold = |value: u32| setup.nvme.set_feature(0x04, value, 0).unwrap();
    let request = setup.nvme.request_event().unwrap();
    threshold(297);
    assert_eq!(warning(), 0);
    threshold(296);
    assert_eq!(warning(), 2, "the log says it, whether it is wanted or not");
    assert_eq!(setup.answered(request), None, "not wanted");
    threshold(297);
    // Wanted, and already so when it becomes wanted.
    setup.nvme.set_feature(0x0b, 0x02, 0).unwrap();
    assert_eq!(setup.answered(request), None);
    threshold(200);
    assert_eq!(setup.event(request), TEMPERATURE_WARNING);

    // The same state is not told again; the next crossing is, once the log has
    // been read without retaining the event.
    let request = setup.nvme.request_event().unwrap();
    threshold(250);
    threshold(300);
    threshold(1 << 20 | 296);
    assert_eq!(setup.answered(request), None, "masked until the log is read");
    setup.nvme.get_log(2, 0, 0, 512, true).unwrap();
    assert_eq!(setup.answered(request), None, "the event was retained");
    setup.nvme.get_log(1, 0, 0, 64, false).unwrap();
    assert_eq!(setup.answered(request), None, "another log");
    setup.nvme.get_log(2, 0, 0, 512, false).unwrap();
    assert_eq!(setup.event(request), TEMPERATURE_WARNING, "under the lower threshold");
    assert_eq!(warning(), 2);
    setup.reset();
    assert_eq!(warning(), 0, "thresholds are at their defaults");
}

/// One kind of event does not mask another.
#[test]
fn kinds_are_masked_apart() {
    let setup = setup();
    setup.nvme.set_feature(0x0b, 0x0102, 0).unwrap();
    let requests = [(); 3].map(|()| setup.nvme.request_event().unwrap());
    setup.nvme.write32(setup.nvme.cq_doorbell(9), 0);
    assert_eq!(setup.event(requests[0]), INVALID_REGISTER);
    setup.nvme.set_feature(0x04, 100, 0).unwrap();
    assert_eq!(setup.event(requests[1]), TEMPERATURE_WARNING);
    setup.gate.resize(8 * MIB);
    setup.bare.controller().store_resized();
    assert_eq!(setup.event(requests[2]), NAMESPACE_CHANGED);
}

#[test]
fn a_changed_size_shows_everywhere_and_is_told_if_wanted() {
    let setup = setup();
    let pair = setup.pair(1, 16);
    let data = setup.data(512);
    let size = || setup.nvme.namespace(1).unwrap().blocks;
    let changed = |retain| setup.nvme.get_log(4, 0, 0, 4096, retain).unwrap();
    let request = setup.nvme.request_event().unwrap();
    let resize = |mib: u64| {
        setup.gate.resize(mib * MIB);
        setup.bare.controller().store_resized();
        assert!(soon(|| size() == mib * MIB / 512), "{mib} MiB: {}", size());
    };
    assert_eq!(changed(false), vec![0; 4096]);
    setup.bare.controller().store_resized();
    resize(8);
    assert_eq!(setup.answered(request), None, "not wanted");
    let mut one = vec![0; 4096];
    one[0] = 1;
    assert_eq!(changed(true), one);
    assert_eq!(changed(false), one, "retained");
    assert_eq!(changed(false), vec![0; 4096], "cleared by the read");
    let status = pair.run(read(&data, 8 * MIB / 512)).unwrap().status;
    assert_eq!(status.code(), Status::LBA_OUT_OF_RANGE);

    setup.nvme.set_feature(0x0b, 1 << 8, 0).unwrap();
    resize(12);
    assert_eq!(setup.event(request), NAMESPACE_CHANGED);
    pair.execute(read(&data, 8 * MIB / 512)).unwrap();
    let request = setup.nvme.request_event().unwrap();
    resize(16);
    assert_eq!(setup.answered(request), None, "masked until the list is read");
    changed(false);
    assert_eq!(setup.event(request), NAMESPACE_CHANGED);
    // The same size again is no change.
    changed(false);
    let request = setup.nvme.request_event().unwrap();
    setup.bare.controller().store_resized();
    assert_eq!(setup.answered(request), None);
    assert_eq!(changed(false), vec![0; 4096]);
}
