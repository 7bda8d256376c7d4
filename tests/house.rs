// SPDX-License-Identifier: BSD-2-Clause

//! Rules of the house that neither the compiler nor clippy can check.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Files of the library that may hold `unsafe`; a folder ends in a slash.
const UNSAFE_ROOMS: [&str; 5] =
    ["src/abi.rs", "src/backend/sys/", "src/bhyve.rs", "src/engine/sys/", "src/memory.rs"];

/// Outside the library: bhyve's stand-in, which is one half of a C interface.
const UNSAFE_OUTSIDE: [&str; 1] = ["tests/devhost/"];

/// Made by a tool, word by word.
const GENERATED: [&str; 1] = ["Cargo.lock"];

/// What only one machine has. The first letter is apart, so that this file
/// does not find itself.
const MACHINE_PATHS: [(&str, &str); 6] = [
    ("/", "home/"),
    ("/", "root/"),
    ("/", "work/"),
    ("/", "Users/"),
    ("/", "opt/wheels"),
    ("/", "tmp/target"),
];

/// Where packages come from is the business of each client's own settings.
const REGISTRY_HOSTS: [(&str, &str); 7] = [
    ("c", "rates.io"),
    ("d", "eb.debian.org"),
    ("s", "napshot.debian.org"),
    ("f", "iles.pythonhosted.org"),
    ("p", "ypi.org"),
    ("r", "egistry.npmjs.org"),
    ("s", "tatic.rust-lang.org"),
];

/// Kinds of file that carry a licence line.
const SOURCES: [&str; 7] = ["c", "h", "rs", "sh", "d", "S", "mk"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the repository with its path from the top, sorted. Build
/// output marks itself as a cache.
fn files() -> Vec<(String, PathBuf)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        if dir.join("CACHEDIR.TAG").exists() {
            return;
        }
        for entry in fs::read_dir(dir).expect("a folder cannot be read") {
            let entry = entry.expect("a folder cannot be read");
            let kind = entry.file_type().expect("a file has no type");
            let path = entry.path();
            if kind.is_file() {
                found.push(path);
            } else if kind.is_dir() && entry.file_name() != ".git" && entry.file_name() != "target"
            {
                walk(&path, found);
            }
        }
    }
    let top = root();
    let mut found = Vec::new();
    walk(&top, &mut found);
    found.sort();
    assert!(found.len() > 20, "this is not the repository");
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&top).expect("outside the repository");
            (name.to_string_lossy().into_owned(), path)
        })
        .collect()
}

/// A text file's content; `None` for a binary one.
fn text(path: &Path) -> Option<String> {
    String::from_utf8(fs::read(path).expect("a file cannot be read")).ok()
}

fn extension(name: &str) -> &str {
    name.rsplit('/').next().and_then(|file| file.rsplit_once('.')).map_or("", |(_, last)| last)
}

/// The lines of Rust code, numbered from 1, where the keyword `unsafe` stands
/// outside comments and literals.
fn unsafe_lines(code: &str) -> Vec<usize> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut lines = Vec::new();
    let mut line = 1;
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '"' {
            quoted(rest)
        } else if first == '\'' {
            character(rest)
        } else if is_word(first) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            if &rest[..length] == "unsafe" {
                lines.push(line);
            }
            length
        } else {
            first.len_utf8()
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    lines
}

/// The length of the block comment that `rest` starts with; they nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of the raw string (`r"..."`, `br#"..."#`, `cr"..."`) that `rest`
/// starts with.
fn raw_string(rest: &str) -> Option<usize> {
    let after = ["br", "cr", "r"].iter().find_map(|prefix| rest.strip_prefix(prefix))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(rest.len() - body.len() + length)
}

/// The length of the quoted string that `rest` starts with.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of the character that `rest` starts with; 1 for a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let after = at + escaped.len_utf8();
            rest[after..].find('\'').map_or(rest.len(), |end| after + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

#[test]
fn the_keyword_is_found_only_where_it_is_code() {
    let code = "unsafe { a() } // unsafe\n/* unsafe /* unsafe */ unsafe */\n\
        let s = \"unsafe \\\" unsafe\"; let r = r#\"unsafe \" unsafe\"#;\n\
        #![deny(unsafe_code)] fn f<'a>(c: &'a str) { '\"'; '\\''; unsafe { g() } }\n\
        #[unsafe(no_mangle)] extern fn h() {}\n";
    assert_eq!(unsafe_lines(code), [1, 4, 5]);
}

#[test]
fn unsafe_code_stays_in_its_rooms() {
    let lies_in = |name: &str, room: &str| {
        if room.ends_with('/') { name.starts_with(room) } else { name == room }
    };
    let mut used = BTreeSet::new();
    let mut outside = Vec::new();
    for (name, path) in files().into_iter().filter(|(name, _)| extension(name) == "rs") {
        let lines = unsafe_lines(&text(&path).expect("Rust code is UTF-8"));
        match UNSAFE_ROOMS.iter().chain(&UNSAFE_OUTSIDE).find(|room| lies_in(&name, room)) {
            Some(room) if !lines.is_empty() => {
                used.insert(*room);
            }
            Some(_) => {}
            None => outside.extend(lines.iter().map(|line| format!("{name}:{line}"))),
        }
    }
    assert!(outside.is_empty(), "unsafe outside its rooms:\n{}", outside.join("\n"));
    // A room that moved would leave its rule behind.
    assert!(UNSAFE_ROOMS.iter().all(|room| used.contains(room)), "only {used:?} hold unsafe code");
}

#[test]
fn every_source_names_its_licence() {
    let mut without = Vec::new();
    for (name, path) in files() {
        let Some(text) = text(&path) else { continue };
        if !SOURCES.contains(&extension(&name)) && !text.starts_with("#!") {
            continue;
        }
        let head: Vec<&str> = text.lines().take(5).collect();
        if !head.iter().any(|line| line.contains("SPDX-License-Identifier: BSD-2-Clause")) {
            without.push(name);
        }
    }
    assert!(without.is_empty(), "no licence line in:\n{}", without.join("\n"));
}

#[test]
fn nothing_names_one_machine_or_a_registry() {
    let words: Vec<String> = MACHINE_PATHS
        .iter()
        .chain(&REGISTRY_HOSTS)
        .map(|(first, rest)| format!("{first}{rest}"))
        .collect();
    let mut found = Vec::new();
    for (name, path) in files() {
        let Some(text) = text(&path) else { continue };
        if GENERATED.contains(&name.as_str()) {
            continue;
        }
        for (at, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(word.as_str())) {
                found.push(format!("{name}:{}: {word}", at + 1));
            }
        }
    }
    assert!(found.is_empty(), "paths of one machine, or registries:\n{}", found.join("\n"));
}
