// SPDX-License-Identifier: BSD-2-Clause

//! Compiles bhyve's stand-in and the very glue that bhyve is built with.

use std::env;
use std::path::PathBuf;

const STANDIN: [&str; 5] = ["config.c", "machine.c", "pci_emul.c", "pci_msix.c", "pci_slot.c"];

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = here.join("../..");
    let standin = here.join("bhyve");
    let glue = root.join("bhyve-glue");
    let headers = root.join("include");

    cc::Build::new()
        .std("gnu99")
        .warnings(true)
        .extra_warnings(true)
        .define("GLUE_TEARDOWN", None)
        .include(standin.join("include/current"))
        .include(standin.join("include/common"))
        .include(&standin)
        .include(&glue)
        .include(&headers)
        .files(STANDIN.map(|file| standin.join(file)))
        .file(glue.join("pci_nvme_glue.c"))
        .cargo_metadata(false)
        .compile("devhost_bhyve");

    // Whole: nothing refers to the object that holds the linker set's entry.
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    println!("cargo::rustc-link-search=native={}", out.display());
    println!("cargo::rustc-link-lib=static:+whole-archive=devhost_bhyve");

    for changed in [&standin, &glue, &headers] {
        println!("cargo::rerun-if-changed={}", changed.display());
    }
}
