// SPDX-License-Identifier: BSD-2-Clause

//! What documentation and examples show works: every line of options is one
//! that the parser takes without a remark, and every function that a DTrace
//! script names is there.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use bhyve_nvme::config::{Config, Legacy, Location, Node, split_legacy};

/// The options of one device, as bhyve stores them.
struct Options(Vec<(String, String)>);

impl Node for Options {
    fn value(&self, name: &str) -> Option<OsString> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.into())
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }
}

impl Options {
    /// From what follows `nvme,` on bhyve's command line.
    fn new(text: &str) -> Options {
        let Legacy { path, rest } = split_legacy(text.as_bytes());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let path = path.map(|path| ("path".to_string(), text(path)));
        let rest = text(rest.unwrap_or_default());
        let words = rest.split(',').filter(|word| !word.is_empty());
        let pairs = words.map(|word| word.split_once('=').unwrap_or((word, "true")));
        Options(path.into_iter().chain(pairs.map(|(k, v)| (k.into(), v.into()))).collect())
    }
}

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder`, which has some.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    assert!(!found.is_empty(), "{folder:?}");
    found.sort();
    found
}

/// What is shown to people, with its text.
fn shown() -> Vec<(PathBuf, String)> {
    let mut paths = vec![top().join("README.md"), top().join("man/bhyve-nvme.8")];
    paths.extend(files(&top().join("bhyve-glue/examples")));
    paths.push(top().join("bhyve-glue/port/sysutils/bhyve-nvme/pkg-message"));
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The lines of options in `text`, each from its path on. Those of vm-bhyve
/// lack the path, which comes from elsewhere.
fn lines_of_options(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let end = |c: char| c.is_whitespace() || "\"'`<".contains(c);
        for (at, _) in line.match_indices(",nvme,") {
            found.push(line[at + 6..].split(end).next().unwrap().to_string());
        }
        if let Some((name, value)) = line.split_once("_opts=\"")
            && name.starts_with("disk")
        {
            found.push(format!("/dev/zvol/tank/vm0,{}", value.split(end).next().unwrap()));
        }
    }
    // "-s slot,nvme,..." is no example but a form.
    found.retain(|options| !options.is_empty() && !options.contains("..."));
    found
}

#[test]
fn every_line_of_options_that_is_shown_is_taken_without_a_remark() {
    let mut count = 0;
    for (path, text) in shown() {
        for options in lines_of_options(&text) {
            let at = Location { bus: 0, slot: 4, func: 0 };
            let (_, warnings) = Config::parse(&Options::new(&options), at, "vm0")
                .unwrap_or_else(|error| panic!("{path:?}: {options}: {error}"));
            assert_eq!(warnings, [""; 0], "{path:?}: {options}");
            count += 1;
        }
    }
    assert!(count > 10, "only {count} lines of options were found");
}

#[test]
fn a_line_that_would_not_be_taken_is_found() {
    let text = "bhyve -s 4,nvme,/dev/zvol/tank/vm0,maxq=65 x\ndisk0_opts=\"nosuch=1\"\n\
        -s 5,nvme,... -s 6,nvme,ram=512`\n";
    let lines = lines_of_options(text);
    assert_eq!(lines, ["/dev/zvol/tank/vm0,maxq=65", "/dev/zvol/tank/vm0,nosuch=1", "ram=512"]);
    let at = Location { bus: 0, slot: 4, func: 0 };
    let parse = |line: &str| Config::parse(&Options::new(line), at, "vm0");
    assert!(parse(&lines[0]).is_err());
    assert_eq!(parse(&lines[1]).unwrap().1.len(), 1);
}

#[test]
fn every_function_that_dtrace_is_pointed_at_is_there() {
    let header = |name: &str| fs::read_to_string(top().join(name)).unwrap();
    let declared = header("include/bhyve_nvme.h") + &header("bhyve-glue/host.h");
    let mut count = 0;
    for path in files(&top().join("bhyve-glue/examples/dtrace")) {
        for line in fs::read_to_string(&path).unwrap().lines() {
            let Some(probe) = line.strip_prefix("pid$target::") else { continue };
            let function = probe.split(':').next().unwrap();
            assert!(declared.contains(&format!("{function}(")), "{path:?}: {function}");
            count += 1;
        }
    }
    assert!(count > 2, "only {count} probes were found");
}

#[test]
fn every_file_that_the_manual_names_is_installed() {
    let manual = fs::read_to_string(top().join("man/bhyve-nvme.8")).unwrap();
    let port = top().join("bhyve-glue/port/sysutils/bhyve-nvme/pkg-plist");
    let list = fs::read_to_string(port)
        .unwrap()
        .replace("%%DATADIR%%", "share/bhyve-nvme")
        .replace("%%EXAMPLESDIR%%", "share/examples/bhyve-nvme");
    let files = manual.lines().filter_map(|line| line.strip_prefix(".It Pa /usr/local/"));
    let mut count = 0;
    for file in files {
        let folder = format!("{file}/");
        let listed = list.lines().any(|line| line == file || line.starts_with(&folder));
        assert!(listed, "{file} is not in pkg-plist");
        count += 1;
    }
    assert!(count > 5, "only {count} files were found");
}
