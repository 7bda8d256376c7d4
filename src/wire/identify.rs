// SPDX-License-Identifier: BSD-2-Clause

//! Identify data structures (section 5.15).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Bytes of every Identify data structure.
pub const DATA_SIZE: usize = 4096;

/// Controller or Namespace Structure (CNS).
pub mod cns {
    /// Identify Namespace.
    pub const NAMESPACE: u8 = 0x00;
    /// Identify Controller.
    pub const CONTROLLER: u8 = 0x01;
    /// Active Namespace ID list.
    pub const ACTIVE_NAMESPACES: u8 = 0x02;
    /// Namespace Identification Descriptor list.
    pub const NAMESPACE_DESCRIPTORS: u8 = 0x03;
    /// Identify Namespace of one I/O command set.
    pub const COMMAND_SET_NAMESPACE: u8 = 0x05;
    /// Identify Controller of one I/O command set.
    pub const COMMAND_SET_CONTROLLER: u8 = 0x06;
    /// Active Namespace ID list of one I/O command set.
    pub const COMMAND_SET_ACTIVE_NAMESPACES: u8 = 0x07;
    /// I/O command set independent Identify Namespace.
    pub const INDEPENDENT_NAMESPACE: u8 = 0x08;
    /// Allocated Namespace ID list.
    pub const ALLOCATED_NAMESPACES: u8 = 0x10;
    /// Identify Namespace of an allocated namespace.
    pub const ALLOCATED_NAMESPACE: u8 = 0x11;
    /// Controllers that a namespace is attached to.
    pub const ATTACHED_CONTROLLERS: u8 = 0x12;
    /// Controllers of the NVM subsystem.
    pub const CONTROLLERS: u8 = 0x13;
    /// I/O Command Set data structure.
    pub const COMMAND_SETS: u8 = 0x1c;
}

/// Namespace Identifier Types.
pub mod nidt {
    /// EUI-64.
    pub const EUI64: u8 = 0x01;
    /// NGUID.
    pub const NGUID: u8 = 0x02;
    /// UUID.
    pub const UUID: u8 = 0x03;
}

/// Command Set Identifier (CSI) of the NVM command set.
pub const CSI_NVM: u8 = 0;

/// Identify Controller (figure 251), without the power state descriptors and
/// what follows them.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of the specification's figure")]
pub struct Controller {
    pub vid: U16,
    pub ssvid: U16,
    /// Serial number, ASCII, space padded.
    pub sn: [u8; 20],
    /// Model number, ASCII, space padded.
    pub mn: [u8; 40],
    /// Firmware revision, ASCII, space padded.
    pub fr: [u8; 8],
    pub rab: u8,
    /// OUI, least significant byte first.
    pub ieee: [u8; 3],
    pub cmic: u8,
    /// Maximum data transfer size, as a power of two of pages.
    pub mdts: u8,
    pub cntlid: U16,
    pub ver: U32,
    pub rtd3r: U32,
    pub rtd3e: U32,
    pub oaes: U32,
    pub ctratt: U32,
    pub rrls: U16,
    pub reserved0: [u8; 9],
    pub cntrltype: u8,
    pub fguid: [u8; 16],
    pub crdt: [U16; 3],
    pub reserved1: [u8; 122],
    pub oacs: U16,
    pub acl_z: u8,
    pub aerl_z: u8,
    pub frmw: u8,
    pub lpa: u8,
    pub elpe_z: u8,
    pub npss_z: u8,
    pub avscc: u8,
    pub apsta: u8,
    pub wctemp: U16,
    pub cctemp: U16,
    pub mtfa: U16,
    pub hmpre: U32,
    pub hmmin: U32,
    pub tnvmcap: [U64; 2],
    pub unvmcap: [U64; 2],
    pub rpmbs: U32,
    pub edstt: U16,
    pub dsto: u8,
    pub fwug: u8,
    pub kas: U16,
    pub hctma: U16,
    pub mntmt: U16,
    pub mxtmt: U16,
    pub sanicap: U32,
    pub hmminds: U32,
    pub hmmaxd: U16,
    pub nsetidmax: U16,
    pub endgidmax: U16,
    pub anatt: u8,
    pub anacap: u8,
    pub anagrpmax: U32,
    pub nanagrpid: U32,
    pub pels: U32,
    pub reserved2: [u8; 156],
    pub sqes: u8,
    pub cqes: u8,
    pub maxcmd: U16,
    pub nn: U32,
    pub oncs: U16,
    pub fuses: U16,
    pub fna: u8,
    pub vwc: u8,
    pub awun_z: U16,
    pub awupf_z: U16,
    pub nvscc: u8,
    pub nwpc: u8,
    pub acwu: U16,
    pub reserved3: [u8; 2],
    pub sgls: U32,
    pub mnan: U32,
    pub reserved4: [u8; 224],
    /// NVM subsystem NVMe qualified name, UTF-8, ended by a zero byte.
    pub subnqn: [u8; 256],
    pub reserved5: [u8; 1024],
}

const _: () = assert!(size_of::<Controller>() == 2048);

