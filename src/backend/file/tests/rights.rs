// SPDX-License-Identifier: BSD-2-Clause

//! What is left of a store's descriptor, option by option.

use std::ffi::OsString;
use std::path::Path;

use super::fake::{Bend, Call, Fake};
use crate::backend::file::File;
use crate::backend::sys::{FreeBsd, Request};
use crate::config::{Config, Location, Node};
use crate::device::open_options;
use crate::sandbox::{Right, Rights};

/// A device's options as on the command line, after the path.
struct Options(&'static str);

impl Node for Options {
    fn value(&self, name: &str) -> Option<OsString> {
        let words = self.0.split(',').filter(|word| !word.is_empty());
        let mut pairs = words.map(|word| word.split_once('=').unwrap_or((word, "true")));
        let value = pairs.find(|pair| pair.0 == name).map(|pair| pair.1);
        value.or((name == "path").then_some("disk")).map(OsString::from)
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

fn config(options: &'static str) -> Config {
    let location = Location { bus: 0, slot: 4, func: 0 };
    Config::parse(&Options(options), location, "").unwrap().0
}

/// The rights that `store` keeps; they are limited last of all, for what is
/// asked after that may be refused.
fn kept(store: &Fake, options: &'static str) -> Rights {
    let options = open_options(&config(options));
    File::<Fake, FreeBsd>::open(store.clone(), Path::new("disk"), &options).unwrap();
    match store.log().pop() {
        Some(Call::Limit(rights)) => rights,
        last => panic!("the last call is {last:?}"),
    }
}

/// What the host makes of the store.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Host {
    Lets,
    CannotDelete,
    RefusesWrites,
}
use Host::{CannotDelete, Lets, RefusesWrites};

const READ: Right = Right::Pread;
const WRITE: Right = Right::Pwrite;
const FSYNC: Right = Right::Fsync;
const FSTAT: Right = Right::Fstat;
const IOCTL: Right = Right::Ioctl;

/// Options of which none has a say in the rights.
const OTHERS: [&str; 6] =
    ["", ",nocache", ",sync", ",direct", ",sectorsize=512/4096", ",inline,maxq=1"];

#[test]
fn a_file_keeps_these_rights() {
    let writes = [READ, FSTAT, WRITE, FSYNC];
    let reads = [READ, FSTAT];
    let table: [(Host, &str, &[Right]); 12] = [
        (Lets, "", &writes),
        (Lets, "nodelete", &writes),
        (Lets, "dsm=enable", &writes),
        (Lets, "dsm=disable", &writes),
        (Lets, "nodelete,dsm=enable", &writes),
        (Lets, "ro", &reads),
        (Lets, "ro,nodelete", &reads),
        (Lets, "ro,dsm=enable", &reads),
        (CannotDelete, "", &writes),
        (CannotDelete, "dsm=enable", &writes),
        (RefusesWrites, "", &reads),
        (RefusesWrites, "dsm=enable", &reads),
    ];
    for (host, options, rights) in table {
        for other in OTHERS {
            let file = Fake::file(65536);
            file.with(|s| s.deallocates = Some(host != CannotDelete));
            if host == RefusesWrites {
                file.with(|s| s.opens.push_back(Bend::Fail(libc::EROFS)));
            }
            let all: &'static str = format!("{options}{other}").leak();
            let kept = kept(&file, all);
            assert_eq!(kept.list(), rights, "{host:?} {all}");
            assert_eq!(kept.requests(), [], "{host:?} {all}");
        }
    }
}

#[test]
fn a_device_keeps_these_rights_and_requests() {
    let writes = [READ, IOCTL, WRITE];
    let reads = [READ, IOCTL];
    let deletes = [Request::DIOCGMEDIASIZE, Request::DIOCGFLUSH, Request::DIOCGDELETE];
    let flushes = [Request::DIOCGMEDIASIZE, Request::DIOCGFLUSH];
    let asks = [Request::DIOCGMEDIASIZE];
    let table: [(Host, &str, &[Right], &[Request]); 17] = [
        (Lets, "", &writes, &deletes),
        (Lets, "dsm=auto", &writes, &deletes),
        (Lets, "dsm=enable", &writes, &deletes),
        (Lets, "dsm=disable", &writes, &flushes),
        (Lets, "nodelete", &writes, &flushes),
        (Lets, "nodelete,dsm=enable", &writes, &flushes),
        (Lets, "nodelete,dsm=disable", &writes, &flushes),
        (Lets, "ro", &reads, &asks),
        (Lets, "ro,nodelete", &reads, &asks),
        (Lets, "ro,dsm=enable", &reads, &asks),
        (Lets, "ro,dsm=disable", &reads, &asks),
        (CannotDelete, "", &writes, &flushes),
        (CannotDelete, "dsm=enable", &writes, &flushes),
        (CannotDelete, "ro", &reads, &asks),
        (RefusesWrites, "", &reads, &asks),
        (RefusesWrites, "dsm=enable", &reads, &asks),
        (RefusesWrites, "nodelete", &reads, &asks),
    ];
    for (host, options, rights, requests) in table {
        for other in OTHERS {
            let device = Fake::freebsd_device(65536, 512, 4096);
            let can_delete = u64::from(host != CannotDelete);
            device.with(|s| s.answers.insert(Request::DIOCGATTR.number(), can_delete));
            if host == RefusesWrites {
                device.with(|s| s.opens.push_back(Bend::Fail(libc::EPERM)));
            }
            let all: &'static str = format!("{options}{other}").leak();
            let kept = kept(&device, all);
            assert_eq!(kept.list(), rights, "{host:?} {all}");
            assert_eq!(kept.requests(), requests, "{host:?} {all}");
        }
    }
}
