// SPDX-License-Identifier: BSD-2-Clause

//! What can be fetched.

use std::process::Command;

use crate::error::{Context, Error, Result};

/// The suites whose indexes are read, the preferred one first.
pub const SUITES: [&str; 2] = ["trixie", "trixie-backports"];

const BACKPORTS: Option<&str> = Some("trixie-backports");

/// Which version of a root is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The recorded one, else a newer one, never one below the recorded minimum.
    Any,
    /// A Debian build of this upstream release and of no other.
    Release(String),
}

/// A package that a set names.
#[derive(Debug)]
pub struct Root {
    /// The binary package's name.
    pub package: &'static str,
    /// The suite to take it from, where it is not the first.
    pub suite: Option<&'static str>,
    /// Which version.
    pub wanted: Wanted,
}

/// A group of packages, unpacked into one private root.
#[derive(Debug)]
pub struct Set {
    /// Its name on the command line.
    pub name: &'static str,
    /// One line for the help text.
    pub about: &'static str,
    /// The packages asked for.
    pub roots: Vec<Root>,
    /// Names that count as present: what a package needs only when it is
    /// installed into a running system.
    pub without: Vec<&'static str>,
    /// If not empty, only files below these folders are unpacked.
    pub keep: Vec<&'static str>,
    /// Programs that get a launcher in `bin`: launcher's name, path in the
    /// root, and variables to set (`@` stands for the root's path).
    pub programs: Vec<(&'static str, &'static str, &'static str)>,
    /// What `--path` prints, relative to the folder that holds `root` and
    /// `bin`; a last part of `*` stands for the one entry that is there.
    pub main: &'static str,
}

fn root(package: &'static str) -> Root {
    Root { package, suite: None, wanted: Wanted::Any }
}

/// Names of all sets.
pub const NAMES: [&str; 7] = ["qemu", "guest", "ovmf", "u-boot", "mandoc", "rust-src", "bmake"];

/// The definition of a set. `rust-src` runs `rustc` to learn its release.
pub fn find(name: &str) -> Result<Set> {
    let set = Set {
        name: "",
        about: "",
        roots: vec![],
        without: vec![],
        keep: vec![],
        programs: vec![],
        main: "root",
    };
    Ok(match name {
        "qemu" => Set {
            name: "qemu",
            about: "QEMU for x86 with its firmware, new enough for the vfio-user client",
            roots: vec![Root { package: "qemu-system-x86", suite: BACKPORTS, wanted: Wanted::Any }],
            without: vec!["adduser", "debconf"],
            programs: vec![(
                "qemu-system-x86_64",
                "usr/bin/qemu-system-x86_64",
                "QEMU_MODULE_DIR=@/usr/lib/x86_64-linux-gnu/qemu",
            )],
            main: "bin/qemu-system-x86_64",
            ..set
        },
        "guest" => Set {
            name: "guest",
            about: "kernel and programs of the Linux guest: busybox, nvme-cli, fio, e2fsprogs, util-linux",
            roots: [
                "linux-image-cloud-amd64",
                "busybox-static",
                "nvme-cli",
                "fio",
                "e2fsprogs",
                "util-linux",
            ]
            .map(root)
            .into(),
            // The kernel is started directly and the programs run from an
            // initramfs: nothing builds one in the guest, and nothing logs in.
            without: vec![
                "kmod",
                "linux-base",
                "initramfs-tools",
                "init-system-helpers",
                "python3",
                "libpam-modules",
                "libpam-runtime",
                "uuid-runtime",
                "debconf",
                "logsave",
            ],
            ..set
        },
        "ovmf" => Set {
            name: "ovmf",
            about: "UEFI firmware for QEMU, and its shell as an EFI application",
            roots: ["ovmf", "efi-shell-x64"].map(root).into(),
            keep: vec!["usr/share/OVMF", "usr/share/efi-shell-x64"],
            ..set
        },
        "u-boot" => Set {
            name: "u-boot",
            about: "U-Boot for QEMU's machines",
            roots: vec![root("u-boot-qemu")],
            keep: vec!["usr/lib/u-boot/qemu-x86_64"],
            ..set
        },
        "mandoc" => Set {
            name: "mandoc",
            about: "mandoc, which checks the manual pages",
            roots: vec![root("mandoc")],
            programs: vec![("mandoc", "usr/bin/mandoc", "")],
            main: "bin/mandoc",
            ..set
        },
        "rust-src" => Set {
            name: "rust-src",
            about: "the Rust library's sources of the running rustc's release",
            roots: vec![Root {
                package: "rust-src",
                suite: BACKPORTS,
                wanted: Wanted::Release(rustc_release()?),
            }],
            keep: vec!["usr/src"],
            main: "root/usr/src/*/library",
            ..set
        },
        "bmake" => Set {
            name: "bmake",
            about: "BSD make, which must read the Makefiles too",
            roots: vec![root("bmake")],
            programs: vec![("bmake", "usr/bin/bmake", "MAKESYSPATH=@/usr/share/bmake/mk-bmake")],
            main: "bin/bmake",
            ..set
        },
        _ => return Err(Error(format!("no set named '{name}'; there are: {}", NAMES.join(", ")))),
    })
}

/// `1.95.0` for the rustc that cargo would run.
fn rustc_release() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("rustc -vV")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|line| line.strip_prefix("release: "))
        .map(str::to_owned)
        .ok_or_else(|| Error("rustc -vV names no release".to_owned()))
}
