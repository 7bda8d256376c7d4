// SPDX-License-Identifier: BSD-2-Clause

//! The fetcher against a small archive of its own, over the built-in client.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use fetch::record::Record;
use fetch::sets::{Root, Set, Wanted};
use fetch::{Options, fetch_set};
use sha2::{Digest, Sha256};

type Files = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// An HTTP server of files in memory, and what it was asked for.
struct Mirror {
    url: String,
    files: Files,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Mirror {
    fn start() -> Mirror {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/debian", listener.local_addr().unwrap());
        let (files, asked) = (Files::default(), Arc::new(Mutex::new(Vec::new())));
        let (served, log) = (files.clone(), asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &served, &log);
            }
        });
        Mirror { url, files, asked }
    }

    fn put(&self, path: &str, bytes: Vec<u8>) {
        self.files.lock().unwrap().insert(format!("/debian/{path}"), bytes);
    }

    /// Publishes packages: stanza lines without the file's own, and the file.
    fn publish(&self, packages: &[(&str, Vec<u8>)]) {
        let mut index = String::new();
        for (stanza, file) in packages {
            let sha256 = hex(file);
            index.push_str(&format!(
                "{stanza}Filename: pool/{sha256}.deb\nSize: {}\nSHA256: {sha256}\n\n",
                file.len()
            ));
            self.put(&format!("pool/{sha256}.deb"), file.clone());
        }
        for (suite, text) in [("trixie", index.as_str()), ("trixie-backports", "")] {
            let packed = xz(text.as_bytes());
            let release = format!(
                "Origin: Debian\nCodename: {suite}\nSHA256:\n {} {} main/binary-amd64/Packages.xz\n",
                hex(&packed),
                packed.len()
            );
            self.put(&format!("dists/{suite}/InRelease"), release.into_bytes());
            self.put(&format!("dists/{suite}/main/binary-amd64/Packages.xz"), packed);
        }
    }

    fn debs_asked_for(&self) -> usize {
        self.asked.lock().unwrap().iter().filter(|path| path.ends_with(".deb")).count()
    }
}

fn answer(stream: TcpStream, files: &Files, asked: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request).unwrap();
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 2 {
        line.clear();
    }
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let body = files.lock().unwrap().get(&path).cloned();
    asked.lock().unwrap().push(path);
    let (status, body) = body.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    // A client that gives up early is its own affair.
    let _ = reader.get_mut().write_all(&[head.into_bytes(), body].concat());
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    liblzma::read::XzEncoder::new(bytes, 1).read_to_end(&mut packed).unwrap();
    packed
}

/// A package with the files given; names are put in unchecked.
fn deb(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(text.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        archive.append(&header, text.as_bytes()).unwrap();
    }
    let data = xz(&archive.into_inner().unwrap());
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, member) in
        [("debian-binary", b"2.0".as_slice()), ("control.tar.xz", b"-"), ("data.tar.xz", &data)]
    {
        bytes.extend(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, member.len())
                .as_bytes(),
        );
        bytes.extend(member);
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
    }
    bytes
}

fn set() -> Set {
    Set {
        name: "test",
        about: "",
        roots: vec![Root { package: "a", suite: None, wanted: Wanted::Any }],
        without: vec![],
        keep: vec![],
        programs: vec![],
        main: "root/usr/share/*/main",
    }
}

struct Cache(PathBuf);

