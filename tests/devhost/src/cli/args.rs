// SPDX-License-Identifier: BSD-2-Clause

//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use devhost::faults::{self, Fault, Place};
use devhost::guest::Accel;
use lexopt::prelude::*;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Print the manual.
    Help,
    /// Boot a guest: with a shell, or with commands.
    Guest { commands: Option<Commands> },
    /// Serve the devices on sockets.
    Serve { dir: PathBuf, mmap_doorbells: bool },
    /// Fetch sets of packages.
    Fetch { sets: Vec<String>, path: bool },
    /// The demonstration.
    Demo,
}

/// Where a guest's commands come from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Commands {
    /// The command line itself.
    Text(String),
    /// A file.
    File(PathBuf),
}

/// All of the command line.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) command: Command,
    pub(crate) slots: Vec<String>,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) faults: Vec<(Place, Fault)>,
    pub(crate) smp: u32,
    pub(crate) mem: u32,
    pub(crate) timeout: Option<Duration>,
    pub(crate) accel: Accel,
    pub(crate) log: bool,
    pub(crate) kernel_args: String,
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Parses the arguments after the program's name. Options may stand anywhere.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Args> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut args = Args {
        command: Command::Help,
        slots: Vec::new(),
        settings: Vec::new(),
        faults: Vec::new(),
        smp: 2,
        mem: 512,
        timeout: None,
        accel: Accel::Auto,
        log: false,
        kernel_args: String::new(),
    };
    let mut words: Vec<String> = Vec::new();
    let (mut commands, mut mmap_doorbells, mut path, mut help) = (None, false, false, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('s') => args.slots.push(parser.value()?.string()?),
            Short('o') => {
                let text = parser.value()?.string()?;
                let (name, value) =
                    text.split_once('=').ok_or_else(|| format!("-o {text}: not NAME=VALUE"))?;
                args.settings.push((name.to_owned(), value.to_owned()));
            }
            Long("fault") => args.faults.push(faults::parse(&parser.value()?.string()?)?),
            Long("run") => commands = Some(Commands::Text(parser.value()?.string()?)),
            Long("script") => commands = Some(Commands::File(parser.value()?.into())),
            Long("smp") => args.smp = number(&mut parser, "--smp", 1, 64)?,
            Long("mem") => args.mem = number(&mut parser, "--mem", 256, 1 << 20)?,
            Long("timeout") => {
                let seconds = number(&mut parser, "--timeout", 1, 1_000_000)?;
                args.timeout = Some(Duration::from_secs(seconds.into()));
            }
            Long("accel") => {
                args.accel = match parser.value()?.string()?.as_str() {
                    "auto" => Accel::Auto,
                    "tcg" => Accel::Tcg,
                    "kvm" => Accel::Kvm,
                    other => return Err(format!("--accel {other}: not auto, tcg or kvm").into()),
                }
            }
            Long("append") => args.kernel_args = parser.value()?.string()?,
            Long("log") => args.log = true,
            Long("mmap-doorbells") => mmap_doorbells = true,
            Long("path") => path = true,
            Short('h') | Long("help") => help = true,
            Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    if help {
        return Ok(args);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    args.command = match words[..] {
        ["guest"] => Command::Guest { commands: commands.take() },
        ["serve", dir] => Command::Serve { dir: dir.into(), mmap_doorbells },
        ["fetch", ref sets @ ..] if !sets.is_empty() => {
            Command::Fetch { sets: sets.iter().map(|&set| set.to_owned()).collect(), path }
        }
        ["demo"] => Command::Demo,
        [] => {
            return Err(
                "no command: guest, serve DIR, fetch SET or demo (--help tells more)".into()
            );
        }
        _ => {
            return Err(
                format!("'{}': no such command (--help tells more)", words.join(" ")).into()
            );
        }
    };
    if commands.is_some() {
        return Err("--run and --script go with the command guest".into());
    }
    if mmap_doorbells && !matches!(args.command, Command::Serve { .. }) {
        return Err("--mmap-doorbells goes with the command serve".into());
    }
    Ok(args)
}

fn number(parser: &mut lexopt::Parser, name: &str, least: u32, most: u32) -> Result<u32> {
    let text = parser.value()?.string()?;
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("{name} {text}: a number from {least} to {most} is wanted").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args> {
        super::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_guest_with_two_disks() {
        let args = parse(
            "-s 4,nvme,ram=512 -s 5,nvme,disk.img,ser=ABC123 -o pci.0.4.0.ser=X=Y guest --smp 1",
        )
        .unwrap();
        assert_eq!(args.command, Command::Guest { commands: None });
        assert_eq!(args.slots, ["4,nvme,ram=512", "5,nvme,disk.img,ser=ABC123"]);
        assert_eq!(args.settings, [("pci.0.4.0.ser".to_owned(), "X=Y".to_owned())]);
        assert_eq!((args.smp, args.mem), (1, 512));
    }

    #[test]
    fn other_commands() {
        let args = parse("-s 4,nvme,ram=1 serve /tmp/d --mmap-doorbells").unwrap();
        assert_eq!(args.command, Command::Serve { dir: "/tmp/d".into(), mmap_doorbells: true });
        let args = parse("fetch qemu guest").unwrap();
        assert_eq!(
            args.command,
            Command::Fetch { sets: vec!["qemu".into(), "guest".into()], path: false }
        );
        let args = parse("guest --run ls --timeout 5").unwrap();
        assert_eq!(args.command, Command::Guest { commands: Some(Commands::Text("ls".into())) });
        assert_eq!(args.timeout, Some(Duration::from_secs(5)));
        assert_eq!(parse("guest --help").unwrap().command, Command::Help);
    }

    #[test]
    fn faults_belong_to_a_device() {
        let args = parse("-s 4,nvme,ram=1 --fault 4,never --fault 5:1,eio,rate=0.5 guest").unwrap();
        let places: Vec<Place> = args.faults.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, [(0, 4, 0), (0, 5, 1)]);
        assert_eq!(args.faults[0].1.kind, faults::Kind::Never);
    }

    #[test]
    fn mistakes_are_named() {
        for (line, says) in [
            ("", "no command"),
            ("boot", "'boot'"),
            ("serve", "'serve'"),
            ("fetch", "'fetch'"),
            ("guest --smp 0", "--smp 0"),
            ("guest --mem x", "--mem x"),
            ("guest -o x", "-o x"),
            ("guest --accel hvf", "--accel hvf"),
            ("guest --what", "--what"),
            ("guest --fault 4,maybe", "'maybe'"),
            ("demo --run ls", "--run"),
            ("guest --mmap-doorbells", "--mmap-doorbells"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