impl Controller {
    /// A structure of zeroes.
    pub fn zeroed() -> Controller {
        Controller::new_zeroed()
    }
}

/// ONCS of [`Controller`]: the optional commands of the NVM command set.
pub mod oncs {
    /// Compare.
    pub const COMPARE: u16 = 1 << 0;
    /// Dataset Management.
    pub const DATASET_MANAGEMENT: u16 = 1 << 2;
    /// Write Zeroes.
    pub const WRITE_ZEROES: u16 = 1 << 3;
    /// Save and Select in Set and Get Features.
    pub const SAVE_AND_SELECT: u16 = 1 << 4;
    /// The Timestamp feature.
    pub const TIMESTAMP: u16 = 1 << 6;
    /// Verify.
    pub const VERIFY: u16 = 1 << 7;
}

/// FUSES of [`Controller`]: Compare and Write.
pub const FUSES_COMPARE_AND_WRITE: u16 = 1;

/// NSFEAT of [`Namespace`]: NPWG, NPWA, NPDG, NPDA and NOWS are set.
pub const NSFEAT_IO_OPTIMIZATION: u8 = 1 << 4;

/// DLFEAT of [`Namespace`].
pub mod dlfeat {
    /// Deallocated blocks read as zeroes.
    pub const READS_ZEROES: u8 = 0b001;
    /// Write Zeroes takes the Deallocate bit.
    pub const WRITE_ZEROES_DEALLOCATES: u8 = 1 << 3;
}

/// Identify Namespace (figure 249), without the vendor specific part.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of the specification's figure")]
pub struct Namespace {
    pub nsze: U64,
    pub ncap: U64,
    pub nuse: U64,
    pub nsfeat: u8,
    pub nlbaf_z: u8,
    pub flbas: u8,
    pub mc: u8,
    pub dpc: u8,
    pub dps: u8,
    pub nmic: u8,
    pub rescap: u8,
    pub fpi: u8,
    pub dlfeat: u8,
    pub nawun_z: U16,
    pub nawupf_z: U16,
    pub nacwu_z: U16,
    pub nabsn_z: U16,
    pub nabo: U16,
    pub nabspf_z: U16,
    pub noiob: U16,
    pub nvmcap: [U64; 2],
    pub npwg_z: U16,
    pub npwa_z: U16,
    pub npdg_z: U16,
    pub npda_z: U16,
    pub nows_z: U16,
    pub reserved0: [u8; 18],
    pub anagrpid: U32,
    pub reserved1: [u8; 3],
    pub nsattr: u8,
    pub nvmsetid: U16,
    pub endgid: U16,
    pub nguid: [u8; 16],
    pub eui64: [u8; 8],
    /// LBA formats: metadata size, data size as a power of two (bits 23:16),
    /// relative performance.
    pub lbaf: [U32; 16],
    pub reserved2: [u8; 192],
}

const _: () = assert!(size_of::<Namespace>() == 384);

impl Namespace {
    /// A structure of zeroes.
    pub fn zeroed() -> Namespace {
        Namespace::new_zeroed()
    }
}

/// Identify Controller for the NVM command set (NVM Command Set 4.1.5.3),
/// without what is reserved at its end. A limit of zero is none beside those
/// of the command's own fields.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of the specification's figure")]
pub struct NvmController {
    /// Verify Size Limit, as a power of two of pages.
    pub vsl: u8,
    /// Write Zeroes Size Limit, as a power of two of pages.
    pub wzsl: u8,
    /// Write Uncorrectable Size Limit, as a power of two of pages.
    pub wusl: u8,
    /// Dataset Management Ranges Limit.
    pub dmrl: u8,
    /// Dataset Management Range Size Limit, in logical blocks.
    pub dmrsl: U32,
    /// Dataset Management Size Limit, in logical blocks.
    pub dmsl: U64,
}

const _: () = assert!(size_of::<NvmController>() == 16);

impl NvmController {
    /// A structure of zeroes.
    pub fn zeroed() -> NvmController {
        NvmController::new_zeroed()
    }
}

/// I/O command set independent Identify Namespace (figure 280 of revision 2.0),
/// without what is reserved at its end.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of the specification's figure")]
pub struct IndependentNamespace {
    pub nsfeat: u8,
    pub nmic: u8,
    pub rescap: u8,
    pub fpi: u8,
    pub anagrpid: U32,
    pub nsattr: u8,
    pub reserved0: u8,
    pub nvmsetid: U16,
    pub endgid: U16,
    pub nstat: u8,
    pub reserved1: u8,
}

const _: () = assert!(size_of::<IndependentNamespace>() == 16);

impl IndependentNamespace {
    /// NSTAT: the namespace is ready. Linux does not touch one that is not.
    pub const READY: u8 = 1;

    /// A structure of zeroes.
    pub fn zeroed() -> IndependentNamespace {
        IndependentNamespace::new_zeroed()
    }
}

/// Places `bytes` at the start of an Identify data structure of zeroes.
pub fn page(bytes: &[u8]) -> [u8; DATA_SIZE] {
    let mut page = [0; DATA_SIZE];
    for (to, from) in page.iter_mut().zip(bytes) {
        *to = *from;
    }
    page
}
