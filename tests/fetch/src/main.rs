// SPDX-License-Identifier: BSD-2-Clause

//! `fetch SET...`: see `--help`.

use std::path::Path;
use std::process::ExitCode;

use fetch::{Error, Options, Result, sets};

fn help() -> String {
    let mut text = String::from(
        "NAME\n    fetch - bring the packages that the tests run into a private cache\n\n\
         SYNOPSIS\n    fetch [-q] [--path] SET...\n    fetch --update-lock\n\n\
         DESCRIPTION\n    Prints, for each SET, the folder its packages are unpacked in, after\n    \
         downloading it if it is not in the cache. The host's own packages are\n    \
         neither used nor changed.\n\n    \
         --path         print the set's main file instead: a program, or a folder\n    \
         -q, --quiet    print only errors and notes beside the paths\n    \
         --builtin-http do not use apt's downloader where the host has one\n    \
         --update-lock  record the mirror's newest versions in packages.lock\n\nSETS\n",
    );
    for name in sets::NAMES {
        let about = sets::find(name).map_or("", |set| set.about);
        text.push_str(&format!("    {name:<14} {about}\n"));
    }
    text.push_str(
        "\nENVIRONMENT\n    BHYVE_NVME_CACHE  the cache's folder (target/devhost-cache)\n    \
         DEBIAN_MIRROR     base address of a Debian mirror (one of the host's apt sources)\n",
    );
    text
}

fn run() -> Result<()> {
    let mut options = Options::default();
    let mut path = false;
    let mut update = false;
    let mut names = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "-h" | "--help" => {
                print!("{}", help());
                return Ok(());
            }
            "-q" | "--quiet" => options.quiet = true,
            "--path" => path = true,
            "--builtin-http" => options.builtin_http = true,
            "--update-lock" => update = true,
            other if other.starts_with('-') => {
                return Err(Error(format!("unknown option '{other}'; --help shows all")));
            }
            name => names.push(name.to_owned()),
        }
    }
    if update {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("packages.lock");
        let record = fetch::newest_record(&options)?;
        std::fs::write(&file, record.text())
            .map_err(|e| Error(format!("{}: {e}", file.display())))?;
    } else if names.is_empty() {
        return Err(Error("no set named; --help shows all".to_owned()));
    }
    for name in names {
        let fetched = fetch::fetch(&name, &options)?;
        println!("{}", if path { fetched.main.display() } else { fetched.root.display() });
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fetch: {error}");
            ExitCode::FAILURE
        }
    }
}
