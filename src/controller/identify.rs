// SPDX-License-Identifier: BSD-2-Clause

//! Identify (section 5.15).

use super::thread::ControllerThread;
use crate::wire::command::Command;
use crate::wire::identify::{Controller, DATA_SIZE, NIDT_EUI64, Namespace, cns, page};
use crate::wire::register::VERSION;
use crate::wire::status::Status;
use crate::wire::{NSID, feature};
use zerocopy::IntoBytes;

/// Model number, as the in-tree device has it: guests may know the disk by it.
const MODEL: &str = "bhyve-NVMe";

/// Firmware revision, reported here and in the Firmware Slot log.
pub(super) const FIRMWARE_REVISION: [u8; 8] = *b"1.0     ";

/// PCI vendor identifier of bhyve's device.
const VENDOR: u16 = 0xfb5d;

/// 58-9C-FC, the FreeBSD Foundation's OUI, least significant byte first.
const FREEBSD_OUI: [u8; 3] = [0xfc, 0x9c, 0x58];

/// WCTEMP and CCTEMP, in kelvins. The first must not be zero from NVMe 1.2 on;
/// 0157h is what the specification recommends.
const WARNING_TEMPERATURE: u16 = 0x0157;

/// MDTS: 2 MiB, in pages as a power of two.
const MDTS: u8 = 9;

/// LPA: Get Log Page takes an offset and a 32-bit length.
const LPA_EXTENDED_DATA: u8 = 1 << 2;

/// ONCS: Save and Select are supported in Set and Get Features.
const ONCS_SAVE_AND_SELECT: u16 = 1 << 4;

/// FRMW: one slot, which is read-only.
const FRMW_ONE_READ_ONLY_SLOT: u8 = 1 << 1 | 1;

/// VWC: a Flush for all namespaces (NSID FFFFFFFFh) is supported.
const VWC_FLUSH_ALL: u8 = 0b11 << 1;
/// VWC: there is a volatile write cache.
const VWC_PRESENT: u8 = 1;

/// NSATTR: the namespace is write protected.
const NSATTR_WRITE_PROTECTED: u8 = 1;

impl ControllerThread {
    pub(super) fn identify(&mut self, command: &Command) -> Result<(), Status> {
        let nsid = command.nsid.get();
        let data = match (command.cdw10.get() & 0xff) as u8 {
            cns::NAMESPACE => self.identify_namespace(active(nsid)?),
            cns::CONTROLLER => self.identify_controller(),
            cns::ACTIVE_NAMESPACES => active_namespaces(nsid)?,
            cns::NAMESPACE_DESCRIPTORS => self.namespace_descriptors(active(nsid)?),
            _ => return Err(Status::INVALID_FIELD.do_not_retry()),
        };
        self.transfer(command, &data)
    }

    fn identify_controller(&self) -> [u8; DATA_SIZE] {
        let settings = &self.shared.settings;
        let mut data = Controller::zeroed();
        data.vid = VENDOR.into();
        data.sn = settings.identity.serial;
        data.mn = padded(MODEL);
        data.fr = FIRMWARE_REVISION;
        data.rab = 4;
        data.ieee = FREEBSD_OUI;
        data.mdts = MDTS;
        data.ver = VERSION.into();
        data.cntrltype = 1; // I/O controller
        data.acl_z = 2;
        data.aerl_z = super::events::AERL_Z;
        data.frmw = FRMW_ONE_READ_ONLY_SLOT;
        data.lpa = LPA_EXTENDED_DATA;
        data.elpe_z = super::logs::ERROR_ENTRIES_Z;
        data.wctemp = WARNING_TEMPERATURE.into();
        data.cctemp = WARNING_TEMPERATURE.into();
        data.sqes = 6 << 4 | 6;
        data.cqes = 4 << 4 | 4;
        data.nn = NSID.into();
        data.oncs = ONCS_SAVE_AND_SELECT.into();
        data.vwc = VWC_FLUSH_ALL;
        if self.supports(feature::VOLATILE_WRITE_CACHE) {
            data.vwc |= VWC_PRESENT;
        }
        for (to, from) in data.subnqn.iter_mut().zip(settings.identity.subnqn.bytes()) {
            *to = from;
        }
        page(data.as_bytes())
    }

    fn identify_namespace(&self, _nsid: u32) -> [u8; DATA_SIZE] {
        let nvm = self.shared.engine.executor();
        let mut data = Namespace::zeroed();
        data.nsze = nvm.blocks().into();
        data.ncap = nvm.blocks().into();
        data.nuse = nvm.blocks().into();
        data.eui64 = self.shared.settings.identity.eui64;
        if nvm.backend().geometry().read_only {
            data.nsattr = NSATTR_WRITE_PROTECTED;
        }
        let [format, ..] = &mut data.lbaf;
        *format = (nvm.block_shift() << 16).into();
        page(data.as_bytes())
    }

    fn namespace_descriptors(&self, _nsid: u32) -> [u8; DATA_SIZE] {
        let [a, b, c, d, e, f, g, h] = self.shared.settings.identity.eui64;
        page(&[NIDT_EUI64, 8, 0, 0, a, b, c, d, e, f, g, h])
    }
}

/// `nsid` if it is the active namespace. The one that stands for all has no
/// data of its own: there is no namespace management.
fn active(nsid: u32) -> Result<u32, Status> {
    if nsid == NSID { Ok(nsid) } else { Err(Status::INVALID_NAMESPACE.do_not_retry()) }
}

/// The active namespaces above `after`.
fn active_namespaces(after: u32) -> Result<[u8; DATA_SIZE], Status> {
    if after >= 0xffff_fffe {
        return Err(Status::INVALID_NAMESPACE.do_not_retry());
    }
    Ok(if after < NSID { page(&NSID.to_le_bytes()) } else { page(&[]) })
}

/// `text` as an ASCII field, padded with spaces.
fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [b' '; N];
    for (to, from) in field.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    field
}