impl Cache {
    fn new(name: &str) -> Cache {
        let path = std::env::temp_dir().join(format!("fetch-test-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Cache(path)
    }

    fn options(&self, mirror: &Mirror) -> Options {
        Options {
            cache: self.0.clone(),
            mirror: Some(mirror.url.clone()),
            keyring: None,
            builtin_http: true,
            quiet: true,
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn two_packages() -> [(&'static str, Vec<u8>); 2] {
    [
        (
            "Package: a\nVersion: 1-1\nDepends: b (>= 2)\n",
            deb(&[
                ("./lib/file", "in lib"),
                ("./usr/share/a/main", "x"),
                ("./usr/share/doc/a/copyright", "y"),
            ]),
        ),
        ("Package: b\nVersion: 2-1\n", deb(&[("./usr/bin/b", "b")])),
    ]
}

fn read(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap()
}

#[test]
fn a_set_is_downloaded_once_and_then_found_without_the_mirror() {
    let (mirror, cache) = (Mirror::start(), Cache::new("once"));
    mirror.publish(&two_packages());
    let fetched = fetch_set(&set(), &Record::default(), &cache.options(&mirror)).unwrap();
    assert_eq!(read(&fetched.root, "usr/lib/file"), "in lib", "/lib is /usr/lib");
    assert_eq!(read(&fetched.root, "usr/bin/b"), "b");
    assert!(!fetched.root.join("usr/share/doc").exists(), "no documentation");
    assert!(fetched.main.ends_with("usr/share/a/main"));
    let used = read(fetched.root.parent().unwrap(), "packages");
    assert!(used.contains("\na 1-1 0 ") && used.contains("\nb 2-1 0 "), "{used}");

    let asked = mirror.asked.lock().unwrap().len();
    fetch_set(&set(), &Record::default(), &cache.options(&mirror)).unwrap();
    assert_eq!(mirror.asked.lock().unwrap().len(), asked);

    // Another record makes another set, from the files that are here already.
    let record = Record::parse(&format!("c 1 0 {}\n", "0".repeat(64))).unwrap();
    fetch_set(&set(), &record, &cache.options(&mirror)).unwrap();
    assert_eq!(mirror.debs_asked_for(), 2);
}

#[test]
fn a_file_that_is_not_the_indexs_is_refused_and_leaves_nothing() {
    let (mirror, cache) = (Mirror::start(), Cache::new("refused"));
    let packages = two_packages();
    mirror.publish(&packages);
    let path = format!("pool/{}.deb", hex(&packages[1].1));
    mirror.put(&path, deb(&[("./usr/bin/b", "evil")]));
    let error = fetch_set(&set(), &Record::default(), &cache.options(&mirror)).unwrap_err();
    assert!(error.0.contains("SHA-256"), "{error}");
    // A mirror that mends itself is enough.
    mirror.put(&path, packages[1].1.clone());
    let fetched = fetch_set(&set(), &Record::default(), &cache.options(&mirror)).unwrap();
    assert_eq!(read(&fetched.root, "usr/bin/b"), "b");
}

#[test]
fn an_index_that_is_not_the_releases_is_refused() {
    let (mirror, cache) = (Mirror::start(), Cache::new("index"));
    mirror.publish(&two_packages());
    mirror.put("dists/trixie/main/binary-amd64/Packages.xz", xz(b""));
    let error = fetch_set(&set(), &Record::default(), &cache.options(&mirror)).unwrap_err();
    assert!(error.0.contains("Packages.xz"), "{error}");
    assert_eq!(mirror.debs_asked_for(), 0);
}

#[test]
fn an_unsigned_release_is_refused_where_there_is_a_keyring() {
    if std::process::Command::new("gpgv").arg("--version").output().is_err() {
        return;
    }
    let (mirror, cache) = (Mirror::start(), Cache::new("unsigned"));
    mirror.publish(&two_packages());
    fs::create_dir_all(&cache.0).unwrap();
    let keyring = cache.0.join("keyring.gpg");
    fs::write(&keyring, b"").unwrap();
    let options = Options { keyring: Some(keyring), ..cache.options(&mirror) };
    let error = fetch_set(&set(), &Record::default(), &options).unwrap_err();
    assert!(error.0.contains("signature"), "{error}");
}

#[test]
fn a_missing_file_is_named_with_its_address() {
    let (mirror, cache) = (Mirror::start(), Cache::new("missing"));
    let error = fetch_set(&set(), &Record::default(), &cache.options(&mirror)).unwrap_err();
    assert!(error.0.contains(&format!("{}/dists/trixie/InRelease", mirror.url)), "{error}");
    assert!(error.0.contains("404") && error.0.contains("DEBIAN_MIRROR"), "{error}");
}

#[test]
fn a_path_that_leads_out_of_the_root_is_not_followed() {
    let (mirror, cache) = (Mirror::start(), Cache::new("escape"));
    mirror.publish(&[(
        "Package: a\nVersion: 1\n",
        deb(&[("../../../../escaped", "x"), ("./usr/share/a/main", "x")]),
    )]);
    let fetched = fetch_set(&set(), &Record::default(), &cache.options(&mirror)).unwrap();
    let mut folder = fetched.root.as_path();
    while let Some(parent) = folder.parent() {
        assert!(!parent.join("escaped").exists());
        folder = parent;
    }
}

#[test]
fn runs_at_the_same_time_share_one_download() {
    let (mirror, cache) = (Mirror::start(), Cache::new("together"));
    mirror.publish(&two_packages());
    let options = cache.options(&mirror);
    thread::scope(|scope| {
        let runs: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| fetch_set(&set(), &Record::default(), &options).unwrap().root))
            .collect();
        let roots: Vec<PathBuf> = runs.into_iter().map(|run| run.join().unwrap()).collect();
        assert!(roots.iter().all(|root| *root == roots[0] && read(root, "usr/bin/b") == "b"));
    });
    assert_eq!(mirror.debs_asked_for(), 2);
}
