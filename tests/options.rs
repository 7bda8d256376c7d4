// SPDX-License-Identifier: BSD-2-Clause

//! Option strings, as an operator writes them after `-s 0:4:0,nvme,`, and what
//! each gets: a configuration, a warning, or the line that stops the start.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use bhyve_nvme::config::{
    Config, Dsm, Error, Legacy, Location, Node, OPTIONS, Store, split_legacy,
};

const AT_4: Location = Location { bus: 0, slot: 4, func: 0 };

/// A node such as bhyve makes of a command line.
struct Strings(BTreeMap<String, OsString>);

impl Strings {
    fn new(opts: &[u8]) -> Strings {
        let mut strings = BTreeMap::from([("device".to_string(), "nvme".into())]);
        let Legacy { path, rest } = split_legacy(opts);
        if let Some(path) = path {
            strings.insert("path".to_string(), OsStr::from_bytes(path).into());
        }
        for word in rest.into_iter().flat_map(|rest| rest.split(|&byte| byte == b',')) {
            let mut parts = word.splitn(2, |&byte| byte == b'=');
            let name = String::from_utf8(parts.next().unwrap().to_vec()).unwrap();
            let value = parts.next().unwrap_or(b"true");
            strings.insert(name, OsStr::from_bytes(value).into());
        }
        Strings(strings)
    }
}

