// SPDX-License-Identifier: BSD-2-Clause

//! Firmware that finds, reads and boots the controller's disks: SeaBIOS, OVMF
//! and U-Boot, each with a driver of its own.

#![expect(clippy::disallowed_methods, reason = "the library's rules do not bind its tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use devhost::guest::{self, Boot, Options, Served, Spec, TempDir};

const MIB: usize = 1 << 20;

fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn served(slots: &[String]) -> Served {
    Served::start(&Spec::group(slots, &[]).unwrap()).unwrap()
}

fn options(served: &Served, boot: Boot) -> Options {
    Options {
        boot,
        sockets: served.sockets().to_vec(),
        disks: served.sockets().len(),
        timeout: Duration::from_secs(900),
        ..Options::default()
    }
}

/// Bytes without a pattern.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Reads 16 parts of 64 sectors from sector 64 on with the BIOS' extended
/// read, and sends a sum of their 16-bit words, each added to what was rotated
/// by one, to the first serial port.
const BOOT_SECTOR: [u8; 0x63] = [
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xfb, // segments and stack
    0x31, 0xdb, // xor bx,bx
    0xbe, 0x70, 0x7c, 0xb4, 0x42, 0xcd, 0x13, 0x72, 0x48, // part: read, or fail
    0x1e, 0xb8, 0x00, 0x10, 0x8e, 0xd8, 0x31, 0xf6, 0xb9, 0x00, 0x40, // ds:si, cx words
    0xad, 0xd1, 0xc3, 0x01, 0xc3, 0xe2, 0xf9, 0x1f, // bx = rol(bx) + word
    0x83, 0x06, 0x78, 0x7c, 0x40, // 64 sectors on
    0xff, 0x0e, 0x80, 0x7c, 0x75, 0xd9, // one part less: to part
    0xbe, 0x84, 0x7c, // the text
    0xac, 0x84, 0xc0, 0x74, 0x06, 0xba, 0xf8, 0x03, 0xee, 0xeb, 0xf5, // is sent
    0xb9, 0x04, 0x00, // four digits
    0xc1, 0xc3, 0x04, 0x88, 0xd8, 0x24, 0x0f, 0x04, 0x90, 0x27, 0x14, 0x40, 0x27, // in hex
    0xba, 0xf8, 0x03, 0xee, 0xe2, 0xed, // are sent
    0xb0, 0x0a, 0xee, 0xf4, 0xeb, 0xfd, // and a newline
    0xbe, 0xa0, 0x7c, 0xeb, 0xd4, // fail: another text
];
const PARTS: u16 = 16;

/// A disk that boots into [`BOOT_SECTOR`], and the sum that it will send.
fn bios_disk(path: &Path, seed: u64) -> u16 {
    let mut disk = noise(seed, 16 * MIB);
    disk[..512].fill(0);
    disk[..BOOT_SECTOR.len()].copy_from_slice(&BOOT_SECTOR);
    // The read's packet: 64 sectors to 1000:0000, from sector 64 on.
    disk[0x70..0x80].copy_from_slice(&[16, 0, 64, 0, 0, 0, 0, 0x10, 64, 0, 0, 0, 0, 0, 0, 0]);
    disk[0x80..0x82].copy_from_slice(&PARTS.to_le_bytes());
    disk[0x84..0x89].copy_from_slice(b"sum \0");
    disk[0xa0..0xab].copy_from_slice(b"not read, \0");
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(path, &disk).unwrap();
    let read = &disk[64 * 512..][..usize::from(PARTS) * 64 * 512];
    read.chunks(2).fold(0u16, |sum, word| {
        sum.rotate_left(1).wrapping_add(u16::from_le_bytes([word[0], word[1]]))
    })
}

#[test]
fn seabios_boots_the_disk_that_bootindex_names() {
    let _one = one_at_a_time();
    let dir = TempDir::new("firmware-test").unwrap();
    let disks: Vec<PathBuf> = ["a", "b"].map(|name| dir.path().join(name)).into();
    let sums = [bios_disk(&disks[0], 1), bios_disk(&disks[1], 2)];
    assert_ne!(sums[0], sums[1]);
    for (first, qsz, maxq) in [(0, 2048, 16), (1, 2, 1)] {
        let slots: Vec<String> = (0..2)
            .map(|i| {
                let index = if i == first { 0 } else { 1 };
                format!(
                    "{},nvme,{},sectsz=512,qsz={qsz},maxq={maxq},bootindex={index}",
                    4 + i,
                    disks[i].display()
                )
            })
            .collect();
        let served = served(&slots);
        let wanted = format!("sum {:04X}\n", sums[first]);
        guest::converse(&options(&served, Boot::SeaBios), &[(&wanted, "")]).unwrap();
        served.finish().unwrap();
    }
}

