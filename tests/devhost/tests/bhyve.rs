// SPDX-License-Identifier: BSD-2-Clause

//! The stand-in and the driver themselves: that they behave as bhyve and as a
//! guest do, so that what other tests conclude from them holds.

use devhost::bhyve::{Bar, Device, LogCapture, Machine};
use devhost::driver::{
    Data, Enable, Entry, Error, Memory, Nvme, PAGE, QueuePair, Status, Wait, admin_opcode,
};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const RAM: u64 = 64 << 20;

/// How long what does not come is waited for.
const SOON: Duration = Duration::from_millis(300);

fn start(option: &str) -> (Arc<Device>, Arc<Memory>) {
    let machine = Machine::with_ram(RAM);
    let device = Device::new(&machine, option).unwrap();
    let memory = Memory::all(&machine);
    (Arc::new(device), memory)
}

fn enabled(option: &str, wait: Wait) -> (Arc<Device>, Nvme) {
    let (device, memory) = start(option);
    let nvme = Nvme::new(device.clone(), &memory);
    nvme.msix().setup();
    nvme.enable(&Enable { wait, ..Enable::default() }).unwrap();
    (device, nvme)
}

/// Bytes that differ from block to block and from seed to seed.
fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (seed * 31 + i * 7 + i / 512) as u8).collect()
}

#[test]
fn slots_are_read_as_bhyve_reads_them() {
    let machine = Machine::with_ram(RAM);
    for option in ["4,nvme,ram=1", "4:1,nvme,ram=1", "0:4:7,nvme,ram=1", "1:31:0,nvme,ram=1"] {
        assert!(Device::new(&machine, option).is_ok(), "{option}");
    }
    for option in ["32,nvme,ram=1", "4:8,nvme,ram=1", "x,nvme,ram=1", "4", "4,nvm,ram=1"] {
        let error = Device::new(&machine, option).err().unwrap();
        assert_eq!(error.messages.len(), 1, "{option}: {error}");
    }
}

#[test]
fn settings_come_after_the_option_or_alone() {
    let machine = Machine::with_ram(RAM);
    let settings = [("pci.0.4.0.ser", "SETTING")];
    let device = Device::with_settings(&machine, Some("4,nvme,ram=1,ser=OPTION"), &settings);
    let nvme = Nvme::new(Arc::new(device.unwrap()), &Memory::all(&machine));
    nvme.enable(&Enable::default()).unwrap();
    assert_eq!(&nvme.identify(1, 0).unwrap()[4..12], b"SETTING ");

    let alone = [("pci.0.5.0.device", "nvme"), ("pci.0.5.0.ram", "1")];
    assert!(Device::with_settings(&machine, None, &alone).is_ok());
    assert!(Device::with_settings(&machine, None, &[]).is_err());
}

/// bhyve prints errno after the line that says why: it must not be that of some
/// call in between.
#[test]
fn what_bhyve_prints_of_a_start_that_failed_is_the_reason() {
    let machine = Machine::with_ram(1 << 20);
    for (slot, line, reason) in [
        ("4,nvme,/no/such/disk", "path=/no/such/disk: ", "No such file or directory"),
        ("4,nvme,/", "path=/: is a directory", "Is a directory"),
        ("4,nvme,ram=8,maxq=65", "nvme: maxq=65: must be ", "Invalid argument"),
        ("4,nvme,ram=8,sectsz=1024", "nvme: sectsz=1024: must be ", "Invalid argument"),
        ("4,nvme,ram=8796093022207", "the host has not so much memory", "Cannot allocate memory"),
    ] {
        let error = Device::new(&machine, slot).err().unwrap().to_string();
        assert!(error.contains(line), "{slot}: {error}");
        let last = format!("device emulation initialization error: {reason}");
        assert!(error.contains(&last), "{slot}: {error}");
    }
}