impl Node for Strings {
    fn value(&self, name: &str) -> Option<OsString> {
        self.0.get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

fn parse(opts: &str) -> Result<(Config, Vec<String>), Error> {
    Config::parse(&Strings::new(opts.as_bytes()), AT_4, "vm0")
}

/// The configuration of options that nothing is wrong with.
#[track_caller]
fn config(opts: &str) -> Config {
    let (config, warnings) = parse(opts).unwrap();
    assert!(warnings.is_empty(), "{opts}: {warnings:?}");
    config
}

/// Everything at its default, for the path "d".
fn defaults() -> Config {
    Config {
        location: AT_4,
        vm_name: "vm0".to_string(),
        store: Store::Path(PathBuf::from("d")),
        maxq: 16,
        qsz: 2048,
        ioslots: 8,
        sectsz: None,
        sectorsize: None,
        ser: *b"NVME-4-0            ",
        eui64: [0x58, 0x9c, 0xfc, 0x20, 0x44, 0xbf, 0x00, 0x01],
        dsm: Dsm::Auto,
        sgl: true,
        dbbuf: true,
        spin: 0,
        bootindex: None,
        nocache: false,
        sync: false,
        ro: false,
        nodelete: false,
        inline_io: false,
        nguid: false,
    }
}

#[test]
fn documented_defaults() {
    assert_eq!(config("d"), defaults());
    assert_eq!(config("d,"), defaults());
    assert_eq!(config("d").subnqn(), "nqn.2013-12.org.freebsd:bhyve-vm0-0-4-0");
}

#[test]
fn a_line_as_users_write_it() {
    let opts = "/dev/zvol/tank/vm0,maxq=16,qsz=8,ioslots=1,sectsz=512,ser=ABC123";
    assert_eq!(
        config(opts),
        Config {
            store: Store::Path(PathBuf::from("/dev/zvol/tank/vm0")),
            maxq: 16,
            qsz: 8,
            ioslots: 1,
            sectsz: Some(512),
            ser: *b"ABC123              ",
            ..defaults()
        }
    );
}

#[test]
fn legal_values() {
    let ram = |mib| Config { store: Store::Ram { mib }, ..defaults() };
    let table = [
        ("ram=1", ram(1)),
        ("ram=512", ram(512)),
        ("ram=8796093022207", ram(8_796_093_022_207)),
        ("ram=8,maxq=2", Config { maxq: 2, ..ram(8) }),
        ("ram=8,sectsz=512", Config { sectsz: Some(512), ..ram(8) }),
        ("d,maxq=1", Config { maxq: 1, ..defaults() }),
        ("d,maxq=64", Config { maxq: 64, ..defaults() }),
        ("d,maxq= 20 ", Config { maxq: 20, ..defaults() }),
        ("d,qsz=2", Config { qsz: 2, ..defaults() }),
        ("d,qsz=65535", Config { qsz: 65535, ..defaults() }),
        ("d,ioslots=1", Config { ioslots: 1, ..defaults() }),
        ("d,ioslots=256", Config { ioslots: 256, ..defaults() }),
        ("d,sectsz=512", Config { sectsz: Some(512), ..defaults() }),
        ("d,sectsz=4096", Config { sectsz: Some(4096), ..defaults() }),
        ("d,sectsz=8192", Config { sectsz: Some(8192), ..defaults() }),
        ("d,ser=0123456789ABCDEF 01~", Config { ser: *b"0123456789ABCDEF 01~", ..defaults() }),
        (
            "d,eui64=0x0123456789abcdef",
            Config { eui64: [0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01], ..defaults() },
        ),
        ("d,eui64=1", Config { eui64: [1, 0, 0, 0, 0, 0, 0, 0], ..defaults() }),
        ("d,eui64=010", Config { eui64: [8, 0, 0, 0, 0, 0, 0, 0], ..defaults() }),
        ("d,eui64=0", defaults()),
        ("d,eui64=0x0", defaults()),
        ("d,dsm=auto", defaults()),
        ("d,sgl", defaults()),
        ("d,sgl=off", Config { sgl: false, ..defaults() }),
        ("d,sgl=on", defaults()),
        ("d,dbbuf=off", Config { dbbuf: false, ..defaults() }),
        ("d,spin=20", Config { spin: 20, ..defaults() }),
        ("d,spin=1000", Config { spin: 1000, ..defaults() }),
        ("d,dsm=enable", Config { dsm: Dsm::Enable, ..defaults() }),
        ("d,dsm=disable", Config { dsm: Dsm::Disable, ..defaults() }),
        ("d,dsm=Disable", Config { dsm: Dsm::Disable, ..defaults() }),
        ("d,bootindex=0", Config { bootindex: Some(0), ..defaults() }),
        ("d,bootindex=2147483647", Config { bootindex: Some(i32::MAX), ..defaults() }),
        ("d,nocache", Config { nocache: true, ..defaults() }),
        ("d,nocache=on", Config { nocache: true, ..defaults() }),
        ("d,nocache=off", defaults()),
        ("d,sync", Config { sync: true, ..defaults() }),
        ("d,direct", Config { sync: true, ..defaults() }),
        ("d,sync=no,direct=yes", Config { sync: true, ..defaults() }),
        ("d,sync=0", defaults()),
        ("d,ro", Config { ro: true, ..defaults() }),
        ("d,ro=TRUE", Config { ro: true, ..defaults() }),
        ("d,ro=false", defaults()),
        ("d,nodelete", Config { nodelete: true, ..defaults() }),
        ("d,inline=on", Config { inline_io: true, ..defaults() }),
        ("d,inline=off", defaults()),
        ("d,nguid", Config { nguid: true, ..defaults() }),
        ("d,sectorsize=512", Config { sectorsize: Some((512, None)), ..defaults() }),
        ("d,sectorsize=512/4096", Config { sectorsize: Some((512, Some(4096))), ..defaults() }),
        (
            "d,sectorsize=4096,sectsz=4096",
            Config { sectsz: Some(4096), sectorsize: Some((4096, None)), ..defaults() },
        ),
    ];
    for (opts, expected) in table {
        assert_eq!(config(opts), expected, "{opts}");
    }
}

#[test]
fn illegal_values_stop_the_start() {
    const MAXQ: &str = "a whole number from 1 to 64";
    const QSZ: &str = "a whole number from 2 to 65535";
    const IOSLOTS: &str = "a whole number from 1 to 256";
    const RAM: &str = "a whole number of MiB from 1 to 8796093022207";
    const SECTSZ: &str = "512, 4096 or 8192";
    const SER: &str = "1 to 20 printable ASCII characters";
    const EUI64: &str =
        "a number of at most 64 bits, in decimal, octal after 0 or hexadecimal after 0x";
    const DSM: &str = "auto, enable or disable";
    const BOOTINDEX: &str = "a whole number from 0 to 2147483647";
    const FLAG: &str = "true, on, yes or 1, or false, off, no or 0";
    const SECTORSIZE: &str = "logical or logical/physical, powers of two: \
                              logical from 512 to 8192, physical from logical to 16777216";
    let table = [
        ("maxq=0", MAXQ),
        ("maxq=65", MAXQ),
        ("maxq=abc", MAXQ),
        ("maxq=-1", MAXQ),
        ("maxq=", MAXQ),
        ("maxq=1x", MAXQ),
        ("maxq=0x10", MAXQ),
        ("maxq=18446744073709551617", MAXQ),
        ("maxq=true", MAXQ),
        ("qsz=0", QSZ),
        ("qsz=1", QSZ),
        ("qsz=65536", QSZ),
        ("qsz=-1", QSZ),
        ("ioslots=0", IOSLOTS),
        ("ioslots=257", IOSLOTS),
        ("ioslots=100000", IOSLOTS),
        ("sectsz=0", SECTSZ),
        ("sectsz=1024", SECTSZ),
        ("sectsz=", SECTSZ),
        ("sectsz=512b", SECTSZ),
        ("ser=", SER),
        ("ser=012345678901234567890", SER),
        ("ser=\u{e4}", SER),
        ("eui64=xyz", EUI64),
        ("eui64=", EUI64),
        ("eui64=-1", EUI64),
        ("eui64=0x", EUI64),
        ("eui64=0x10000000000000000", EUI64),
        ("eui64=58:9c:fc:20:44:bf:00:01", EUI64),
        ("dsm=maybe", DSM),
        ("dsm=", DSM),
        ("dsm=true", DSM),
        ("ram=0", RAM),
        ("ram=abc", RAM),
        ("ram=", RAM),
        ("ram=-1", RAM),
        ("ram=512M", RAM),
        ("ram=8796093022208", RAM),
        ("ram=17592186044416", RAM),
        ("ram=99999999999999999999", RAM),
        ("bootindex=-1", BOOTINDEX),
        ("bootindex=x", BOOTINDEX),
        ("bootindex=2147483648", BOOTINDEX),
        ("sectorsize=abc", SECTORSIZE),
        ("sectorsize=513", SECTORSIZE),
        ("sectorsize=4096/512", SECTORSIZE),
        ("sectorsize=512/", SECTORSIZE),
        ("sectorsize=", SECTORSIZE),
        ("nocache=maybe", FLAG),
        ("sync=2", FLAG),
        ("direct=", FLAG),
        ("ro=t", FLAG),
        ("nodelete=disable", FLAG),
        ("inline=auto", FLAG),
        ("nguid=maybe", FLAG),
        ("sgl=auto", FLAG),
        ("dbbuf=maybe", FLAG),
        ("sgl=", FLAG),
    ];
    for (option, legal) in table {
        let error = parse(&format!("d,{option}")).unwrap_err();
        assert_eq!(error.to_string(), format!("nvme: {option}: must be {legal}"));
    }
    // Where it is the first word, too.
    let error = parse("ram=0,maxq=4").unwrap_err();
    assert_eq!(error.to_string(), format!("nvme: ram=0: must be {RAM}"));
}

#[test]
fn every_option_has_a_value_that_stops_the_start() {
    for option in &OPTIONS {
        let line = format!("nvme: {}=", option.name);
        let mut node = Strings::new(b"d");
        node.0.insert(option.name.to_string(), OsString::new());
        let error = Config::parse(&node, AT_4, "vm0").unwrap_err();
        assert_eq!(error.to_string(), format!("{line}: must be {}", option.legal()));
    }
}

#[test]
fn no_store_stops_the_start() {
    const MISSING: &str = "nvme: path is missing: give a file or disk device, or ram=MiB";
    let error = Config::parse(&Strings(BTreeMap::new()), AT_4, "vm0").unwrap_err();
    assert_eq!(error.to_string(), MISSING);
    let error = parse(",maxq=4").unwrap_err();
    assert_eq!(error.to_string(), "nvme: path=: must be a file or disk device");
}

#[test]
fn values_that_are_no_text() {
    let opts = b"/img/\xff\xfe";
    let (config, warnings) = Config::parse(&Strings::new(opts), AT_4, "vm0").unwrap();
    assert_eq!(config.store, Store::Path(OsString::from_vec(opts.to_vec()).into()));
    assert!(warnings.is_empty());

    let error = Config::parse(&Strings::new(b"d,ser=\xff"), AT_4, "vm0").unwrap_err();
    assert_eq!(error.to_string(), "nvme: ser=\u{fffd}: must be 1 to 20 printable ASCII characters");
    let error = parse("d,dsm=a\nb\u{1b}[2J").unwrap_err();
    assert_eq!(error.to_string(), "nvme: dsm=a?b?[2J: must be auto, enable or disable");
}

#[test]
fn warnings_and_what_holds_beside_them() {
    let ram = Config { store: Store::Ram { mib: 8 }, ..defaults() };
    let table: [(&str, &[&str], Config); 13] = [
        (
            "d,ioslot=4",
            &["nvme: unknown option \"ioslot\" ignored; did you mean \"ioslots\"?"],
            defaults(),
        ),
        (
            "d,MAXQ=4",
            &["nvme: unknown option \"MAXQ\" ignored; did you mean \"maxq\"?"],
            defaults(),
        ),
        (
            "d,serial=A",
            &["nvme: unknown option \"serial\" ignored; did you mean \"ser\"?"],
            defaults(),
        ),
        ("d,foobar", &["nvme: unknown option \"foobar\" ignored"], defaults()),
        ("d,,maxq=16", &["nvme: unknown option \"\" ignored"], defaults()),
        (
            "d,a\u{7}b=1,rom=x",
            &[
                "nvme: unknown option \"a?b\" ignored",
                "nvme: unknown option \"rom\" ignored; did you mean \"ram\"?",
            ],
            defaults(),
        ),
        ("/vm/disk,ram=8", &["nvme: path=/vm/disk ignored: ram=8 makes a RAM disk"], ram.clone()),
        (
            "ram=8,nocache,sync,ro",
            &[
                "nvme: nocache ignored: ram=8 makes a RAM disk",
                "nvme: sync ignored: ram=8 makes a RAM disk",
                "nvme: ro ignored: ram=8 makes a RAM disk",
            ],
            ram.clone(),
        ),
        ("ram=8,direct", &["nvme: direct ignored: ram=8 makes a RAM disk"], ram.clone()),
        ("ram=8,ro=off,nodelete", &[], Config { nodelete: true, ..ram }),
        (
            "maxq=4",
            &["nvme: path=maxq=4: the first word is the path, not an option"],
            Config { store: Store::Path(PathBuf::from("maxq=4")), ..defaults() },
        ),
        (
            "d,sectsz=512,sectorsize=4096",
            &["nvme: sectsz=512 wins over the logical size of sectorsize=4096"],
            Config { sectsz: Some(512), sectorsize: Some((512, Some(4096))), ..defaults() },
        ),
        (
            "d,sectsz=8192,sectorsize=512/4096",
            &["nvme: sectsz=8192 wins over the logical size of sectorsize=512/4096"],
            Config { sectsz: Some(8192), sectorsize: Some((8192, Some(8192))), ..defaults() },
        ),
    ];
    for (opts, warnings, expected) in table {
        let (config, given) = parse(opts).unwrap();
        assert_eq!(given, warnings, "{opts}");
        assert_eq!(config, expected, "{opts}");
    }
}

#[test]
fn sector_sizes_over_a_store() {
    // Options, the store's own logical and physical size, what the guest sees.
    for (opts, store, expected) in [
        ("d", (512, 512), Ok((512, 512))),
        ("d", (512, 16384), Ok((512, 16384))),
        ("d", (4096, 4096), Ok((4096, 4096))),
        ("d,sectsz=512", (512, 16384), Ok((512, 16384))),
        ("d,sectsz=4096", (512, 512), Ok((4096, 4096))),
        ("d,sectsz=4096", (512, 16384), Ok((4096, 16384))),
        ("d,sectsz=8192", (4096, 4096), Ok((8192, 8192))),
        (
            "d,sectsz=512",
            (4096, 4096),
            Err("nvme: sectsz=512: must be at least 4096, the sector size of the store"),
        ),
        // A RAM disk takes any size, whatever its store says.
        ("ram=8", (512, 512), Ok((4096, 4096))),
        ("ram=8,sectsz=512", (512, 512), Ok((512, 512))),
        ("ram=8,sectsz=8192", (512, 512), Ok((8192, 8192))),
        ("ram=8,sectorsize=512", (512, 512), Ok((512, 512))),
        ("ram=8,sectorsize=512/4096", (512, 512), Ok((512, 4096))),
        ("ram=8,sectsz=512,sectorsize=4096", (512, 512), Ok((512, 4096))),
    ] {
        let (config, _) = parse(opts).unwrap();
        let sizes = config.sector_sizes(store.0, store.1).map_err(|error| error.to_string());
        assert_eq!(sizes, expected.map_err(str::to_string), "{opts} {store:?}");
    }
}

#[test]
fn a_path_may_look_like_an_option_that_nobody_knows() {
    assert_eq!(config("a=b").store, Store::Path(PathBuf::from("a=b")));
    assert_eq!(config("/vm/ram=8").store, Store::Path(PathBuf::from("/vm/ram=8")));
}

#[test]
fn identity_follows_name_and_address() {
    let at = Location { bus: 0, slot: 5, func: 1 };
    let node = Strings::new(b"d");
    let (config, _) = Config::parse(&node, at, "freebsd").unwrap();
    assert_eq!(config.eui64, [0x58, 0x9c, 0xfc, 0x20, 0x20, 0xa8, 0x00, 0x01]);
    assert_eq!(&config.ser, b"NVME-5-1            ");
    assert_eq!(config.subnqn(), "nqn.2013-12.org.freebsd:bhyve-freebsd-0-5-1");

    let (config, _) = Config::parse(&node, at, "").unwrap();
    assert_eq!(config.subnqn(), "nqn.2013-12.org.freebsd:bhyve-0-5-1");
    assert_ne!(config.eui64, [0x58, 0x9c, 0xfc, 0x20, 0x20, 0xa8, 0x00, 0x01]);

    let (config, _) = Config::parse(&node, at, &"v".repeat(300)).unwrap();
    assert_eq!(config.subnqn().len(), 223);
    assert_eq!(config.location.to_string(), "0:5:1");
}
