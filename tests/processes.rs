// SPDX-License-Identifier: BSD-2-Clause

//! A guest's reboot is a new process over the same store, and the old one may
//! end at any moment, with all its threads running.

use devhost::bhyve::{Device, Machine};
use devhost::driver::registers as reg;
use devhost::driver::{Data, Enable, Entry, Memory, Nvme, QueuePair, Wait};
use devhost::rig::{TempDir, pattern, pause, read, write};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Tells a child its store, and that it is one.
const STORE: &str = "BHYVE_NVME_TEST_STORE";
/// Milliseconds after which a child exits; never, if it is not there.
const LIFE: &str = "BHYVE_NVME_TEST_LIFE";

/// Which boot of the guest it is.
const BOOT: &str = "BHYVE_NVME_TEST_BOOT";

const LINE: &str = "what is flushed is flushed";

fn start(path: &Path, options: &str) -> Nvme {
    let machine = Machine::with_ram(16 << 20);
    let slot = format!("4,nvme,{},sectsz=512{options}", path.display());
    let device = Arc::new(Device::new(&machine, &slot).unwrap());
    let memory = Memory::all(&machine);
    let nvme = Nvme::new(device, &memory);
    nvme.msix().setup();
    nvme
}

fn pair(nvme: &Nvme, id: u16) -> QueuePair {
    nvme.create_pair(id, 64, Some(id), Wait::Interrupt).unwrap()
}

/// What is in the store after boot `boot`: written by that one and flushed.
fn kept(boot: u64) -> Vec<u8> {
    pattern(64 << 10, boot)
}

/// The other half of the tests below: a guest that writes, flushes, and goes on
/// with I/O and resets on two vCPUs until its process ends.
#[test]
#[ignore = "only as a child of the others"]
#[expect(clippy::disallowed_methods, reason = "the hypervisor ends itself")]
fn child() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let life = std::env::var(LIFE).ok().and_then(|life| life.parse::<u64>().ok());
    let nvme = start(Path::new(&path), "");
    nvme.enable(&Enable::default()).unwrap();
    // Nothing of this may outlive the process.
    nvme.set_feature(0x0b, 0x31d, 0).unwrap();
    nvme.set_feature(0x04, 0x0123, 0).unwrap();
    nvme.set_queue_count(2).unwrap();
    let pairs = [pair(&nvme, 1), pair(&nvme, 2)];
    let data = Data::new(nvme.memory(), 64 << 10).unwrap();
    assert!(pairs[0].run(read(&data, u64::MAX)).is_ok());
    let boot = std::env::var(BOOT).unwrap().parse().unwrap();
    data.write(&kept(boot));
    pairs[0].execute(write(&data, 0)).unwrap();
    pairs[0].execute(Entry::flush(1)).unwrap();
    println!("\n{LINE}");
    std::thread::scope(|scope| {
        for pair in &pairs {
            let noise = Data::new(nvme.memory(), 4096).unwrap();
            scope.spawn(move || {
                loop {
                    let entry = |n: usize| {
                        if n.is_multiple_of(2) { read(&noise, 0) } else { write(&noise, 4096) }
                    };
                    pair.stream(32, 1000, entry, |_, _| ()).unwrap();
                }
            });
        }
        scope.spawn(|| {
            let other = Machine::with_ram(4 << 20);
            let device = Arc::new(Device::new(&other, "5,nvme,ram=1").unwrap());
            let nvme = Nvme::new(device, &Memory::all(&other));
            loop {
                nvme.enable(&Enable::default()).unwrap();
                let pair = nvme.create_pair(1, 64, None, Wait::Poll).unwrap();
                let noise = Data::new(nvme.memory(), 4096).unwrap();
                let block = Entry::read(1, 0, 1, &noise.prp().unwrap());
                pair.submit_all(&vec![block; 20]).unwrap();
                nvme.disable().unwrap();
            }
        });
        pause(Duration::from_millis(life.unwrap_or(60_000)));
        std::process::exit(0);
    });
}

#[expect(clippy::disallowed_methods, reason = "the program runs itself")]
fn spawn(path: &Path, boot: u64, life: Option<u64>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env(STORE, path)
        .env(BOOT, boot.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(life) = life {
        command.env(LIFE, life.to_string());
    }
    command.spawn().unwrap()
}

/// Waits until the child has flushed.
fn flushed(child: &mut Child) {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines.map_while(Result::ok).any(|line| line == LINE);
    assert!(said, "the child ended before its flush");
}

fn store(dir: &TempDir) -> std::path::PathBuf {
    let path = dir.path().join("disk");
    File::create(&path).unwrap().set_len(8 << 20).unwrap();
    path
}

#[test]
fn a_new_process_begins_anew_over_what_was_flushed() {
    let dir = TempDir::new("boots").unwrap();
    let path = store(&dir);
    let fresh = |nvme: &Nvme| -> Vec<Option<u32>> {
        (0..16).map(|feature| nvme.get_feature(feature, 0, 0).ok()).collect()
    };
    let never_used = {
        let nvme = start(&path, ",ro");
        nvme.enable(&Enable::default()).unwrap();
        fresh(&nvme)
    };
    for boot in 1..=4 {
        let mut child = spawn(&path, boot, None);
        flushed(&mut child);
        pause(Duration::from_millis(5 * boot));
        // Like a power cut, but for the host's cache.
        child.kill().unwrap();
        child.wait().unwrap();

        let nvme = start(&path, if boot % 2 == 0 { ",ioslots=1" } else { "" });
        assert_eq!((nvme.read32(reg::CC), nvme.csts(), nvme.read32(reg::AQA)), (0, 0, 0));
        assert_eq!((nvme.read64(reg::ASQ), nvme.read64(reg::ACQ)), (0, 0));
        nvme.enable(&Enable::default()).unwrap();
        assert_eq!(nvme.get_log(1, 0, 0, 64, false).unwrap(), vec![0; 64], "boot {boot}");
        let features = fresh(&nvme);
        // The read-only store above has no cache to switch.
        let but_cache = |values: &[Option<u32>]| {
            values
                .iter()
                .enumerate()
                .filter(|(id, _)| *id != 6)
                .map(|(_, v)| *v)
                .collect::<Vec<_>>()
        };
        assert_eq!(but_cache(&features), but_cache(&never_used), "boot {boot}");
        let data = Data::new(nvme.memory(), 64 << 10).unwrap();
        pair(&nvme, 1).execute(read(&data, 0)).unwrap();
        assert!(data.to_vec() == kept(boot), "boot {boot}");
        nvme.shutdown(false).unwrap();
    }
}

/// exit() with all threads of two devices at work: no panic, no signal, no
/// hang, whenever it comes.
#[test]
fn exit_may_come_at_any_time() {
    let dir = TempDir::new("exits").unwrap();
    let path = store(&dir);
    for round in 0..20 {
        let mut child = spawn(&path, round, Some(round % 5));
        flushed(&mut child);
        let mut ended = None;
        for _ in 0..4000 {
            ended = child.try_wait().unwrap();
            if ended.is_some() {
                break;
            }
            pause(Duration::from_millis(5));
        }
        let Some(status) = ended else {
            child.kill().unwrap();
            panic!("round {round}: the process hangs in its exit");
        };
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(status.success(), "round {round}: {status}\n{said}");
        assert!(!said.contains("panicked"), "round {round}: {said}");
        assert!(!said.contains("internal error"), "round {round}: {said}");
    }
}
