// SPDX-License-Identifier: BSD-2-Clause

//! Identify (section 5.15).

use super::thread::ControllerThread;
use crate::wire::command::Command;
use crate::wire::identify::{
    CSI_NVM, Controller, DATA_SIZE, IndependentNamespace, Namespace, NvmController, cns, nidt,
    oncs, page,
};
use crate::wire::register::VERSION;
use crate::wire::status::Status;
use crate::wire::{NSID, NSID_ALL, feature};
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
pub(super) const WARNING_TEMPERATURE: u16 = 0x0157;

/// MDTS: 2 MiB, in pages as a power of two.
const MDTS: u8 = 9;

/// The identifier of the one controller.
const CONTROLLER_ID: u16 = 0;

/// CTRATT: 128-bit host identifiers.
const CTRATT_LONG_HOST_ID: u32 = 1;

/// OAES: namespace attribute notices.
const OAES_NAMESPACE_NOTICES: u32 = feature::NAMESPACE_ATTRIBUTE_NOTICES;

/// OACS: Format NVM.
const OACS_FORMAT: u16 = 1 << 1;

/// OACS: Doorbell Buffer Config.
const OACS_DOORBELL_BUFFER: u16 = 1 << 8;

/// LPA: the SMART log by namespace, the Commands Supported and Effects log, an
/// offset and a 32-bit length, and the logs 00h, 12h and 13h.
const LPA: u8 = 1 << 5 | 1 << 2 | 1 << 1 | 1;

/// FRMW: one slot, which is read-only.
const FRMW_ONE_READ_ONLY_SLOT: u8 = 1 << 1 | 1;

/// VWC: a Flush for all namespaces (NSID FFFFFFFFh) is supported.
const VWC_FLUSH_ALL: u8 = 0b11 << 1;
/// VWC: there is a volatile write cache.
const VWC_PRESENT: u8 = 1;

/// NSATTR: the namespace is write protected.
const NSATTR_WRITE_PROTECTED: u8 = 1;

/// CNS 1Ch asks for this controller by this identifier too.
const THIS_CONTROLLER: u16 = 0xffff;