#[test]
fn what_is_said_can_be_collected() {
    let capture = LogCapture::start();
    let machine = Machine::with_ram(RAM);
    let error = Device::new(&machine, "4,nvme,ram=never").err().unwrap();
    assert!(error.messages[0].contains("ram=never"), "{error}");
    assert!(capture.lines().contains(&error.messages[0]));
    let device = Device::new(&machine, "4,nvme,ram=1,serial=1").unwrap();
    assert!(device.start_messages().iter().any(|line| line.contains("serial")));
}

#[test]
fn configuration_space_is_bhyves() {
    let (device, _) = start("4,nvme,ram=1");
    assert_eq!(device.bar_info(0), Bar::Memory64(16384));
    assert_eq!(device.bar_info(1), Bar::None);
    assert_eq!(device.bar_info(4), Bar::Memory32(8192));
    device.cfg_write(0x20, 4, 0xffff_ffff);
    assert_eq!(device.cfg_read(0x20, 4), 0xffff_e000);
    // Aligned accesses alone; nothing beyond the first 256 bytes.
    assert_eq!(device.cfg_read(1, 2), 0xffff);
    assert_eq!(device.cfg_read(256, 4), 0xffff_ffff);
    let status = device.cfg_read(6, 2);
    device.cfg_write(4, 4, 0xffff_ffff);
    assert_eq!(device.cfg_read(6, 2), status);
    // Identity and link of a capability are read-only, its rest is not.
    let msix = device.capability(0x11).unwrap();
    let link = device.cfg_read(msix, 2);
    device.cfg_write(msix, 4, 0x8000_ffff);
    assert_eq!(device.cfg_read(msix, 2), link);
    assert_eq!(device.cfg_read(msix + 2, 2) & 0xf800, 0x8000);
}

#[test]
fn a_host_reset_brings_configuration_space_back() {
    let (device, nvme) = enabled("4,nvme,ram=1", Wait::Interrupt);
    let fresh = Device::new(nvme.memory().machine(), "4,nvme,ram=1").unwrap().cfg_save();
    assert_ne!(device.cfg_save(), fresh);
    nvme.function_level_reset().unwrap();
    device.cfg_restore(&fresh);
    assert_eq!(device.cfg_save(), fresh);
    assert!(nvme.msix().masked(0));
    // And it is as good as new.
    nvme.msix().setup();
    nvme.enable(&Enable { wait: Wait::Interrupt, ..Enable::default() }).unwrap();
    nvme.identify(1, 0).unwrap();
}

#[test]
fn a_masked_vector_leaves_no_pending_bit() {
    let (device, nvme) = enabled("4,nvme,ram=1", Wait::Poll);
    let raised = || nvme.msix().interrupts().count(0);
    let before = raised();
    nvme.msix().mask(0, true);
    nvme.identify(1, 0).unwrap();
    assert_eq!(raised(), before);
    // 17 vectors: the pending bits are at the second page of the BAR.
    assert_eq!(device.bar_read(4, 4096, 4), 0);
    nvme.msix().mask(0, false);
    assert!(nvme.msix().interrupts().wait(0, before, devhost::PATIENCE) > before);
}

#[test]
fn the_table_takes_aligned_words_alone() {
    let (device, _) = start("4,nvme,ram=1");
    device.bar_write(4, 16, 4, 0x1234_5678);
    device.bar_write(4, 16, 2, 0xffff);
    device.bar_write(4, 18, 4, 0xffff_ffff);
    assert_eq!(device.bar_read(4, 16, 4), 0x1234_5678);
    assert_eq!(device.bar_read(4, 18, 4), 0xffff_ffff);
    device.bar_write(4, 16, 8, 0x1122_3344_5566_7788);
    assert_eq!(device.bar_read(4, 16, 8), 0x1122_3344_5566_7788);
    // Beyond the 17th entry there is nothing.
    assert_eq!(device.bar_read(4, 17 * 16, 4), 0xffff_ffff);
}

