// SPDX-License-Identifier: BSD-2-Clause

//! Doing what the command line asks for.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use devhost::guest::{self, Echo, Options, Result, Served, Spec};
use devhost::vfio;

use super::args::{self, Args, Command, Commands};

const HELP: &str = include_str!("help.txt");
const DEMO: &str = include_str!("../../../guest/demo.sh");

/// Parses the program's arguments and does what they say.
pub(crate) fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os().skip(1)) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("devhost: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&args) {
        // The lowest eight bits are all that a parent sees.
        Ok(status) => ExitCode::from((status & 0xff) as u8),
        Err(error) => {
            eprintln!("devhost: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<i32> {
    if !matches!(args.command, Command::Serve { .. }) {
        guest::clean_up_on_signals()?;
    }
    match &args.command {
        Command::Help => {
            // A reader that has seen enough is no error.
            let _ = std::io::stdout().write_all(HELP.as_bytes());
            Ok(0)
        }
        Command::Fetch { sets, path } => {
            for set in sets {
                let fetched = fetch::fetch(set, &fetch::Options::default())?;
                println!("{}", if *path { fetched.main.display() } else { fetched.root.display() });
            }
            Ok(0)
        }
        Command::Serve { dir, mmap_doorbells } => serve(args, dir, *mmap_doorbells),
        Command::Guest { commands: None } => {
            with_devices(args, |options| guest::interactive(&options).map(|()| 0))
        }
        Command::Guest { commands: Some(Commands::Text(text)) } => run_commands(args, text.clone()),
        Command::Guest { commands: Some(Commands::File(path)) } => {
            let text =
                std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
            run_commands(args, text)
        }
        Command::Demo => {
            println!("Booting Linux on an emulated machine with the NVMe controller in slot 4 ...");
            let start = Instant::now();
            let status = run_commands(args, DEMO.to_owned())?;
            let seconds = start.elapsed().as_secs();
            match status {
                0 => println!("All of it worked, in {seconds} s."),
                _ => println!("It FAILED (status {status}), after {seconds} s."),
            }
            Ok(status)
        }
    }
}

fn run_commands(args: &Args, commands: String) -> Result<i32> {
    with_devices(args, |options| {
        let timeout = args.timeout.unwrap_or(Duration::from_secs(600));
        Ok(guest::run(&Options { commands, timeout, ..options })?.status)
    })
}

/// Starts the devices and runs `body` with a guest's options that hold them. If
/// a device's server failed, that is the error: what QEMU makes of it follows
/// from it.
fn with_devices(args: &Args, body: impl FnOnce(Options) -> Result<i32>) -> Result<i32> {
    let served = Served::start(&specs(args)?)?;
    let result = body(Options {
        smp: args.smp,
        mem: args.mem,
        sockets: served.sockets().to_vec(),
        disks: served.sockets().len(),
        kernel_args: args.kernel_args.clone(),
        accel: args.accel,
        echo: if args.log { Echo::All } else { Echo::Output },
        ..Options::default()
    });
    served.finish()?;
    result
}

fn serve(args: &Args, dir: &std::path::Path, mmap_doorbells: bool) -> Result<i32> {
    let options = vfio::Options { mmap_doorbells, ..vfio::Options::default() };
    let served = Served::start_in(&specs(args)?, dir, &options, args.log)?;
    for socket in served.sockets() {
        println!("{}", socket.path.display());
    }
    std::io::stdout().flush()?;
    served.until_signal()?;
    Ok(0)
}

fn specs(args: &Args) -> Result<Vec<Spec>> {
    let mut specs = Spec::group(&args.slots, &args.settings)?;
    if specs.is_empty() {
        specs = Spec::group(&["4,nvme,ram=512".to_owned()], &args.settings)?;
    }
    for (place, fault) in &args.faults {
        let Some(spec) = specs.iter_mut().find(|spec| spec.place == *place) else {
            let (bus, slot, function) = place;
            return Err(format!("--fault: there is no device at {bus}:{slot}:{function}").into());
        };
        spec.faults.push(fault.clone());
    }
    Ok(specs)
}