impl ControllerThread {
    pub(super) fn identify(&mut self, command: &Command) -> Result<(), Status> {
        let nsid = command.nsid.get();
        let cdw10 = command.cdw10.get();
        let controller = (cdw10 >> 16) as u16;
        let data = match (cdw10 & 0xff) as u8 {
            cns::NAMESPACE | cns::ALLOCATED_NAMESPACE => self.identify_namespace(active(nsid)?),
            cns::CONTROLLER => self.identify_controller(),
            cns::ACTIVE_NAMESPACES | cns::ALLOCATED_NAMESPACES => namespaces_above(nsid)?,
            cns::NAMESPACE_DESCRIPTORS => self.namespace_descriptors(active(nsid)?),
            cns::COMMAND_SET_NAMESPACE => {
                nvm_command_set(command)?;
                // No storage tags, no protection information: all zeroes.
                active(nsid).map(|_| page(&[]))?
            }
            cns::COMMAND_SET_CONTROLLER => {
                nvm_command_set(command)?;
                page(NvmController::zeroed().as_bytes())
            }
            cns::COMMAND_SET_ACTIVE_NAMESPACES => {
                nvm_command_set(command)?;
                namespaces_above(nsid)?
            }
            cns::INDEPENDENT_NAMESPACE => self.identify_independently(active(nsid)?),
            cns::ATTACHED_CONTROLLERS => active(nsid).map(|_| controllers_from(controller))?,
            cns::CONTROLLERS => controllers_from(controller),
            cns::COMMAND_SETS if matches!(controller, CONTROLLER_ID | THIS_CONTROLLER) => {
                // One combination: the NVM command set alone.
                page(&1u64.checked_shl(u32::from(CSI_NVM)).unwrap_or(0).to_le_bytes())
            }
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
        data.cntlid = CONTROLLER_ID.into();
        data.ver = VERSION.into();
        data.oaes = OAES_NAMESPACE_NOTICES.into();
        data.ctratt = CTRATT_LONG_HOST_ID.into();
        data.cntrltype = 1; // I/O controller
        let doorbell_buffer = if settings.dbbuf { OACS_DOORBELL_BUFFER } else { 0 };
        data.oacs = (OACS_FORMAT | doorbell_buffer).into();
        data.acl_z = 2;
        data.aerl_z = super::events::AERL_Z;
        data.frmw = FRMW_ONE_READ_ONLY_SLOT;
        data.lpa = LPA;
        data.elpe_z = super::logs::ERROR_ENTRIES_Z;
        data.wctemp = WARNING_TEMPERATURE.into();
        data.cctemp = WARNING_TEMPERATURE.into();
        data.kas = super::features::KEEP_ALIVE_GRANULARITY.into();
        data.sqes = 6 << 4 | 6;
        data.cqes = 4 << 4 | 4;
        data.nn = NSID.into();
        data.oncs = (oncs::SAVE_AND_SELECT | oncs::TIMESTAMP).into();
        self.shared.engine.executor().describe_controller(&mut data);
        data.vwc = VWC_FLUSH_ALL;
        if self.supports(feature::VOLATILE_WRITE_CACHE) {
            data.vwc |= VWC_PRESENT;
        }
        for (to, from) in data.subnqn.iter_mut().zip(settings.identity.subnqn.bytes()) {
            *to = from;
        }
        page(data.as_bytes())
    }

    /// AWUN and its like stay zero: a store promises to write one logical block
    /// as a whole, and no more.
    fn identify_namespace(&self, _nsid: u32) -> [u8; DATA_SIZE] {
        let nvm = self.shared.engine.executor();
        let bytes = nvm.blocks().checked_shl(nvm.block_shift()).unwrap_or(u64::MAX);
        let mut data = Namespace::zeroed();
        data.nsze = nvm.blocks().into();
        data.ncap = nvm.blocks().into();
        data.nuse = nvm.blocks().into();
        data.fpi = self.format_progress();
        data.nvmcap = [bytes.into(), 0.into()];
        data.nsattr = self.namespace_attributes();
        data.nguid = self.shared.settings.identity.nguid().unwrap_or_default();
        data.eui64 = self.shared.settings.identity.eui64;
        let [format, ..] = &mut data.lbaf;
        *format = (nvm.block_shift() << 16).into();
        nvm.describe_namespace(&mut data);
        page(data.as_bytes())
    }

    fn identify_independently(&self, _nsid: u32) -> [u8; DATA_SIZE] {
        // NSFEAT is not that of Identify Namespace: the bit that says there that
        // granularities are set says here that the medium rotates.
        let mut data = IndependentNamespace::zeroed();
        data.fpi = self.format_progress();
        data.nsattr = self.namespace_attributes();
        data.nstat = IndependentNamespace::READY;
        page(data.as_bytes())
    }

    fn namespace_attributes(&self) -> u8 {
        let read_only = self.shared.engine.executor().backend().geometry().read_only;
        if read_only { NSATTR_WRITE_PROTECTED } else { 0 }
    }

    fn namespace_descriptors(&self, _nsid: u32) -> [u8; DATA_SIZE] {
        let identity = &self.shared.settings.identity;
        let mut list = Vec::new();
        let mut push = |kind: u8, id: &[u8]| {
            list.extend([kind, u8::try_from(id.len()).unwrap_or(0), 0, 0]);
            list.extend(id);
        };
        push(nidt::EUI64, &identity.eui64);
        if let Some(nguid) = identity.nguid() {
            push(nidt::NGUID, &nguid);
        }
        if let Some(uuid) = identity.uuid() {
            push(nidt::UUID, &uuid);
        }
        page(&list)
    }
}

/// `nsid` if it is the active namespace. The one that stands for all has no
/// data of its own: there is no namespace management.
fn active(nsid: u32) -> Result<u32, Status> {
    if nsid == NSID { Ok(nsid) } else { Err(Status::INVALID_NAMESPACE.do_not_retry()) }
}

/// Whether the command asks for the NVM command set: there is no other.
fn nvm_command_set(command: &Command) -> Result<(), Status> {
    let csi = command.cdw11.get() >> 24;
    if csi == u32::from(CSI_NVM) { Ok(()) } else { Err(Status::INVALID_FIELD.do_not_retry()) }
}

/// The namespaces above `after`.
fn namespaces_above(after: u32) -> Result<[u8; DATA_SIZE], Status> {
    if after >= NSID_ALL.wrapping_sub(1) {
        return Err(Status::INVALID_NAMESPACE.do_not_retry());
    }
    Ok(if after < NSID { page(&NSID.to_le_bytes()) } else { page(&[]) })
}

/// The controllers from `first` on: their number, and then each.
fn controllers_from(first: u16) -> [u8; DATA_SIZE] {
    if first > CONTROLLER_ID {
        return page(&[]);
    }
    let ([a, b], [c, d]) = (1u16.to_le_bytes(), CONTROLLER_ID.to_le_bytes());
    page(&[a, b, c, d])
}

/// `text` as an ASCII field, padded with spaces.
fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [b' '; N];
    for (to, from) in field.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    field
}
