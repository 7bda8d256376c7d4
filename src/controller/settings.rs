// SPDX-License-Identifier: BSD-2-Clause

//! What a controller is made of, checked before it gets here.

/// How a guest tells this controller and its namespace from others.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Serial number: ASCII, space padded.
    pub serial: [u8; 20],
    /// EUI-64 of the namespace, in the order the guest reads its bytes.
    pub eui64: [u8; 8],
    /// NVMe qualified name of the subsystem, at most 223 bytes.
    pub subnqn: String,
}

/// The settings of one controller.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names the controller in the log and its threads: `slot:function`.
    pub name: String,
    /// I/O queue pairs, 1 to 64.
    pub queue_pairs: u16,
    /// Entries of the largest I/O queue, 2 to 65536.
    pub queue_entries: u32,
    /// Commands executing in the backend at once, 1 to 256.
    pub io_slots: u16,
    /// Bytes of a logical block: 512, 4096 or 8192.
    pub block_size: u32,
    /// Run small commands on the vCPU's thread even if the store may wait.
    pub inline: bool,
    /// Names and numbers.
    pub identity: Identity,
}