#[test]
fn data_goes_and_comes_in_every_form() {
    let (_device, nvme) = enabled("4,nvme,ram=8,sectsz=512", Wait::Interrupt);
    let queue = nvme.create_pair(1, 64, Some(1), Wait::Interrupt).unwrap();
    let memory = nvme.memory();
    let mut lba = 0;
    for len in [512, 4096, 4608, 8192, 12288, 65536, 1 << 20] {
        for offset in [0, 4, 512, 4092] {
            for scattered in [false, true] {
                for list_at in [0, 8, 2048, 4088] {
                    let make = if scattered { Data::scattered } else { Data::contiguous };
                    let data = make(memory, len, offset).unwrap();
                    let prp = data.prp_with_list_at(list_at).unwrap();
                    let bytes = pattern(len, lba as usize + offset);
                    data.fill(0xa5);
                    data.write(&bytes);
                    let blocks = (len / 512) as u32;
                    queue.execute(Entry::write(1, lba, blocks, &prp)).unwrap();
                    data.fill(0x5a);
                    queue.execute(Entry::read(1, lba, blocks, &prp)).unwrap();
                    assert!(data.to_vec() == bytes, "{len} {offset} {scattered} {list_at}");
                    assert_eq!(data.spilt(0x5a), 0, "{len} {offset} {scattered} {list_at}");
                    lba = (lba + 1) % 4096;
                }
            }
        }
    }
    assert!(queue.strays().is_empty());
}

/// Writes and reads back on a queue of its own, at depth.
fn hammer(nvme: &Nvme, queue: &QueuePair, lba: u64, depth: usize) {
    let slots: Vec<Data> = (0..depth).map(|_| Data::new(nvme.memory(), 4096).unwrap()).collect();
    let prps: Vec<_> = slots.iter().map(|data| data.prp().unwrap()).collect();
    for round in 0..8 {
        for (slot, data) in slots.iter().enumerate() {
            data.write(&pattern(4096, round * depth + slot));
        }
        let at = |i: usize| lba + (i * 8) as u64;
        let succeeded = |_, completion: devhost::driver::Completion| {
            assert!(completion.status.is_success(), "{completion:?}");
        };
        queue.stream(depth, depth, |i| Entry::write(1, at(i), 8, &prps[i]), succeeded).unwrap();
        slots.iter().for_each(|data| data.fill(0));
        queue.stream(depth, depth, |i| Entry::read(1, at(i), 8, &prps[i]), succeeded).unwrap();
        for (slot, data) in slots.iter().enumerate() {
            assert!(data.to_vec() == pattern(4096, round * depth + slot), "{round} {slot}");
        }
    }
}

#[test]
fn threads_use_queues_of_their_own() {
    for wait in [Wait::Poll, Wait::Interrupt] {
        let (_device, nvme) = enabled("4,nvme,ram=8,sectsz=512", wait);
        let queues: Vec<QueuePair> =
            (1..=4).map(|id| nvme.create_pair(id, 16, Some(id), wait).unwrap()).collect();
        thread::scope(|scope| {
            for (number, queue) in queues.iter().enumerate() {
                let nvme = &nvme;
                scope.spawn(move || hammer(nvme, queue, number as u64 * 2048, 40));
            }
        });
        for queue in queues {
            assert_eq!(queue.in_flight(), 0);
            nvme.delete_pair(&Arc::new(queue)).unwrap();
        }
        nvme.shutdown(false).unwrap();
        nvme.disable().unwrap();
    }
}

#[test]
fn threads_share_a_queue() {
    let (_device, nvme) = enabled("4,nvme,ram=8,sectsz=512", Wait::Interrupt);
    let queue = nvme.create_pair(1, 4, Some(1), Wait::Interrupt).unwrap();
    thread::scope(|scope| {
        for number in 0..6 {
            let (nvme, queue) = (&nvme, &queue);
            scope.spawn(move || {
                let data = Data::new(nvme.memory(), 512).unwrap();
                let prp = data.prp().unwrap();
                for round in 0..100 {
                    let bytes = pattern(512, number * 100 + round);
                    data.write(&bytes);
                    queue.execute(Entry::write(1, number as u64, 1, &prp)).unwrap();
                    data.fill(0);
                    queue.execute(Entry::read(1, number as u64, 1, &prp)).unwrap();
                    assert_eq!(data.to_vec(), bytes);
                }
            });
        }
    });
}

