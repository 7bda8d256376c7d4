// SPDX-License-Identifier: BSD-2-Clause

//! Guests that firmware starts from a disk.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use super::qemu::{self, Running};
use super::{Boot, Options, Result, esp, image};
use crate::temp::TempDir;

/// Gives QEMU the firmware that `boot` names; `dir` takes what it stores.
pub(super) fn add(command: &mut Command, boot: Boot, dir: &Path) -> Result<()> {
    let fetching = fetch::Options::default();
    match boot {
        Boot::Kernel | Boot::SeaBios => {}
        Boot::Ovmf => {
            let folder = fetch::fetch("ovmf", &fetching)?.root.join("usr/share/OVMF");
            let variables = dir.join("variables");
            fs::copy(folder.join("OVMF_VARS_4M.fd"), &variables)?;
            let code = folder.join("OVMF_CODE_4M.fd");
            command.arg("-drive");
            command.arg(format!("if=pflash,format=raw,unit=0,readonly=on,file={}", code.display()));
            command.arg("-drive");
            command.arg(format!("if=pflash,format=raw,unit=1,file={}", variables.display()));
        }
        Boot::UBoot => {
            let root = fetch::fetch("u-boot", &fetching)?.root;
            command.arg("-bios").arg(root.join("usr/lib/u-boot/qemu-x86_64/u-boot.rom"));
        }
    }
    Ok(())
}

/// Makes the file `disk`, of 128 MiB and sectors of `sector` bytes: UEFI
/// firmware starts the EFI shell from it, the shell Linux, and Linux runs
/// `options.commands`.
pub fn write_efi_disk(disk: &Path, sector: usize, options: &Options) -> Result<()> {
    let fetching = fetch::Options::default();
    let shell = fetch::fetch("ovmf", &fetching)?.root.join("usr/share/efi-shell-x64/shellx64.efi");
    let image = image::build(&fetch::fetch("guest", &fetching)?, &fetching.cache)?;
    let mut initramfs = fs::read(&image.initramfs)?;
    initramfs.extend(qemu::job(options, Some(&options.commands)));
    // The shell knows where it was loaded from; the kernel then looks for its
    // initramfs in the same place.
    let script = format!(
        "@echo -off\r\n%homefilesystem%\\VMLINUZ.EFI initrd=\\INITRD {}\r\n",
        qemu::kernel_line(options)
    );
    let files: [(&str, &[u8]); 3] = [
        ("VMLINUZ.EFI", &fs::read(&image.kernel)?),
        ("INITRD", &initramfs),
        ("STARTUP.NSH", script.as_bytes()),
    ];
    fs::write(disk, esp::esp(sector, &fs::read(shell)?, &files))?;
    Ok(())
}

/// Talks to a guest that has no job, over its console: waits for the first
/// text of each pair, then types the second. Ends the guest after the last
/// and returns all that it said.
///
/// Fails when a text does not come before the time limit, or QEMU ends.
pub fn converse(options: &Options, talk: &[(&str, &str)]) -> Result<String> {
    let dir = TempDir::new("guest")?;
    let mut command = qemu::machine(options)?;
    add(&mut command, options.boot, dir.path())?;
    command.args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let begun = Instant::now();
    let mut child = Running(command.spawn().map_err(|e| format!("QEMU: {e}"))?);
    let mut keyboard = child.0.stdin.take().ok_or("QEMU without an input")?;
    let mut screen = child.0.stdout.take().ok_or("QEMU without an output")?;
    let errors = child.0.stderr.take().ok_or("QEMU without an error output")?;
    let errors = thread::spawn(move || std::io::read_to_string(errors).unwrap_or_default());
    let (shown, said) = mpsc::channel();
    thread::spawn(move || {
        let mut part = [0; 4096];
        while let Ok(n @ 1..) = screen.read(&mut part) {
            if shown.send(part[..n].to_vec()).is_err() {
                break;
            }
        }
    });

    let (mut all, mut heard) = (Vec::new(), 0);
    for (awaited, answer) in talk {
        let length = awaited.len();
        loop {
            let new = &all[heard..];
            if let Some(at) = new.windows(length).position(|text| text == awaited.as_bytes()) {
                heard += at + length;
                break;
            }
            let left = options.timeout.saturating_sub(begun.elapsed());
            match said.recv_timeout(left) {
                Ok(part) => all.extend(part),
                Err(why) => {
                    let why = match why {
                        RecvTimeoutError::Timeout => "did not come in time",
                        RecvTimeoutError::Disconnected => "did not come before QEMU ended",
                    };
                    child.end(true)?;
                    let errors = errors.join().unwrap_or_default();
                    let all = String::from_utf8_lossy(&all);
                    return Err(format!("'{awaited}' {why}\n{all}\n{errors}").into());
                }
            }
        }
        keyboard.write_all(answer.as_bytes())?;
        keyboard.flush()?;
    }
    Ok(String::from_utf8_lossy(&all).into_owned())
}
