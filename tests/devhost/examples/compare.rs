// SPDX-License-Identifier: BSD-2-Clause

//! fio in a Linux guest, on the controller and on QEMU's own nvme device in
//! turns, both over one file.

#[cfg(target_os = "linux")]
fn main() -> devhost::guest::Result<()> {
    use devhost::guest::{self, Echo, Options, Served, Spec, TempDir};
    use std::fs::File;
    use std::io::{self, Write};
    use std::time::Duration;

    const COMMANDS: &str = concat!(
        "set -eu\n",
        include_str!("../../guest/lib.sh"),
        include_str!("../../guest/compare.sh")
    );

    guest::clean_up_on_signals()?;
    let dir = TempDir::new("compare")?;
    let path = dir.path().join("disk");
    let mut file = File::create(&path)?;
    io::copy(&mut io::Read::take(io::repeat(0x5a), 64 << 20), &mut file)?;
    file.flush()?;

    let slot = format!("4,nvme,{},ser=OURS,sectsz=512", path.display());
    let served = Served::start(&Spec::group(&[slot], &[])?)?;
    // Two programs write to the file, so QEMU must not lock it.
    let drive =
        format!("if=none,id=disk,format=raw,file.locking=off,file.filename={}", path.display());
    let qemu_args = ["-drive", &drive, "-device", "nvme,drive=disk,serial=QEMU"];
    let result = guest::run(&Options {
        sockets: served.sockets().to_vec(),
        disks: 2,
        commands: COMMANDS.to_owned(),
        qemu_args: qemu_args.map(str::to_owned).to_vec(),
        timeout: Duration::from_secs(400),
        echo: Echo::Output,
        ..Options::default()
    });
    served.finish()?;
    match result?.status {
        0 => Ok(()),
        status => Err(format!("the guest's commands failed with status {status}").into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("The guest runs on Linux alone.");
}
