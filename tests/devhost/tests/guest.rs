// SPDX-License-Identifier: BSD-2-Clause

//! A Linux guest on the controller, through the C interface, the glue and a
//! vfio-user server. One guest at a time: each has two processors and is
//! emulated.

#![expect(clippy::disallowed_methods, reason = "the library's rules do not bind its tests")]

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use devhost::guest::{self, Options, Outcome, Served, Socket, Spec, TempDir};

const SCRIPTS: &str = concat!(
    "set -eu\n",
    include_str!("../../guest/lib.sh"),
    include_str!("../../guest/identify.sh"),
    include_str!("../../guest/verify.sh"),
    include_str!("../../guest/filesystem.sh"),
    include_str!("../../guest/commands.sh"),
    include_str!("../../guest/resize.sh"),
);

const MIB: u64 = 1 << 20;

/// Ends a guest that hangs. The longest takes two minutes, on a host with a
/// processor for it.
const LIMIT: Duration = Duration::from_secs(1200);

fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn image(dir: &TempDir, name: &str, bytes: u64) -> PathBuf {
    let path = dir.path().join(name);
    File::create(&path).unwrap().set_len(bytes).unwrap();
    path
}

fn options(served: &Served, commands: &str) -> Options {
    Options {
        sockets: served.sockets().to_vec(),
        disks: served.sockets().len(),
        commands: format!("{SCRIPTS}\n{commands}"),
        timeout: LIMIT,
        ..Options::default()
    }
}

/// Boots a guest with the devices of `slots`, runs `commands` after the
/// scripts, and expects them to succeed. What they print is shown. Returns
/// with the outcome the most commands that each device had in its store at once.
fn run(slots: &[String], commands: &str) -> (Outcome, Vec<u32>) {
    run_with(slots, commands, "")
}

/// As [`run`], with more on the kernel's command line.
fn run_with(slots: &[String], commands: &str, kernel_args: &str) -> (Outcome, Vec<u32>) {
    let served = Served::start(&Spec::group(slots, &[]).unwrap()).unwrap();
    let kernel_args = kernel_args.to_owned();
    let result = guest::run(&Options { kernel_args, ..options(&served, commands) });
    let peaks = served.devices().iter().map(|device| device.statistics().peak_in_backend).collect();
    // A server's error explains what QEMU made of it.
    served.finish().unwrap();
    let outcome = result.unwrap();
    print!("{}", outcome.output);
    assert_eq!(outcome.status, 0, "{}\nconsole:\n{}", outcome.output, outcome.console);
    (outcome, peaks)
}

