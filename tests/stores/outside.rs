// SPDX-License-Identifier: BSD-2-Clause

//! The program outside of the sandbox: it makes the file, runs the other one,
//! and resizes stores for it.

use super::{INSIDE, STORES, parse};
use devhost::rig::TempDir;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// Bytes of the file that is made where no store is named.
const FILE: u64 = 32 << 20;

/// What the sandboxed program asks with: kind, path, bytes.
pub(crate) const RESIZE: &str = "resize ";

/// Whether all went well.
pub(crate) fn run() -> bool {
    let dir = TempDir::new("stores").expect("a temporary folder");
    let named = std::env::var(STORES).unwrap_or_default();
    let stores = if named.trim().is_empty() {
        let path = dir.path().join("disk");
        std::fs::File::create(&path).and_then(|file| file.set_len(FILE)).expect("room for a file");
        format!("file:{}", path.display())
    } else {
        named
    };
    parse(&stores);

    #[expect(clippy::disallowed_methods, reason = "this program is not in the sandbox")]
    let program = std::env::current_exe().expect("this program has a path");
    let mut inside = Command::new(program)
        .env(INSIDE, &stores)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a program can be run");
    let mut answers = inside.stdin.take().expect("a pipe");
    for line in BufReader::new(inside.stdout.take().expect("a pipe")).lines() {
        let line = line.expect("text");
        match line.strip_prefix(RESIZE) {
            Some(what) => {
                let answer = resize(what).err().unwrap_or_else(|| "done".to_owned());
                // If nobody is there to read it, its end says why.
                let _ = writeln!(answers, "{}", answer.replace('\n', " "));
            }
            None => println!("{line}"),
        }
    }
    let status = inside.wait().expect("a program that was run ends");
    if !status.success() && status.code() != Some(1) {
        println!("the sandboxed program died: {status}");
        println!("0 passed, 1 failed");
    }
    status.success()
}

/// Does what `what`, a kind, a path and a size in bytes, says.
fn resize(what: &str) -> Result<(), String> {
    let words: Vec<&str> = what.split(' ').collect();
    let [kind, path, bytes] = words[..] else { return Err(format!("{what}: not three words")) };
    let number: u64 = bytes.parse().map_err(|error| format!("{bytes}: {error}"))?;
    let name = path.trim_start_matches("/dev/");
    match kind {
        "file" => OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|file| file.set_len(number))
            .map_err(|error| format!("{path}: {error}")),
        // A device that is open shrinks by force only.
        "md" => {
            let size = format!("{bytes}b");
            call("mdconfig", &["-r", "-u", name, "-s", &size, "-o", "force"])
        }
        "zvol" => {
            let volume = name.trim_start_matches("zvol/");
            call("zfs", &["set", &format!("volsize={bytes}"), volume])
        }
        _ => Err(format!("{kind}: cannot be resized")),
    }
}

fn call(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{program} {}: {said}", arguments.join(" ")))
}
