// SPDX-License-Identifier: BSD-2-Clause

//! `include/bhyve_nvme.h` is what `src/abi.rs` says.
//!
//! `make header` runs this with `BHYVE_NVME_UPDATE_HEADER` set, and the header
//! is written anew instead of compared.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What bhyve and the glue call.
const EXPORTS: [&str; 6] = [
    "pci_nvme_cfgwrite",
    "pci_nvme_init",
    "pci_nvme_legacy_config",
    "pci_nvme_read",
    "pci_nvme_teardown",
    "pci_nvme_write",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn header_path() -> PathBuf {
    root().join("include/bhyve_nvme.h")
}

fn generate(root: &Path) -> String {
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(root.join("src/abi.rs"))
        .generate()
        .expect("src/abi.rs is not understood");
    let mut text = Vec::new();
    bindings.write(&mut text);
    let text = String::from_utf8(text).expect("the header is not UTF-8");
    // Comments as style(9) has them, which cbindgen does not offer.
    text.replace("/**\n", "/*\n").replace(" * # Safety\n", " * Safety:\n")
}

/// The names of the functions that a header declares.
fn functions(header: &str) -> BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    header
        .match_indices('(')
        .filter_map(|(at, _)| header[..at].rsplit(|c| !is_name(c)).next())
        .filter(|name| name.starts_with("pci_nvme_"))
        .collect()
}

#[test]
fn the_header_is_what_the_library_exports() {
    let made = generate(&root());
    if std::env::var_os("BHYVE_NVME_UPDATE_HEADER").is_some() {
        std::fs::write(header_path(), &made).expect("include/bhyve_nvme.h cannot be written");
    }
    let kept = std::fs::read_to_string(header_path()).expect("include/bhyve_nvme.h");
    for (at, (kept, made)) in kept.lines().zip(made.lines()).enumerate() {
        assert_eq!(kept, made, "line {} of include/bhyve_nvme.h: run make header", at + 1);
    }
    assert_eq!(kept.len(), made.len(), "include/bhyve_nvme.h: run make header");
}

#[test]
fn the_header_declares_these_functions_and_no_others() {
    let made = generate(&root());
    let code: String =
        made.split("/*").map(|part| part.split_once("*/").map_or(part, |(_, code)| code)).collect();
    assert_eq!(functions(&code), BTreeSet::from(EXPORTS));
}
