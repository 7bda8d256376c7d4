// SPDX-License-Identifier: BSD-2-Clause

//! bhyve, as the C glue offers it (`bhyve-glue/host.h`).
//!
//! bhyve's structures change from release to release, so this side knows
//! nothing of them but their addresses.

use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::ptr::{self, NonNull};
use std::sync::Once;

use crate::config::{Location, Node};
use crate::host::Host;
use crate::memory::Segment;

/// bhyve's device instance; never looked into.
#[allow(non_camel_case_types)]
#[repr(C)]
pub struct pci_devinst {
    _private: [u8; 0],
}

/// A list of names and values of libnv; never looked into.
#[allow(non_camel_case_types)]
#[repr(C)]
pub struct nvlist {
    _private: [u8; 0],
}

// The levels of nvme_host_log(), as in syslog(3).
const LOG_ERROR: c_int = 3;
const LOG_WARNING: c_int = 4;
const LOG_INFO: c_int = 6;
const LOG_DEBUG: c_int = 7;

// The answers of nvme_host_cfg_classify().
const CFG_MSIX: c_int = 1;
const CFG_FLR: c_int = 2;

unsafe extern "C" {
    fn nvme_host_softc(pi: *const pci_devinst) -> *mut c_void;
    fn nvme_host_set_softc(pi: *mut pci_devinst, softc: *mut c_void);
    fn nvme_host_location(pi: *const pci_devinst, bus: *mut u8, slot: *mut u8, func: *mut u8);
    fn nvme_host_vm_name() -> *const c_char;
    fn nvme_host_config_value(nvl: *const nvlist, name: *const c_char) -> *const c_char;
    fn nvme_host_config_next(nvl: *const nvlist, cookie: *mut *mut c_void) -> *const c_char;
    fn nvme_host_config_set(nvl: *mut nvlist, name: *const c_char, value: *const c_char);
    fn nvme_host_config_parse(nvl: *mut nvlist, opts: *const c_char) -> c_int;
    fn nvme_host_pci_init(pi: *mut pci_devinst, vectors: u16) -> c_int;
    fn nvme_host_boot_device(pi: *mut pci_devinst, bootindex: c_int) -> c_int;
    fn nvme_host_cfg_classify(
        pi: *mut pci_devinst,
        offset: c_int,
        bytes: c_int,
        value: u32,
    ) -> c_int;
    fn nvme_host_cfg_write_msix(pi: *mut pci_devinst, offset: c_int, bytes: c_int, value: u32);
    fn nvme_host_cfg_write_flr(pi: *mut pci_devinst, offset: c_int, bytes: c_int, value: u32);
    fn nvme_host_map(pi: *mut pci_devinst, gpa: u64, len: usize) -> *mut c_void;
    fn nvme_host_msix_deliverable(pi: *const pci_devinst, vector: u16) -> bool;
    fn nvme_host_msix_raise(pi: *mut pci_devinst, vector: u16);
    fn nvme_host_msix_write(pi: *mut pci_devinst, offset: u64, size: c_int, value: u64);
    fn nvme_host_msix_read(pi: *mut pci_devinst, offset: u64, size: c_int) -> u64;
    fn nvme_host_log(level: c_int, line: *const c_char);
}

/// bhyve refused what was asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// What a write to configuration space touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CfgWrite {
    /// Nothing that concerns the device: bhyve handles it alone.
    Other,
    /// The MSI-X capability: [`Instance::cfg_write_msix`] carries it out.
    Msix,
    /// Initiate Function Level Reset is set: [`Instance::cfg_write_flr`]
    /// carries it out.
    Flr,
}

/// One device instance of bhyve's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance(NonNull<pci_devinst>);

// SAFETY: bhyve keeps an instance until the process ends, and the glue's
// functions may be called from any thread.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

impl Instance {
    /// The instance at `pi`; `None` for a null pointer.
    ///
    /// # Safety
    /// `pi` is null, or an instance that bhyve keeps for as long as this value
    /// or a copy of it is used.
    pub unsafe fn new(pi: *mut pci_devinst) -> Option<Instance> {
        NonNull::new(pi).map(Instance)
    }

    /// The library's own pointer; `None` before [`Instance::set_softc`].
    pub fn softc(self) -> Option<NonNull<c_void>> {
        // SAFETY: the instance lives (see `new`).
        NonNull::new(unsafe { nvme_host_softc(self.0.as_ptr()) })
    }

    /// Keeps the library's own pointer in the instance, or takes it out.
    pub fn set_softc(self, softc: Option<NonNull<c_void>>) {
        let softc = softc.map_or(ptr::null_mut(), NonNull::as_ptr);
        // SAFETY: the instance lives; the glue only stores the pointer.
        unsafe { nvme_host_set_softc(self.0.as_ptr(), softc) }
    }

