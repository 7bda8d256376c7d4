// SPDX-License-Identifier: BSD-2-Clause

//! The manual page against the table of options: every option is there, with
//! what it is for, what it may be and its default, as the parser has them.

use std::ffi::OsString;

use bhyve_nvme::config::{Config, Location, Node, OPTIONS, Opt};

/// A node with one option.
struct One(&'static str, String);

impl Node for One {
    fn value(&self, name: &str) -> Option<OsString> {
        (name == self.0).then(|| self.1.clone().into())
    }

    fn names(&self) -> Vec<String> {
        vec![self.0.to_string()]
    }
}

fn manual() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/man/bhyve-nvme.8");
    std::fs::read_to_string(path).unwrap()
}

/// mdoc lines as the text that a reader sees, in one line: macros are dropped,
/// `Ns` joins its neighbours, punctuation stands against the word before it.
fn text<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    const MACROS: [&str; 10] = ["It", "Cm", "Ar", "Va", "No", "Dv", "Xr", "Sy", "Sx", "Ql"];
    let mut text = String::new();
    let mut join = true;
    for line in lines {
        let (call, line) = match line.strip_prefix('.') {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        for word in line.split_whitespace() {
            if call && word == "Ns" {
                join = true;
            } else if !call || !MACROS.contains(&word) {
                let closing = call && [",", ".", ";", ":"].contains(&word);
                if !join && !closing {
                    text.push(' ');
                }
                text.push_str(word);
                join = false;
            }
        }
    }
    text
}

/// The lines of the subsection `name`, without its heading.
fn section<'a>(manual: &'a str, name: &str) -> Vec<&'a str> {
    let heading = format!(".Ss {name}");
    manual
        .lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with(".Ss ") && !line.starts_with(".Sh "))
        .collect()
}

/// What the list of options says of `option`, heading included.
fn entry(manual: &str, option: &Opt) -> Option<String> {
    let lines = section(manual, "Options");
    let start = lines.iter().position(|line| {
        let mut words = line.split(' ');
        words.next() == Some(".It")
            && matches!(words.next(), Some("Cm" | "Ar"))
            && words.next() == Some(option.name)
    })?;
    let end = lines[start + 1..]
        .iter()
        .position(|line| line.starts_with(".It ") || line.starts_with(".El"))?;
    Some(text(lines[start..=start + end].iter().copied()))
}

#[test]
fn every_option_is_described_as_the_parser_has_it() {
    let manual = manual();
    for option in &OPTIONS {
        let name = option.name;
        let entry = entry(&manual, option).unwrap_or_else(|| panic!("{name} is not listed"));
        let legal = if option.is_flag() {
            "This is a boolean option.".to_string()
        } else {
            format!("It must be {}.", option.legal())
        };
        for expected in
            [format!("{}.", option.about), legal, format!("The default is {}", option.default())]
        {
            let at = entry.find(&expected).unwrap_or_else(|| panic!("{expected:?} in {entry:?}"));
            // "16" is not to be found in "160".
            let next = entry[at + expected.len()..].chars().next();
            assert!(next.is_none_or(|c| !c.is_alphanumeric()), "{expected:?} in {entry:?}");
        }
    }
}

#[test]
fn what_a_boolean_is() {
    let flag = OPTIONS.iter().find(|option| option.is_flag()).unwrap();
    let options = text(section(&manual(), "Options"));
    assert!(options.contains(&format!("A boolean option must be {},", flag.legal())));
}

#[test]
fn every_option_is_a_variable() {
    let manual = manual();
    let table = section(&manual, "Configuration variables");
    let rows: Vec<Vec<String>> = table
        .iter()
        .filter(|line| line.starts_with(".It Va "))
        .map(|line| line.split(" Ta ").map(|cell| text([format!(".{cell}").as_str()])).collect())
        .collect();
    assert_eq!(rows.len(), OPTIONS.len());
    for (row, option) in rows.iter().zip(&OPTIONS) {
        let [name, format, default, refused] = row.as_slice() else {
            panic!("{row:?} has not four columns");
        };
        assert!(name.ends_with(option.name), "{row:?} stands where {} should", option.name);
        assert_eq!(format == "bool", option.is_flag(), "{row:?}");
        for example in refused.split(", ") {
            let value = match example {
                "empty" | "missing" => String::new(),
                "21 long" => "A".repeat(21),
                value => value.to_string(),
            };
            let at = Location { bus: 0, slot: 4, func: 0 };
            let error = Config::parse(&One(option.name, value.clone()), at, "vm0").unwrap_err();
            let line = format!("nvme: {}={value}: must be", option.name);
            assert!(error.to_string().starts_with(&line), "{row:?}: {error}");
        }
        // What takes a sentence is said in the list of options.
        if !option.default().contains(' ') {
            assert_eq!(default, option.default(), "{row:?}");
        } else {
            assert!(["generated", "see above"].contains(&default.as_str()), "{row:?}");
        }
    }
}

#[test]
fn no_option_is_described_that_does_not_exist() {
    let manual = manual();
    for line in section(&manual, "Options").iter().filter(|line| line.starts_with(".It ")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(OPTIONS.iter().any(|option| option.name == name), "{line}");
    }
}

#[test]
fn the_text_of_a_page() {
    let lines =
        [".It Cm ser Ns = Ns Ar text", "Serial", "number.", ".Cm auto , enable", "or", ".Cm no ."];
    assert_eq!(text(lines), "ser=text Serial number. auto, enable or no.");
}

#[test]
fn what_people_ask_has_its_section() {
    let manual = manual();
    // The question, where it is answered, and words of the answer.
    let answers: [(&str, &str, &[&str]); 7] = [
        ("which sector size", "Sector sizes", &["Which one to take", "sectorsize=512/4096"]),
        ("which cache mode", "Cache and durability", &["Which mode to take", "nocache", "sync"]),
        ("does TRIM free my zvol", "TRIM", &["zfs 8 volume", "volblocksize", "refreservation"]),
        (
            "how do I resize",
            "Size",
            &["zfs set volsize=", "at once", "within two seconds", "smaller"],
        ),
        ("what changes", "Switching from the in-tree device", &["flush", "the way back"]),
        ("how do I build it", "Building and installing", &["build-bhyve.sh", "port", "PATH"]),
        ("how do I see what it does", "Watching the device", &["procstat -t", "dtrace 1"]),
    ];
    for (question, name, words) in answers {
        let section = text(section(&manual, name));
        for word in words {
            assert!(section.contains(word), "{question}: {word:?} is not in {name}: {section}");
        }
    }
    // The line that the device was asked for.
    let line = "bhyve -s 4,nvme,/dev/zvol/tank/vm0,maxq=16,qsz=8,ioslots=1,sectsz=512,ser=ABC123";
    assert!(manual.contains(line));
}