/// Says that it is over, however that comes.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Gives `disk` the size that the guest writes to its first block.
fn resize_as_told(disk: &Path, over: &AtomicBool) {
    let file = OpenOptions::new().read(true).write(true).open(disk).unwrap();
    while !over.load(Ordering::SeqCst) {
        let mut block = [0; 512];
        file.read_exact_at(&mut block, 0).unwrap();
        let told = std::str::from_utf8(&block).ok().and_then(|text| text.strip_prefix("RESIZE "));
        if let Some(bytes) = told.and_then(|bytes| bytes.trim().parse().ok())
            && bytes != file.metadata().unwrap().len()
        {
            file.set_len(bytes).unwrap();
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// The guest's checksum of the disk `serial` is that of the file.
fn assert_same_checksum(outcome: &Outcome, serial: &str, file: &Path) {
    let prefix = format!("sha256 {serial} ");
    let line = outcome.output.lines().find_map(|line| line.strip_prefix(&prefix));
    assert_eq!(line.expect("no checksum in the output"), fetch::hash_file(file).unwrap());
}

#[test]
fn io_with_one_slot_on_a_file_and_in_memory() {
    let _one = one_at_a_time();
    let dir = TempDir::new("guest-test").unwrap();
    let disk = image(&dir, "disk.img", 64 * MIB);
    let slots = [
        format!("4,nvme,{},maxq=16,qsz=8,ioslots=1,sectsz=512,ser=ABC123", disk.display()),
        "5,nvme,ram=64,ioslots=1,sectsz=512,ser=RAM1".to_owned(),
    ];
    let (outcome, peaks) = run(
        &slots,
        "for disk in ABC123 RAM1; do
             identify $disk 512 2; verify $disk 512; verify_over_resets $disk; filesystem $disk
         done
         checksum ABC123",
    );
    assert_same_checksum(&outcome, "ABC123", &disk);
    assert_eq!(peaks, [1, 1], "ioslots=1 lets one command at a time into the store");
}

#[test]
fn io_with_the_defaults_on_a_file_and_in_memory() {
    let _one = one_at_a_time();
    let dir = TempDir::new("guest-test").unwrap();
    let disk = image(&dir, "disk.img", 64 * MIB);
    let slots = [format!("4,nvme,{}", disk.display()), "5,nvme,ram=64".to_owned()];
    let over = AtomicBool::new(false);
    let (outcome, peaks) = thread::scope(|scope| {
        let _over = Over(&over);
        scope.spawn(|| resize_as_told(&disk, &over));
        run(
            &slots,
            "identify NVME-4-0 512 2; verify NVME-4-0 512; verify_over_resets NVME-4-0; filesystem NVME-4-0
             identify NVME-5-0 4096 2; verify NVME-5-0 4096; verify_over_resets NVME-5-0; filesystem NVME-5-0
             discards NVME-5-0; trims NVME-5-0; resize NVME-4-0; checksum NVME-4-0",
        )
    });
    assert_same_checksum(&outcome, "NVME-4-0", &disk);
    assert!((2..=8).contains(&peaks[0]), "of 8 slots, {} were in use at once", peaks[0]);
}

/// Every subcommand of nvme-cli that is about what is advertised, by value, and
/// the others by the status that refuses them; discards, formats, and a
/// controller that goes away under load and comes back. The registers are
/// mapped beside the driver, which only a relaxed kernel lets programs do.
#[test]
fn every_command_of_nvme_cli_is_answered_right() {
    let _one = one_at_a_time();
    let dir = TempDir::new("guest-test").unwrap();
    let (disk, trimmed) = (image(&dir, "disk.img", 64 * MIB), image(&dir, "trimmed.img", 64 * MIB));
    let slots = [
        format!("4,nvme,{},sectsz=512,ser=ALL", disk.display()),
        format!("5,nvme,{},sectsz=512,ser=TRIM,sgl=off", trimmed.display()),
    ];
    run_with(
        &slots,
        "identify_in_full ALL 131072; logs ALL 131072; features ALL; io_commands ALL 131072
         not_there ALL; discards ALL; formats ALL; trims TRIM; comes_back ALL",
        "iomem=relaxed",
    );
    // 32 MiB were written and trimmed.
    let kept = fs::metadata(&trimmed).unwrap().blocks() * 512;
    assert!(kept < 20 * MIB, "{kept} bytes of the store are in use after fstrim");
}

#[test]
fn the_command_line_returns_the_guests_status_and_its_output_alone() {
    let _one = one_at_a_time();
    let output = Command::new(env!("CARGO_BIN_EXE_devhost"))
        .args(["-o", "pci.0.6.0.ser=FROM-A-NODE", "-s", "6,nvme,ram=16", "guest", "--smp", "1", "--run"])
        .arg("cat /sys/bus/pci/devices/0000:00:06.0/nvme/nvme0/serial; printf 'no newline \\036exit 0'; nproc; exit 7")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{text}{errors}");
    assert_eq!(text.lines().next().map(str::trim_end), Some("FROM-A-NODE"));
    assert!(text.ends_with("no newline \x1eexit 01\n"), "{text:?}");
}

#[test]
fn a_guest_that_does_not_end_is_ended() {
    let _one = one_at_a_time();
    let served = Served::start(&Spec::group(&["4,nvme,ram=16".to_owned()], &[]).unwrap()).unwrap();
    let begun = Instant::now();
    let options = Options { timeout: Duration::from_millis(500), ..options(&served, "sleep 1000") };
    let error = guest::run(&options).unwrap_err().to_string();
    assert!(error.contains("did not end within"), "{error}");
    assert!(begun.elapsed() < LIMIT);
    served.finish().unwrap();
}

/// A `devhost serve`, killed when dropped.
struct Server(Child, Socket);

impl Server {
    fn start(slot: &str, dir: &Path) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_devhost"))
            .args(["-s", slot, "serve"])
            .arg(dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(Path::new(line.trim_end()), dir.join("cntrl"));
        Server(child, Socket { path: dir.join("cntrl"), slot: None, boot_index: None })
    }

    fn options(&self, commands: &str) -> Options {
        Options {
            sockets: vec![self.1.clone()],
            disks: 1,
            commands: format!("{SCRIPTS}\n{commands}"),
            timeout: LIMIT,
            ..Options::default()
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn twenty_sessions_in_a_row_find_a_fresh_controller_over_the_same_store() {
    let _one = one_at_a_time();
    let dir = TempDir::new("guest-test").unwrap();
    let disk = image(&dir, "disk.img", 32 * MIB);
    let mut server =
        Server::start(&format!("4,nvme,{},ser=SERVED", disk.display()), &dir.path().join("s"));

    // A checksum in each block, and half of the sessions die at some point of
    // the firmware's work on the disk.
    let written = server.options(
        "run_fio $(disk_of SERVED) --rw=write --bs=64k --size=16m --verify=crc32c --do_verify=0 --fsync_on_close=1 --name=s",
    );
    let outcome = guest::run(&written).unwrap();
    assert_eq!(outcome.status, 0, "{}", outcome.output);
    let sum = fetch::hash_file(&disk).unwrap();
    for session in 1..19 {
        let time = Duration::from_millis(150 + 60 * session);
        guest::run_firmware(&server.options(""), time).unwrap();
    }
    assert_eq!(
        fetch::hash_file(&disk).unwrap(),
        sum,
        "a session that wrote nothing changed the store"
    );
    let read = server.options(
        "run_fio $(disk_of SERVED) --rw=write --bs=64k --size=16m --verify=crc32c --verify_only=1 --name=s; identify SERVED 512 2",
    );
    let outcome = guest::run(&read).unwrap();
    assert_eq!(outcome.status, 0, "{}", outcome.output);

    let stopped = Command::new("kill").arg(server.0.id().to_string()).status().unwrap();
    assert!(stopped.success());
    assert!(server.0.wait().unwrap().success(), "a server that is told to stop ends well");
    assert!(!server.1.path.exists(), "its socket is gone");
}

#[test]
fn a_guest_whose_server_dies_ends_without_success() {
    let _one = one_at_a_time();
    let dir = TempDir::new("guest-test").unwrap();
    let disk = image(&dir, "disk.img", 16 * MIB);
    let mut server =
        Server::start(&format!("4,nvme,{},ser=DYING", disk.display()), &dir.path().join("s"));
    let options = server.options(
        "disk=/dev/$(disk_of DYING)
         echo alive | dd of=$disk conv=fsync 2>/dev/null || true
         while dd if=$disk of=/dev/null bs=4096 count=1 iflag=direct 2>/dev/null; do :; done
         echo the disk is gone; exit 3",
    );
    let guest = thread::spawn(move || guest::run(&options));
    // The guest is up once its first write is in the file.
    let mut file = File::open(&disk).unwrap();
    let begun = Instant::now();
    let mut first = [0; 5];
    while &first != b"alive" {
        assert!(begun.elapsed() < LIMIT && !guest.is_finished(), "the guest wrote nothing");
        thread::sleep(Duration::from_millis(100));
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_exact(&mut first).unwrap();
    }
    server.0.kill().unwrap();
    let error = guest.join().unwrap().map(|outcome| outcome.output).unwrap_err().to_string();
    assert!(error.contains("server of one of its devices"), "{error}");
}

#[test]
fn temporary_folders_are_gone_after_an_interrupt() {
    let _one = one_at_a_time();
    let dir = TempDir::new("guest-test").unwrap();
    let temporary = dir.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_devhost"))
        .args(["-s", "4,nvme,ram=16", "guest", "--run", "sleep 1000"])
        .env("TMPDIR", &temporary)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    // One folder for the sockets, one for the guest, with QEMU's socket in it.
    let job = |entry: fs::DirEntry| entry.path().join("job").exists();
    while !fs::read_dir(&temporary).unwrap().flatten().any(job) {
        assert!(begun.elapsed() < LIMIT, "no guest was started");
        thread::sleep(Duration::from_millis(50));
    }
    assert!(
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success()
    );
    assert!(!child.wait().unwrap().success());
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}