    /// The function's PCI address.
    pub fn location(self) -> Location {
        let mut at = Location { bus: 0, slot: 0, func: 0 };
        // SAFETY: the instance lives; the three bytes are ours.
        unsafe {
            nvme_host_location(self.0.as_ptr(), &mut at.bus, &mut at.slot, &mut at.func);
        }
        at
    }

    /// Fills configuration space, with BAR0, `vectors` MSI-X vectors (1 to
    /// 2048) in BAR4 and the PCI Express capability.
    pub fn pci_init(self, vectors: u16) -> Result<(), Refused> {
        // SAFETY: the instance lives.
        match unsafe { nvme_host_pci_init(self.0.as_ptr(), vectors) } {
            0 => Ok(()),
            _ => Err(Refused),
        }
    }

    /// Puts the device at `bootindex` of the firmware's boot order; refused
    /// where bhyve has none or the index is taken.
    pub fn boot_device(self, bootindex: i32) -> Result<(), Refused> {
        // SAFETY: the instance lives.
        match unsafe { nvme_host_boot_device(self.0.as_ptr(), bootindex) } {
            0 => Ok(()),
            _ => Err(Refused),
        }
    }

    /// What a write of `bytes` bytes (1, 2 or 4) of configuration space at
    /// `offset` touches.
    pub fn cfg_classify(self, offset: c_int, bytes: c_int, value: u32) -> CfgWrite {
        // SAFETY: the instance lives; the glue checks the other arguments.
        match unsafe { nvme_host_cfg_classify(self.0.as_ptr(), offset, bytes, value) } {
            CFG_MSIX => CfgWrite::Msix,
            CFG_FLR => CfgWrite::Flr,
            _ => CfgWrite::Other,
        }
    }

    /// Carries out a write that is [`CfgWrite::Msix`].
    pub fn cfg_write_msix(self, offset: c_int, bytes: c_int, value: u32) {
        // SAFETY: the instance lives; the write is inside a capability.
        unsafe { nvme_host_cfg_write_msix(self.0.as_ptr(), offset, bytes, value) }
    }

    /// Carries out a write that is [`CfgWrite::Flr`]: MSI-X is as at power-on
    /// afterwards, and the reset bit reads 0.
    pub fn cfg_write_flr(self, offset: c_int, bytes: c_int, value: u32) {
        // SAFETY: the instance lives; the write is inside a capability.
        unsafe { nvme_host_cfg_write_flr(self.0.as_ptr(), offset, bytes, value) }
    }
}

/// A [`Host`] over one device instance.
#[derive(Clone, Copy, Debug)]
pub struct BhyveHost(Instance);

impl BhyveHost {
    /// The host around `instance`.
    pub fn new(instance: Instance) -> BhyveHost {
        BhyveHost(instance)
    }

    fn pi(&self) -> *mut pci_devinst {
        self.0.0.as_ptr()
    }
}

impl Host for BhyveHost {
    fn map(&self, address: u64, len: usize) -> Option<Segment> {
        // SAFETY: the instance lives.
        let base = unsafe { nvme_host_map(self.pi(), address, len) };
        let base = NonNull::new(base.cast::<u8>())?;
        // SAFETY: bhyve vouches for `len` bytes of guest RAM at `base`, which
        // it maps before any device exists and until the process ends; no
        // Rust reference to them is ever made.
        Some(unsafe { Segment::new(base, len) })
    }

    fn msix_deliverable(&self, vector: u16) -> bool {
        // SAFETY: the instance lives.
        unsafe { nvme_host_msix_deliverable(self.pi(), vector) }
    }

    fn msix_raise(&self, vector: u16) {
        // SAFETY: the instance lives; an unknown vector is ignored.
        unsafe { nvme_host_msix_raise(self.pi(), vector) }
    }

    fn msix_table_write(&self, offset: u64, size: usize, value: u64) {
        let Ok(size) = c_int::try_from(size) else { return };
        // SAFETY: the instance lives; bhyve checks offset and size.
        unsafe { nvme_host_msix_write(self.pi(), offset, size, value) }
    }

    fn msix_table_read(&self, offset: u64, size: usize) -> u64 {
        let Ok(size) = c_int::try_from(size) else { return u64::MAX };
        // SAFETY: the instance lives; bhyve checks offset and size.
        unsafe { nvme_host_msix_read(self.pi(), offset, size) }
    }
}

/// The configuration node of one device. Only to be used by bhyve's main
/// thread, before the guest runs: bhyve's configuration has no locks.
#[derive(Debug)]
pub struct ConfigNode(NonNull<nvlist>);

