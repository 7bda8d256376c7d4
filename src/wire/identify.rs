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
}

/// Namespace Identifier Type: EUI-64.
pub const NIDT_EUI64: u8 = 0x01;

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

/// Places `bytes` at the start of an Identify data structure of zeroes.
pub fn page(bytes: &[u8]) -> [u8; DATA_SIZE] {
    let mut page = [0; DATA_SIZE];
    for (to, from) in page.iter_mut().zip(bytes) {
        *to = *from;
    }
    page
}
