// SPDX-License-Identifier: BSD-2-Clause

//! A Linux guest in QEMU, with NVMe controllers that vfio-user servers offer.
//!
//! [`run`] fetches what is missing, starts the guest, runs shell commands in it
//! and returns their output and exit status; [`interactive`] gives its console
//! to the terminal. [`Served`] starts devices and their servers. Nothing is installed on the host and no root is needed.

use std::path::PathBuf;
use std::time::Duration;

mod accel;
mod cpio;
mod elf;
mod esp;
mod firmware;
mod image;
mod interrupt;
mod qemu;
mod served;
mod terminal;

pub use crate::temp::TempDir;
pub use accel::Accel;
pub use firmware::{converse, write_efi_disk};
pub use interrupt::clean_up_on_signals;
pub use qemu::{interactive, run, run_firmware};
pub use served::{Served, Spec};

/// What can fail here ends a test or a command, with a line for its user.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Which of a guest's text is passed on while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// Nothing.
    Nothing,
    /// What the commands print, to standard output.
    Output,
    /// That, and the guest's console to standard error.
    All,
}

/// What starts the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// QEMU puts the kernel into its memory.
    Kernel,
    /// SeaBIOS, from the first sector of a disk.
    SeaBios,
    /// OVMF, from a disk's EFI system partition; see [`write_efi_disk`].
    Ovmf,
    /// U-Boot, by what it is told on its console.
    UBoot,
}

/// A vfio-user server, for a guest to use as a PCI device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// Its Unix socket.
    pub path: PathBuf,
    /// The slot on the guest's first bus, 1 to 30; None leaves it to QEMU.
    pub slot: Option<u8>,
    /// The place in the firmware's boot order.
    pub boot_index: Option<u32>,
}

/// A guest, and what it is to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// What starts it.
    pub boot: Boot,
    /// Virtual CPUs.
    pub smp: u32,
    /// Memory in MiB.
    pub mem: u32,
    /// The servers, one PCI device each.
    pub sockets: Vec<Socket>,
    /// NVMe namespaces to wait for before the commands start; they fail with
    /// status 97 if these do not appear in 120 s.
    pub disks: usize,
    /// A shell script, for [`run`].
    pub commands: String,
    /// Files that the guest finds in `/job`: name and contents.
    pub files: Vec<(String, Vec<u8>)>,
    /// Puts an IOMMU between the devices and the guest's memory, which the
    /// kernel then opens to a device only as long as a transfer lasts.
    pub iommu: bool,
    /// The guest may start again; else its reboot is its end.
    pub reboots: bool,
    /// More of the kernel's command line.
    pub kernel_args: String,
    /// More arguments for QEMU.
    pub qemu_args: Vec<String>,
    /// After this time from its start QEMU is killed, and [`run`] fails.
    pub timeout: Duration,
    /// What is passed on.
    pub echo: Echo,
    /// How the guest's code is run.
    pub accel: Accel,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            boot: Boot::Kernel,
            smp: 2,
            mem: 512,
            sockets: Vec::new(),
            disks: 0,
            commands: String::new(),
            files: Vec::new(),
            iommu: false,
            reboots: false,
            kernel_args: String::new(),
            qemu_args: Vec::new(),
            timeout: Duration::from_secs(300),
            echo: Echo::Nothing,
            accel: Accel::Auto,
        }
    }
}

/// What came of a guest that ran its commands and shut down.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The commands' exit status.
    pub status: i32,
    /// What they wrote, to either stream.
    pub output: String,
    /// The guest's console, firmware and kernel, and then what QEMU had to say.
    pub console: String,
}
