// SPDX-License-Identifier: BSD-2-Clause

//! Starting QEMU, hearing what the guest says, and ending it in any case.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::cpio::Cpio;
use super::terminal::Terminal;
use super::{Boot, Echo, Options, Outcome, Result, Socket, firmware, image};
use crate::temp::TempDir;

/// Runs `options.commands` in a guest of its own and shuts it down.
///
/// Fails if QEMU cannot be started or ends early (which it does when a device's
/// server goes away), if the guest does not come to the commands' end, or at
/// the time limit; the error then carries the end of the guest's console.
pub fn run(options: &Options) -> Result<Outcome> {
    let dir = TempDir::new("guest")?;
    let job = dir.path().join("job");
    let listener = UnixListener::bind(&job)?;
    let mut command = command(options, dir.path(), Some(&options.commands))?;
    command.args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
    command.arg("-chardev").arg(format!("socket,id=job,path={}", job.display()));
    command.args(["-serial", "chardev:job"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Running(command.spawn().map_err(|e| format!("QEMU: {e}"))?);

    let (done, ended) = mpsc::channel();
    let lost = done.clone();
    let show_console = options.echo == Echo::All;
    let show_output = options.echo != Echo::Nothing;
    let stdout = child.0.stdout.take().ok_or("QEMU without an output")?;
    let stderr = child.0.stderr.take().ok_or("QEMU without an error output")?;
    let console = thread::spawn(move || {
        let text = collect(stdout, |line| {
            if show_console {
                let _ = io::stderr().write_all(line);
            }
        });
        // QEMU's output ends when QEMU does.
        let _ = done.send(End::Exit);
        text
    });
    // When the server of a device goes away, QEMU aborts or shows the guest a
    // device that does not answer: it depends on the message that finds the
    // socket closed. Guests take minutes to give such a device up.
    let errors = thread::spawn(move || {
        collect(stderr, |line| {
            if is_loss_of_server(line) {
                let _ = lost.send(End::ServerLost);
            }
        })
    });
    let output = thread::spawn(move || match listener.accept() {
        Ok((stream, _)) => collect(stream, |line| {
            if show_output && !line.starts_with(&[TRAILER]) {
                let _ = io::stdout().write_all(line);
                let _ = io::stdout().flush();
            }
        }),
        Err(_) => String::new(),
    });

    let end = ended.recv_timeout(options.timeout);
    let status = child.end(end != Ok(End::Exit))?;
    // If QEMU never came to connect, this is what the listener waits for.
    drop(UnixStream::connect(&job));
    let join = |thread: thread::JoinHandle<String>| {
        thread.join().map_err(|_| "a reader of the guest's text panicked")
    };
    let (console, errors, output) = (join(console)?, join(errors)?, join(output)?);

    let said = || format!("{}{}", tail(&console), tail(&errors));
    let failure = match end {
        Err(_) => Some(format!("the guest did not end within {} s", options.timeout.as_secs())),
        Ok(End::ServerLost) => Some("the server of one of its devices went away".to_owned()),
        Ok(End::Exit) if !status.success() => Some(explain(status, !options.sockets.is_empty())),
        Ok(End::Exit) => None,
    };
    if let Some(failure) = failure {
        return Err(format!("{failure}\n{output}{}", said()).into());
    }
    match split_status(&output) {
        Some((output, status)) => {
            Ok(Outcome { status, output: output.to_owned(), console: console + &errors })
        }
        None => Err(format!("the guest ended before its commands did\n{output}{}", said()).into()),
    }
}

/// Gives the guest's console to this program's terminal until the guest shuts
/// down. Ctrl-A X ends QEMU at once.
pub fn interactive(options: &Options) -> Result<()> {
    let dir = TempDir::new("guest")?;
    let mut command = command(options, dir.path(), None)?;
    command.args(["-chardev", "stdio,id=console,mux=on,signal=off"]);
    command.args(["-serial", "chardev:console", "-mon", "chardev=console"]);
    // A warning would only disturb the guest's screen.
    command.stderr(Stdio::piped());
    let terminal = Terminal::save();
    let mut child = Running(command.spawn().map_err(|e| format!("QEMU: {e}"))?);
    let stderr = child.0.stderr.take().ok_or("QEMU without an error output")?;
    let errors = collect(stderr, |_| {});
    let status = child.end(false)?;
    drop(terminal);
    if !status.success() {
        return Err(
            format!("{}\n{}", explain(status, !options.sockets.is_empty()), tail(&errors)).into()
        );
    }
    Ok(())
}

/// Runs the firmware alone, which looks for something to boot on the devices,
/// and kills QEMU after `time`: a session that ends with its client's death.
pub fn run_firmware(options: &Options, time: Duration) -> Result<()> {
    let mut command = machine(options)?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = Running(command.spawn().map_err(|e| format!("QEMU: {e}"))?);
    let stderr = child.0.stderr.take().ok_or("QEMU without an error output")?;
    // Its error output ends when QEMU does.
    let (said, ended) = mpsc::channel();
    thread::spawn(move || said.send(collect(stderr, |_| {})));
    match ended.recv_timeout(time) {
        Ok(errors) => {
            let status = child.end(false)?;
            Err(format!("{}\n{}", explain(status, true), tail(&errors)).into())
        }
        Err(_) => Ok(()),
    }
}

/// QEMU with what starts the guest, without serial ports.
fn command(options: &Options, dir: &Path, commands: Option<&str>) -> Result<Command> {
    let mut command = machine(options)?;
    if options.boot != Boot::Kernel {
        firmware::add(&mut command, options.boot, dir)?;
        return Ok(command);
    }
    let fetching = fetch::Options::default();
    let guest = fetch::fetch("guest", &fetching)?;
    let image = image::build(&guest, &fetching.cache)?;
    let initramfs = dir.join("initramfs");
    fs::copy(&image.initramfs, &initramfs).map_err(|e| format!("{}: {e}", initramfs.display()))?;
    File::options().append(true).open(&initramfs)?.write_all(&job(options, commands))?;
    command.arg("-kernel").arg(&image.kernel).arg("-initrd").arg(&initramfs);
    command.arg("-append").arg(kernel_line(options));
    Ok(command)
}

/// The kernel's command line.
pub(super) fn kernel_line(options: &Options) -> String {
    let iommu = if options.iommu { "intel_iommu=on,strict iommu=nopt " } else { "" };
    format!("console=ttyS0 quiet panic=-1 mitigations=off {iommu}{}", options.kernel_args)
}

/// QEMU with memory, processors and devices.
pub(super) fn machine(options: &Options) -> Result<Command> {
    let fetching = fetch::Options::default();
    let qemu = fetch::fetch("qemu", &fetching)?;
    let accel = options.accel.name(&fetching.cache)?;
    let share = qemu.root.join("usr/share");
    let mut command = Command::new(&qemu.main);
    command.arg("-L").arg(share.join("qemu")).arg("-L").arg(share.join("seabios"));
    // KVM gives the guest the host's processor; TCG all that it can emulate.
    command.args(["-accel", accel, "-cpu", "max", "-smp", &options.smp.to_string()]);
    command.args(["-m", &format!("{}M", options.mem), "-nodefaults", "-display", "none"]);
    if !options.reboots {
        command.arg("-no-reboot");
    }
    // The server maps the guest's memory, so it must be a shared file.
    command
        .args(["-object", &format!("memory-backend-memfd,id=mem,size={}M,share=on", options.mem)]);
    command.args(["-machine", "q35,memory-backend=mem"]);
    if options.iommu {
        // It must be there before the devices behind it.
        command.args(["-device", "intel-iommu,caching-mode=on"]);
    }
    for socket in &options.sockets {
        command.arg("-device").arg(vfio_user_device(socket)?);
    }
    command.args(&options.qemu_args);
    // SAFETY: only async-signal-safe calls between fork and exec.
    unsafe { command.pre_exec(die_with_parent) };
    Ok(command)
}

/// The device's options as JSON, the only form that takes a socket's address.
fn vfio_user_device(socket: &Socket) -> Result<String> {
    let path = socket.path.to_str();
    let path = path.filter(|path| !path.contains(['"', '\\']) && !path.contains(char::is_control));
    let path = path
        .ok_or_else(|| format!("{}: a socket's path must be plain text", socket.path.display()))?;
    let slot = socket.slot.map_or(String::new(), |slot| format!(r#","addr":"{slot:#x}""#));
    let order = socket.boot_index.map_or(String::new(), |index| format!(r#","bootindex":{index}"#));
    // QEMU gives a device up for good when one access takes longer than this
    // many milliseconds; its own 5 s are short on a loaded machine.
    Ok(format!(
        r#"{{"driver":"vfio-user-pci","x-msg-timeout":60000,"socket":{{"type":"unix","path":"{path}"}}{slot}{order}}}"#
    ))
}

/// An archive with this run's commands, to follow the image's.
pub(super) fn job(options: &Options, commands: Option<&str>) -> Vec<u8> {
    let mut job = Cpio::default();
    job.file("job/disks", 0o644, format!("{}\n", options.disks).as_bytes());
    for (name, contents) in &options.files {
        job.file(&format!("job/{name}"), 0o644, contents);
    }
    if let Some(commands) = commands {
        job.file("job/commands", 0o644, commands.as_bytes());
    }
    job.finish()
}

/// Runs between fork and exec: QEMU shall not outlive the thread that waits for it.
fn die_with_parent() -> io::Result<()> {
    // SAFETY: prctl with these arguments touches no memory of ours.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// QEMU, killed when this goes out of scope.
pub(super) struct Running(pub(super) Child);

impl Running {
    pub(super) fn end(&mut self, kill: bool) -> io::Result<ExitStatus> {
        if kill {
            let _ = self.0.kill();
        }
        self.0.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.end(true);
    }
}

/// What ends a run before its time limit.
#[derive(Debug, PartialEq)]
enum End {
    Exit,
    ServerLost,
}

/// Whether QEMU says that it could not reach a device's server.
fn is_loss_of_server(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    line.contains("vfio_user_") && line.contains("Unable to write to socket")
}

/// The control character that starts the last line of the commands' output.
const TRAILER: u8 = 0x1e;

/// Parts the output from the exit status that the guest's init put after it.
fn split_status(output: &str) -> Option<(&str, i32)> {
    let (output, trailer) = output.rsplit_once(char::from(TRAILER))?;
    let status = trailer.trim_end().strip_prefix("exit ")?.parse().ok()?;
    Some((output, status))
}

fn explain(status: ExitStatus, has_servers: bool) -> String {
    match status.signal() {
        Some(libc::SIGABRT) if has_servers => {
            "QEMU aborted, as it does when the server of one of its devices goes away".to_owned()
        }
        _ => format!("QEMU failed: {status}"),
    }
}

/// Reads to the end, handing on each line, or the start of one that is to be
/// continued, as it comes.
fn collect(stream: impl Read, mut each: impl FnMut(&[u8])) -> String {
    let mut reader = BufReader::new(stream);
    let mut all = Vec::new();
    loop {
        let start = all.len();
        match reader.read_until(b'\n', &mut all) {
            Ok(0) | Err(_) => break,
            Ok(_) => each(&all[start..]),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// The last lines of a text, each marked as quoted.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut tail = String::new();
    for line in &lines[lines.len().saturating_sub(30)..] {
        tail.push_str("  | ");
        tail.push_str(line.trim_end());
        tail.push('\n');
    }
    tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_the_last_trailer() {
        assert_eq!(split_status("a\nb\x1eexit 3\nc\x1eexit 0\n"), Some(("a\nb\x1eexit 3\nc", 0)));
        assert_eq!(split_status("no newline\x1eexit 127\n"), Some(("no newline", 127)));
        assert_eq!(split_status("a\n"), None);
        assert_eq!(split_status("a\x1eexit \n"), None);
    }

    #[test]
    fn an_abort_is_put_down_to_the_server() {
        let aborted = ExitStatus::from_raw(libc::SIGABRT | 0x80);
        assert!(explain(aborted, true).contains("server"));
        assert!(!explain(aborted, false).contains("server"));
        assert!(!explain(ExitStatus::from_raw(1 << 8), true).contains("server"));
    }

    #[test]
    fn a_device_path_cannot_break_out_of_its_json() {
        let device = |path: &str, slot| {
            vfio_user_device(&Socket { path: path.into(), slot, boot_index: None })
        };
        assert!(device("/tmp/a b/cntrl", None).unwrap().ends_with(r#""path":"/tmp/a b/cntrl"}}"#));
        assert!(device("/tmp/cntrl", Some(30)).unwrap().ends_with(r#"},"addr":"0x1e"}"#));
        assert!(device("/tmp/\"},{", None).is_err());
        assert!(device("/tmp/a\\b", None).is_err());
    }
}
