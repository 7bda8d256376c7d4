// SPDX-License-Identifier: BSD-2-Clause

//! `devhost.h` and the parts of `config.h` and `pci_emul.h` that a program
//! calls.

use std::ffi::{c_char, c_int, c_void};

/// A virtual machine; never looked into.
#[repr(C)]
pub(super) struct Vm {
    _private: [u8; 0],
}

/// A device instance; never looked into.
#[repr(C)]
pub(super) struct Instance {
    _private: [u8; 0],
}

/// A node of bhyve's configuration; never looked into.
#[repr(C)]
pub(super) struct Nvlist {
    _private: [u8; 0],
}

pub(super) const CFG_BYTES: usize = 256;

pub(super) const BAR_MEM32: c_int = 1;
pub(super) const BAR_MEM64: c_int = 2;

pub(super) type MapFn = extern "C" fn(*mut c_void, u64, usize) -> *mut c_void;
pub(super) type MsiFn = extern "C" fn(*mut c_void, u64, u32);
pub(super) type LogFn = extern "C" fn(*const c_char);
pub(super) type InitFn = extern "C" fn(*mut c_void, *mut Instance, *mut Nvlist) -> c_int;

unsafe extern "C" {
    pub(super) fn devhost_vm_open(arg: *mut c_void, map: MapFn, msi: MsiFn) -> *mut Vm;
    pub(super) fn devhost_vm_close(vm: *mut Vm);
    pub(super) fn devhost_log_set(sink: Option<LogFn>);
    pub(super) fn devhost_init_by(
        vm: *mut Vm,
        init: Option<InitFn>,
        arg: *mut c_void,
    ) -> *mut Instance;
    pub(super) fn devhost_teardown(pi: *mut Instance) -> c_int;
    pub(super) fn devhost_bar_read(pi: *mut Instance, bar: c_int, offset: u64, size: c_int) -> u64;
    pub(super) fn devhost_bar_write(
        pi: *mut Instance,
        bar: c_int,
        offset: u64,
        size: c_int,
        value: u64,
    );
    pub(super) fn devhost_bar_info(pi: *const Instance, bar: c_int, size: *mut u64) -> c_int;
    pub(super) fn devhost_cfg_read(pi: *mut Instance, offset: c_int, bytes: c_int) -> u32;
    pub(super) fn devhost_cfg_write(pi: *mut Instance, offset: c_int, bytes: c_int, value: u32);
    pub(super) fn devhost_cfg_save(pi: *const Instance, saved: *mut u8);
    pub(super) fn devhost_cfg_restore(pi: *mut Instance, saved: *const u8);

    pub(super) fn init_config();
    pub(super) fn set_config_value(path: *const c_char, value: *const c_char);
    pub(super) fn pci_parse_slot(opt: *mut c_char) -> c_int;
}
