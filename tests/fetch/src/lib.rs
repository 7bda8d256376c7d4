// SPDX-License-Identifier: BSD-2-Clause

//! Brings what the tests run from Debian's archive into a private cache, on any
//! x86-64 Linux machine, without root and without touching the host's packages.
//!
//! A [set](sets::Set) names a few packages. Their dependencies are resolved
//! here, each file is checked against the archive's signed index, and all are
//! unpacked into one root whose programs run with its own loader and libraries.
//! `packages.lock` records the versions that are known to work. A set that is
//! in the cache is found without any download.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

mod error;
pub mod index;
mod mirror;
pub mod record;
mod release;
pub mod resolve;
pub mod sets;
mod transport;
mod ui;
mod unpack;
pub mod version;

use error::Context;
pub use error::{Error, Result};
use index::{Index, Package};
use record::Record;
use release::Checked;
use sets::Set;
use transport::Transport;

const RECORD: &str = include_str!("../packages.lock");
/// Changes when the cache's layout does, so that an old cache is not trusted.
const LAYOUT: &str = "2";

/// Where and how to fetch. `Default` is what all but tests want.
#[derive(Debug, Clone)]
pub struct Options {
    /// The cache's folder.
    pub cache: PathBuf,
    /// The mirror's base address; None asks `DEBIAN_MIRROR` and the host's apt sources.
    pub mirror: Option<String>,
    /// Keys of the archive; None leaves signatures unchecked, and says so.
    pub keyring: Option<PathBuf>,
    /// Use the built-in HTTP client even where apt's downloader exists.
    pub builtin_http: bool,
    /// Print only errors and notes.
    pub quiet: bool,
}

impl Default for Options {
    fn default() -> Options {
        let cache =
            std::env::var_os("BHYVE_NVME_CACHE").filter(|value| !value.is_empty()).map_or_else(
                || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/devhost-cache"),
                PathBuf::from,
            );
        Options {
            cache,
            mirror: None,
            keyring: release::keyring(),
            builtin_http: false,
            quiet: false,
        }
    }
}

/// A set in the cache.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The folder that holds the packages' files as a system's `/` would.
    pub root: PathBuf,
    /// The set's main file: a program's launcher, or a folder.
    pub main: PathBuf,
}

/// Returns the set called `name`, after downloading it if it is not in the cache.
///
/// Runs at the same time, in one process or several, wait for one another; one
/// that is interrupted leaves nothing that a later one would take for complete.
pub fn fetch(name: &str, options: &Options) -> Result<Fetched> {
    let set = sets::find(name)?;
    let record = Record::parse(RECORD)?;
    fetch_set(&set, &record, options)
}

/// [`fetch`] with a set and record of the caller's.
pub fn fetch_set(set: &Set, record: &Record, options: &Options) -> Result<Fetched> {
    fs::create_dir_all(&options.cache).context(options.cache.display())?;
    let cache = options.cache.canonicalize().context(options.cache.display())?;
    let dir = cache.join("sets").join(format!("{}-{}", set.name, &key(set, record)[..12]));
    if !dir.exists() {
        let _lock = lock(&cache, options)?;
        // Another process may have made it while this one waited.
        if !dir.exists() {
            make(set, record, options, &cache, &dir)?;
        }
    }
    let main = main_path(&dir, set)?;
    Ok(Fetched { root: dir.join("root"), main })
}

/// Resolves every set against the mirror's newest packages and returns the new record.
pub fn newest_record(options: &Options) -> Result<Record> {
    fs::create_dir_all(&options.cache).context(options.cache.display())?;
    let _lock = lock(&options.cache, options)?;
    let recorded = Record::parse(RECORD)?;
    let (index, _) = load_index(options, &options.cache, &Transport::new(options.builtin_http))?;
    // Minimums hold; versions do not.
    let mut minimums = Record::parse(RECORD)?;
    for line in &mut minimums.lines {
        line.version = String::new();
    }
    let mut all = Vec::new();
    for name in sets::NAMES {
        all.extend(resolve::resolve(&index, &sets::find(name)?, &minimums)?);
    }
    Ok(recorded.update(&all))
}

/// What a cached set depends on: its definition and the record.
fn key(set: &Set, record: &Record) -> String {
    let mut hash = Sha256::new();
    hash.update(LAYOUT);
    hash.update(format!("{set:?}"));
    hash.update(record.text());
    hex(&hash.finalize())
}

fn main_path(dir: &Path, set: &Set) -> Result<PathBuf> {
    let Some((before, after)) = set.main.split_once("/*") else { return Ok(dir.join(set.main)) };
    let parent = dir.join(before);
    let mut entries: Vec<PathBuf> = fs::read_dir(&parent)
        .context(parent.display())?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    let found = entries
        .into_iter()
        .map(|entry| entry.join(after.trim_start_matches('/')))
        .find(|path| path.exists());
    found.ok_or_else(|| Error(format!("{}: no {} in it", dir.display(), set.main)))
}

/// Holds the cache's lock until the file is closed.
fn lock(cache: &Path, options: &Options) -> Result<File> {
    let path = cache.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .context(path.display())?;
    if file.try_lock().is_err() {
        ui::say(options, "waiting for another run to finish");
        file.lock().context(path.display())?;
    }
    Ok(file)
}