/// The shell is an EFI application from the disk, and so is the kernel. Linux
/// then finds the disk as the firmware left it, checks and fills the rest of
/// it, and goes through the firmware once more.
fn ovmf_boots_linux(sector: usize, settings: &str) {
    let _one = one_at_a_time();
    let dir = TempDir::new("firmware-test").unwrap();
    let disks: Vec<PathBuf> = ["a", "b"].map(|name| dir.path().join(name)).into();
    let slots: Vec<String> = (0..2)
        .map(|i| {
            // The order is not the slots' own.
            format!(
                "{},nvme,{},sectsz={sector},ser=DISK{i},bootindex={}{settings}",
                4 + i,
                disks[i].display(),
                2 - i
            )
        })
        .collect();
    for (i, disk) in disks.iter().enumerate() {
        let commands = format!(
            "{}\n{}\necho; echo guest: disk {i}; efi_and_again DISK{i}",
            concat!("set -eu\n", include_str!("../../guest/lib.sh")),
            include_str!("../../guest/efi.sh")
        );
        let job = Options { disks: 2, commands, ..Options::default() };
        guest::write_efi_disk(disk, sector, &job).unwrap();
    }
    let untouched = fetch::hash_file(&disks[0]).unwrap();
    let served = served(&slots);
    let result = guest::run(&Options { reboots: true, ..options(&served, Boot::Ovmf) });
    served.finish().unwrap();
    let outcome = result.unwrap();
    assert_eq!(outcome.status, 0, "{}\nconsole:\n{}", outcome.output, outcome.console);
    // The firmware's console is on both serial ports.
    let said: Vec<&str> =
        outcome.output.lines().filter_map(|line| line.strip_prefix("guest: ")).collect();
    assert_eq!(said, ["disk 1", "written", "disk 1", "read after a warm reboot"]);
    // Once a life, and the first that was tried.
    let started: Vec<&str> =
        outcome.console.lines().filter(|line| line.contains("BdsDxe: starting Boot")).collect();
    assert_eq!(started.len(), 2, "{started:?}");
    assert!(started.iter().all(|line| line.contains("DISK1")), "{started:?}");
    assert_eq!(fetch::hash_file(&disks[0]).unwrap(), untouched);
}

#[test]
#[ignore = "takes minutes: make guests"]
fn ovmf_boots_linux_from_sectors_of_512_bytes() {
    ovmf_boots_linux(512, "");
}

/// EDK2 wants 256 entries in a queue, and its driver fails without two pairs
/// of I/O queues: `maxq=1` is no disk to boot with UEFI.
#[test]
fn ovmf_boots_linux_from_sectors_of_4096_bytes_with_queues_smaller_than_edk2s() {
    ovmf_boots_linux(4096, ",qsz=16,maxq=2,ioslots=1");
}

#[test]
fn ovmf_starts_an_application_from_a_disk_with_queues_of_two() {
    let _one = one_at_a_time();
    let dir = TempDir::new("firmware-test").unwrap();
    let disk = dir.path().join("disk");
    guest::write_efi_disk(&disk, 512, &Options::default()).unwrap();
    let slot = format!("4,nvme,{},ser=TWO,bootindex=1,qsz=2,maxq=2", disk.display());
    let served = served(&[slot]);
    let talk =
        [("starting Boot0001 \"UEFI bhyve-NVMe TWO 1\"", ""), ("UEFI Interactive Shell", "")];
    guest::converse(&options(&served, Boot::Ovmf), &talk).unwrap();
    served.finish().unwrap();
}

/// The CRC-32 of zlib.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 * (sum & 1)))
    })
}

fn u_boot_reads_and_writes(sector: usize, settings: &str) {
    let _one = one_at_a_time();
    let dir = TempDir::new("firmware-test").unwrap();
    let disk = dir.path().join("disk");
    let before = noise(3, 16 * MIB);
    fs::write(&disk, &before).unwrap();
    let served =
        served(&[format!("4,nvme,{},sectsz={sector},ser=UBOOT{settings}", disk.display())]);
    // 512 KiB from 64 KiB on, then 128 KiB of them to 8 MiB.
    let read = format!("nvme read 1000000 {:x} {:x}; echo $?\n", 65536 / sector, MIB / 2 / sector);
    let write =
        format!("nvme write 1010000 {:x} {:x}; echo $?\n", 8 * MIB / sector, 131_072 / sector);
    let sum = format!("==> {:08x}", crc32(&before[65536..][..MIB / 2]));
    let talk = [
        ("stop autoboot", "\n"),
        ("=> ", "nvme scan; nvme info\n"),
        ("UBOOT", ""),
        ("=> ", &read),
        ("\n0", ""),
        ("=> ", "crc32 1000000 80000\n"),
        (&sum, ""),
        ("=> ", &write),
        ("\n0", ""),
        ("=> ", ""),
    ];
    guest::converse(&options(&served, Boot::UBoot), &talk).unwrap();
    served.finish().unwrap();
    let mut after = before.clone();
    after.copy_within(65536 + 65536..65536 + 65536 + 131_072, 8 * MIB);
    assert!(fs::read(&disk).unwrap() == after, "what U-Boot wrote is not what it had read");
}

#[test]
fn u_boot_reads_and_writes_sectors_of_512_bytes() {
    u_boot_reads_and_writes(512, "");
}

#[test]
fn u_boot_reads_and_writes_sectors_of_4096_bytes_with_queues_of_two() {
    u_boot_reads_and_writes(4096, ",qsz=2,maxq=1,ioslots=1");
}