impl ConfigNode {
    /// The node at `nvl`; `None` for a null pointer.
    ///
    /// # Safety
    /// `nvl` is null, or a node that lives for as long as this value, and no
    /// other thread uses bhyve's configuration meanwhile.
    pub unsafe fn new(nvl: *mut nvlist) -> Option<ConfigNode> {
        NonNull::new(nvl).map(ConfigNode)
    }

    /// Sets `name` to `value`; refused where one of them holds a NUL.
    pub fn set(&self, name: &str, value: &[u8]) -> Result<(), Refused> {
        let name = CString::new(name).map_err(|_| Refused)?;
        let value = CString::new(value).map_err(|_| Refused)?;
        // SAFETY: the node lives; both strings are copied by bhyve.
        unsafe { nvme_host_config_set(self.0.as_ptr(), name.as_ptr(), value.as_ptr()) };
        Ok(())
    }

    /// Sets each of the comma-separated `name=value` or `name` (= true).
    pub fn parse(&self, opts: &[u8]) -> Result<(), Refused> {
        let opts = CString::new(opts).map_err(|_| Refused)?;
        // SAFETY: the node lives; the string is copied by bhyve.
        match unsafe { nvme_host_config_parse(self.0.as_ptr(), opts.as_ptr()) } {
            0 => Ok(()),
            _ => Err(Refused),
        }
    }
}

impl Node for ConfigNode {
    fn value(&self, name: &str) -> Option<OsString> {
        let name = CString::new(name).ok()?;
        // SAFETY: the node lives.
        let value = unsafe { nvme_host_config_value(self.0.as_ptr(), name.as_ptr()) };
        // SAFETY: copied at once, before the next call can overwrite it.
        unsafe { owned(value) }
    }

    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut cookie = ptr::null_mut();
        loop {
            // SAFETY: the node lives, and nothing changes it meanwhile.
            let name = unsafe { nvme_host_config_next(self.0.as_ptr(), &mut cookie) };
            // SAFETY: the name is the node's own, copied at once.
            match unsafe { owned(name) } {
                Some(name) => names.push(name.to_string_lossy().into_owned()),
                None => return names,
            }
        }
    }
}

/// The virtual machine's name; `None` if it has none. To be called under the
/// rules of [`ConfigNode`].
pub fn vm_name() -> Option<String> {
    // SAFETY: no arguments; bhyve's main thread is the caller.
    let name = unsafe { nvme_host_vm_name() };
    // SAFETY: copied at once, before the next call can overwrite it.
    unsafe { owned(name) }.map(|name| name.to_string_lossy().into_owned())
}

/// A copy of a C string of bhyve's; `None` for a null pointer.
///
/// # Safety
/// `text` is null or a C string that stays as it is during the call.
unsafe fn owned(text: *const c_char) -> Option<OsString> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, and a C string by the caller's word.
    let text = unsafe { CStr::from_ptr(text) };
    Some(OsStr::from_bytes(text.to_bytes()).to_owned())
}

/// Every line of the library names the device type first, as bhyve's own do.
const PREFIX: &str = "nvme: ";

struct Log;

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            write_line(record.level(), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Prints one line for the operator, without going through the `log` crate.
fn write_line(level: log::Level, text: &str) {
    let level = match level {
        log::Level::Error => LOG_ERROR,
        log::Level::Warn => LOG_WARNING,
        log::Level::Info => LOG_INFO,
        log::Level::Debug | log::Level::Trace => LOG_DEBUG,
    };
    let line = one_line(text);
    // SAFETY: a C string that lives over the call.
    unsafe { nvme_host_log(level, line.as_ptr()) }
}

/// `text` with the prefix, as one printable line: what a guest or a file name
/// brought along must not forge a second line or move the terminal's cursor.
fn one_line(text: &str) -> CString {
    let text = if text.starts_with(PREFIX) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("{PREFIX}{text}"))
    };
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    CString::new(clean).unwrap_or_default()
}

/// Sends the library's log lines to bhyve's standard error, up to `level`. The
/// first call in a process decides; in a program that has a logger already,
/// that one stays.
pub fn install_log(level: log::LevelFilter) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        if log::set_logger(&Log).is_ok() {
            log::set_max_level(level);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_get_the_prefix_once() {
        assert_eq!(one_line("no disk").to_str(), Ok("nvme: no disk"));
        assert_eq!(one_line("nvme: no disk").to_str(), Ok("nvme: no disk"));
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(one_line("a\nnvme: b\r\0\u{1b}[2Jc").to_str(), Ok("nvme: a nvme: b   [2Jc"));
    }
}