#[test]
fn two_devices_share_a_machine() {
    let machine = Machine::with_ram(RAM);
    let memory = Memory::all(&machine);
    let nvmes: Vec<Nvme> = ["4,nvme,ram=8,sectsz=512,ser=A", "5,nvme,ram=8,sectsz=512,ser=B"]
        .iter()
        .map(|option| {
            let device = Device::new(&machine, option).unwrap();
            let nvme = Nvme::new(Arc::new(device), &memory);
            nvme.msix().setup();
            nvme.enable(&Enable { wait: Wait::Interrupt, ..Enable::default() }).unwrap();
            nvme
        })
        .collect();
    thread::scope(|scope| {
        for (nvme, serial) in nvmes.iter().zip([b'A', b'B']) {
            scope.spawn(move || {
                assert_eq!(nvme.identify(1, 0).unwrap()[4], serial);
                let queue = nvme.create_pair(1, 16, Some(1), Wait::Interrupt).unwrap();
                hammer(nvme, &queue, 0, 16);
            });
        }
    });
    assert!(nvmes.iter().all(|nvme| nvme.msix().interrupts().strays() == 0));
}

#[test]
fn a_timeout_shows_how_things_stand() {
    let (_device, nvme) = enabled("4,nvme,ram=1", Wait::Poll);
    let cid = nvme.request_event().unwrap();
    let admin = nvme.admin();
    let Err(Error::Timeout(dump)) = admin.wait_within(cid, SOON) else { panic!("an event came") };
    for part in ["in flight: 1", "(0x0c)", "CSTS 0x1", "tail 1"] {
        assert!(dump.contains(part), "{part} is missing:\n{dump}");
    }
}

#[test]
fn a_lost_interrupt_is_noticed() {
    let (_device, nvme) = enabled("4,nvme,ram=1", Wait::Interrupt);
    nvme.identify(1, 0).unwrap();
    nvme.msix().mask(0, true);
    let admin = nvme.admin();
    let cid = admin.submit(Entry::new(admin_opcode::GET_FEATURES).word(10, 7)).unwrap();
    while !admin.raw(|_, cq| cq.ready()) {
        std::thread::yield_now();
    }
    let Err(Error::Timeout(dump)) = admin.wait_within(cid, SOON) else { panic!("it was masked") };
    assert!(dump.contains("no interrupt came"), "{dump}");
}

#[test]
fn a_stray_completion_is_noticed() {
    let (_device, nvme) = enabled("4,nvme,ram=1", Wait::Poll);
    let admin = nvme.admin();
    admin.raw(|sq, _| {
        sq.push(&Entry::new(admin_opcode::GET_FEATURES).word(10, 7).cid(0x7777));
        sq.ring();
    });
    while admin.strays().is_empty() {
        admin.poll();
        thread::yield_now();
    }
    assert_eq!(admin.strays()[0].cid, 0x7777);
    assert!(matches!(nvme.identify(1, 0), Err(Error::Stray(_))));
}

#[test]
fn errors_keep_their_status() {
    let (_device, nvme) = enabled("4,nvme,ram=1", Wait::Poll);
    let error = nvme.create_sq(1, 1, 8).err().unwrap();
    assert_eq!(error.code(), Some(Status::CQ_INVALID));
    let queue = nvme.create_pair(1, 8, None, Wait::Poll).unwrap();
    let data = Data::new(nvme.memory(), PAGE as usize).unwrap();
    let end = nvme.namespace(1).unwrap().blocks;
    let beyond = Entry::read(1, end, 1, &data.prp().unwrap());
    let completion = queue.run(beyond).unwrap();
    assert_eq!(completion.status.code(), Status::LBA_OUT_OF_RANGE);
    assert_eq!(nvme.msix().interrupts().count(1), 0);
}