fn make(set: &Set, record: &Record, options: &Options, cache: &Path, dir: &Path) -> Result<()> {
    let transport = Transport::new(options.builtin_http);
    let (index, mirror) = load_index(options, cache, &transport)?;
    let packages = resolve::resolve(&index, set, record)?;
    note_changes(&packages, record);

    let debs = cache.join("debs");
    fs::create_dir_all(&debs).context(debs.display())?;
    let mut files = Vec::new();
    let mut progress = ui::Progress::new(options, set.name, &packages);
    for package in &packages {
        let file = debs.join(format!("{}_{}.deb", package.name, &package.sha256[..16]));
        if !file.exists() {
            progress.show(package, "download");
            let part = file.with_extension("part");
            transport.get(&format!("{mirror}/{}", package.filename), &part)?;
            let sha256 = hash_file(&part)?;
            if sha256 != package.sha256 {
                return Err(Error(format!(
                    "{}: SHA-256 is {sha256}, the archive's index says {}",
                    package.filename, package.sha256
                )));
            }
            fs::rename(&part, &file).context(file.display())?;
        }
        files.push(file);
    }

    let temporary = cache.join("sets").join(format!("{}.part", set.name));
    let _ = fs::remove_dir_all(&temporary);
    let root = temporary.join("root");
    fs::create_dir_all(&root).context(root.display())?;
    unpack::prepare_root(&root)?;
    for (package, file) in packages.iter().zip(&files) {
        progress.show(package, "unpack");
        unpack::unpack(file, &root, &set.keep)?;
    }
    unpack::write_launchers(&temporary, set)?;
    let used = temporary.join("packages");
    fs::write(&used, record.update(&packages).text()).context(used.display())?;
    fs::rename(&temporary, dir).context(dir.display())?;
    progress.done();
    Ok(())
}

/// Says which versions are not the recorded ones.
fn note_changes(packages: &[Package], record: &Record) {
    for package in packages {
        let mut recorded = record.versions(&package.name).peekable();
        if recorded.peek().is_none() {
            ui::note(&format!("{} {} is not in packages.lock", package.name, package.version));
        } else if !record.versions(&package.name).any(|line| line.version == package.version) {
            let versions: Vec<&str> = recorded.map(|line| line.version.as_str()).collect();
            ui::note(&format!(
                "{} {} instead of the recorded {}, which the mirror does not have",
                package.name,
                package.version,
                versions.join(" or ")
            ));
        }
    }
}

/// Reads the indexes of all suites, from the first mirror that has them.
fn load_index(options: &Options, cache: &Path, transport: &Transport) -> Result<(Index, String)> {
    let mirrors = match &options.mirror {
        Some(mirror) => vec![mirror.trim_end_matches('/').to_owned()],
        None => mirror::candidates()?,
    };
    let mut errors = Vec::new();
    for mirror in mirrors {
        match load_index_from(&mirror, options, cache, transport) {
            Ok(index) => return Ok((index, mirror)),
            Err(error) => errors.push(error.0),
        }
    }
    Err(Error(format!("{} (DEBIAN_MIRROR names another mirror)", errors.join("; "))))
}

fn load_index_from(
    mirror: &str,
    options: &Options,
    cache: &Path,
    transport: &Transport,
) -> Result<Index> {
    let lists = cache.join("lists");
    fs::create_dir_all(&lists).context(lists.display())?;
    let mut index = Index::default();
    let mut unchecked = None;
    for suite in sets::SUITES {
        ui::say(options, &format!("reading the index of {suite}"));
        let release = lists.join(format!("{suite}.InRelease"));
        transport.get(&format!("{mirror}/dists/{suite}/InRelease"), &release)?;
        let (text, checked) = release::read(&release, options.keyring.as_deref())?;
        if let Checked::No(why) = checked {
            unchecked = Some(why);
        }
        let (path, sha256) = release::index_file(&text, suite)?;
        let file = lists.join(format!("{suite}.Packages.xz"));
        if !file.exists() || hash_file(&file)? != sha256 {
            let part = file.with_extension("part");
            transport.get(&format!("{mirror}/dists/{suite}/{path}"), &part)?;
            if hash_file(&part)? != sha256 {
                return Err(Error(format!(
                    "{mirror}: {suite}'s Packages.xz is not the one its InRelease file names"
                )));
            }
            fs::rename(&part, &file).context(file.display())?;
        }
        let packages = String::from_utf8(read_xz(&file)?).context(file.display())?;
        index.add(suite, &packages);
    }
    if let Some(why) = unchecked {
        ui::note(&format!("the archive's signature was not checked: {why}"));
    }
    Ok(index)
}

/// Unpacks the xz-packed file at `path` into memory.
pub fn read_xz(path: &Path) -> Result<Vec<u8>> {
    let packed = File::open(path).context(path.display())?;
    let mut bytes = Vec::new();
    liblzma::read::XzDecoder::new(packed).read_to_end(&mut bytes).context(path.display())?;
    Ok(bytes)
}

/// SHA-256 of the file at `path`, lower-case hex.
pub fn hash_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).context(path.display())?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut buffer).context(path.display())?;
        if n == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..n]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
