// SPDX-License-Identifier: BSD-2-Clause

//! What a guest may do, and how likely it is. Each action means something
//! in every state, so that a list stays one when parts of it are left out.

use proptest::collection::vec;
use proptest::prelude::*;

/// What the controller is made of.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub slots: u16,
    /// vCPUs run commands themselves.
    pub inline: bool,
    pub cached: bool,
    pub admin_sq: u32,
    pub admin_cq: u32,
    /// What every life begins with: entries of a submission queue, and of a
    /// completion queue unless it shares that of the one before.
    pub pairs: Vec<(u16, Option<u16>)>,
}

/// What is wrong with a command's data pointer or fields. One thing at a time,
/// so that there is one right answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    Nothing,
    Nsid(u32),
    /// Past the end: by one block, or by far.
    End,
    FarEnd,
    /// More than MDTS.
    TooLong,
    /// PRP1 with low bits.
    LowBits,
    NoMemory,
    Psdt(u8),
    SglType,
    SglShort,
    /// FUSE 3, or half of a fused operation.
    Fuse(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Read,
    Write,
    Compare {
        same: bool,
    },
    WriteZeroes {
        deallocate: bool,
    },
    Verify,
    Flush {
        all: bool,
    },
    Deallocate {
        hint: bool,
        ranges: u8,
        gap: u8,
    },
    /// Compare and Write; the halves may be of different blocks.
    Fused {
        same: bool,
        matching: bool,
    },
    Unknown(u8),
}

/// How the data lies in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Contiguous { offset: u16 },
    Scattered { offset: u16, list: u16 },
    Sgl,
    SglList { pieces: u8, bucket: bool },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Io {
    pub op: Op,
    pub lba: u16,
    pub blocks: u16,
    pub place: Place,
    pub fua: bool,
    pub wrong: Wrong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadCreate {
    Nothing,
    Id(u16),
    Size(u16),
    Address,
    NoMemory,
    Scattered,
    Vector,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// One of those in flight.
    InFlight(u8),
    Event(u8),
    Unknown(u16, u16),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bell {
    /// A queue's own doorbell, with a value that is too large.
    Value {
        queue: u8,
        head: bool,
        over: u16,
    },
    NoQueue {
        queue: u16,
        head: bool,
    },
    /// Writes that are no doorbell writes.
    Odd {
        queue: u8,
        size: u8,
        shift: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    Plain,
    /// Enabling fails first, by CC or by the admin queues.
    BadCc(u32),
    BadQueues,
    /// EN goes off, on and off again before anybody looks.
    Storm,
    Function,
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Io { sq: u8, commands: Vec<Io> },
    Poll { cq: u8, most: u8 },
    Drain,
    Hold,
    ReleaseOne,
    Release,
    Failing(bool),
    Scribble(u8),
    Bend { which: u8, spoil: Option<u8> },
    CreateCq { id: u8, size: u8, vector: u8, bad: BadCreate },
    CreateSq { id: u8, cq: u8, size: u8, bad: BadCreate },
    DeleteSq(u8),
    DeleteCq(u8),
    Identify { cns: u8, nsid: u32, controller: u16, csi: u8, wrong: Wrong },
    Log { page: u8, nsid: u32, offset: u64, dwords_z: u32, retain: bool },
    GetFeature { id: u8, select: u8, nsid: u32, cdw11: u32 },
    SetFeature { id: u8, nsid: u32, cdw11: u32, save: bool },
    Abort(Target),
    Event,
    Format { nsid: u32, cdw10: u32 },
    KeepAlive,
    Refused { opcode: u8, flags: u8 },
    Bell(Bell),
    Register { at: u16, size: u8, value: u64 },
    Reset(Again),
    Shutdown { abrupt: bool },
    Resize(u8),
}

pub(crate) fn shape() -> impl Strategy<Value = Shape> {
    let slots = prop_oneof![Just(1u16), Just(2), Just(8)];
    let inline = proptest::bool::weighted(0.25);
    let pair = (2u16..40, proptest::option::weighted(0.8, 2u16..40));
    (slots, inline, any::<bool>(), 4u32..12, 5u32..12, vec(pair, 0..5)).prop_map(
        |(slots, inline, cached, admin_sq, admin_cq, pairs)| Shape {
            slots,
            inline,
            cached,
            admin_sq,
            admin_cq,
            pairs,
        },
    )
}

fn nsid() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => Just(1u32), 4 => Just(0u32), 1 => Just(2u32),
        1 => Just(0xffff_fffeu32), 2 => Just(0xffff_ffffu32)
    ]
}

fn wrong() -> impl Strategy<Value = Wrong> {
    prop_oneof![
        40 => Just(Wrong::Nothing),
        1 => prop_oneof![Just(0u32), Just(2), Just(0xffff_fffe)].prop_map(Wrong::Nsid),
        1 => Just(Wrong::End),
        1 => Just(Wrong::FarEnd),
        1 => Just(Wrong::TooLong),
        1 => Just(Wrong::LowBits),
        1 => Just(Wrong::NoMemory),
        1 => (2u8..4).prop_map(Wrong::Psdt),
        1 => Just(Wrong::SglType),
        1 => Just(Wrong::SglShort),
        2 => (1u8..4).prop_map(Wrong::Fuse),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Read),
        6 => Just(Op::Write),
        2 => any::<bool>().prop_map(|same| Op::Compare { same }),
        2 => any::<bool>().prop_map(|deallocate| Op::WriteZeroes { deallocate }),
        1 => Just(Op::Verify),
        1 => any::<bool>().prop_map(|all| Op::Flush { all }),
        1 => (proptest::bool::weighted(0.2), any::<u8>(), 0u8..4)
            .prop_map(|(hint, ranges, gap)| Op::Deallocate { hint, ranges, gap }),
        2 => (any::<bool>(), proptest::bool::weighted(0.9))
            .prop_map(|(same, matching)| Op::Fused { same, matching }),
        1 => prop_oneof![Just(0x04u8), Just(0x0d), Just(0x19), Just(0x7f), Just(0xff)]
            .prop_map(Op::Unknown),
    ]
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        4 => (0u16..1024).prop_map(|words| Place::Contiguous { offset: words * 4 }),
        // A list may end with its page, or go on in the next.
        2 => (0u16..1024, prop_oneof![0u16..512, 500u16..512])
            .prop_map(|(words, slot)| Place::Scattered { offset: words * 4, list: slot * 8 }),
        2 => Just(Place::Sgl),
        2 => (1u8..6, any::<bool>()).prop_map(|(pieces, bucket)| Place::SglList { pieces, bucket }),
    ]
}

fn io() -> impl Strategy<Value = Io> {
    let lba = prop_oneof![8 => 0u16..40, 1 => 0u16..4096];
    let blocks = prop_oneof![20 => 1u16..24, 1 => 250u16..320];
    (op(), lba, blocks, place(), proptest::bool::weighted(0.15), wrong())
        .prop_map(|(op, lba, blocks, place, fua, wrong)| Io { op, lba, blocks, place, fua, wrong })
}

fn bad_create() -> impl Strategy<Value = BadCreate> {
    prop_oneof![
        12 => Just(BadCreate::Nothing),
        1 => prop_oneof![Just(0u16), Just(5), Just(0xffff)].prop_map(BadCreate::Id),
        1 => prop_oneof![Just(0u16), Just(64), Just(0xffff)].prop_map(BadCreate::Size),
        1 => Just(BadCreate::Address),
        1 => Just(BadCreate::NoMemory),
        1 => Just(BadCreate::Scattered),
        1 => Just(BadCreate::Vector),
    ]
}

fn feature() -> impl Strategy<Value = (u8, u32)> {
    prop_oneof![
        Just(0x01u8).prop_flat_map(|id| (Just(id), any::<u32>())),
        Just(0x02u8).prop_flat_map(|id| (Just(id), prop_oneof![Just(0u32), 0u32..64])),
        // Thresholds about the temperature, of sensors that are there and not.
        Just(0x04u8).prop_flat_map(|id| (
            Just(id),
            prop_oneof![
                Just(0x157u32),
                Just(0x100),
                Just(0x10_0000),
                Just(0x10_0200),
                Just(0xf_0100),
                Just(0x1_0100),
                Just(0x30_0100)
            ]
        )),
        Just(0x05u8).prop_flat_map(|id| (Just(id), prop_oneof![0u32..0x1_0000, Just(1u32 << 16)])),
        Just(0x06u8).prop_flat_map(|id| (Just(id), 0u32..2)),
        Just(0x07u8).prop_flat_map(|id| (
            Just(id),
            prop_oneof![
                Just(0x0003_0003u32),
                Just(0x0001_0000),
                Just(0xffff_0000),
                Just(0x0000_ffff),
                Just(0xfffe_fffe)
            ]
        )),
        Just(0x08u8).prop_flat_map(|id| (Just(id), 0u32..0x1_0000)),
        Just(0x09u8).prop_flat_map(|id| (
            Just(id),
            (0u32..7, any::<bool>())
                .prop_map(|(vector, disable)| vector | u32::from(disable) << 16)
        )),
        Just(0x0au8).prop_flat_map(|id| (Just(id), 0u32..4)),
        Just(0x0bu8).prop_flat_map(|id| (Just(id), prop_oneof![Just(0u32), Just(0x102), Just(2)])),
        Just(0x0eu8).prop_flat_map(|id| (Just(id), any::<u32>())),
        // So long that it never ends a walk.
        Just(0x0fu8)
            .prop_flat_map(|id| (Just(id), prop_oneof![Just(0u32), 3_600_000u32..3_700_000])),
        Just(0x16u8).prop_flat_map(|id| (Just(id), 0u32..4)),
        Just(0x81u8).prop_flat_map(|id| (Just(id), 0u32..2)),
        prop_oneof![Just(0x00u8), Just(0x03), Just(0x0c), Just(0x10), Just(0x80), Just(0xff)]
            .prop_flat_map(|id| (Just(id), any::<u32>())),
    ]
}

fn admin() -> impl Strategy<Value = Action> {
    let cns = prop_oneof![
        Just(0u8),
        Just(1),
        Just(2),
        Just(3),
        Just(5),
        Just(6),
        Just(7),
        Just(8),
        Just(0x10),
        Just(0x11),
        Just(0x12),
        Just(0x13),
        Just(0x1c),
        Just(4),
        Just(0x14),
        Just(0xff)
    ];
    let identify_wrong = prop_oneof![8 => Just(Wrong::Nothing), 1 => Just(Wrong::LowBits), 1 => Just(Wrong::NoMemory)];
    let controller = prop_oneof![3 => Just(0u16), 1 => Just(1u16), 1 => Just(0xffffu16)];
    let csi = prop_oneof![6 => Just(0u8), 1 => Just(1u8)];
    let page = prop_oneof![
        6 => prop_oneof![
            Just(0u8), Just(1), Just(2), Just(3), Just(4), Just(5), Just(0x12), Just(0x13)
        ],
        1 => prop_oneof![Just(6u8), Just(0x0d), Just(0x80), Just(0xff)],
    ];
    let offset = prop_oneof![
        6 => Just(0u64), 2 => (0u64..2048).prop_map(|dword| dword * 4), 1 => any::<u64>()
    ];
    let dwords = prop_oneof![30 => 0u32..2048, 1 => Just(0x7_ffffu32), 1 => Just(0x8_0000u32), 1 => Just(!0u32)];
    prop_oneof![
        4 => (1u8..5, 0u8..48, 0u8..5, bad_create())
            .prop_map(|(id, size, vector, bad)| Action::CreateCq { id, size, vector, bad }),
        4 => (1u8..5, 0u8..6, 0u8..48, bad_create())
            .prop_map(|(id, cq, size, bad)| Action::CreateSq { id, cq, size, bad }),
        2 => (0u8..6).prop_map(Action::DeleteSq),
        2 => (0u8..6).prop_map(Action::DeleteCq),
        3 => (cns, nsid(), controller, csi, identify_wrong).prop_map(
            |(cns, nsid, controller, csi, wrong)| Action::Identify { cns, nsid, controller, csi, wrong }
        ),
        5 => (page, nsid(), offset, dwords, any::<bool>()).prop_map(
            |(page, nsid, offset, dwords_z, retain)| Action::Log { page, nsid, offset, dwords_z, retain }
        ),
        4 => (feature(), 0u8..5, nsid()).prop_map(
            |((id, cdw11), select, nsid)| Action::GetFeature { id, select, nsid, cdw11 }
        ),
        5 => (feature(), nsid(), proptest::bool::weighted(0.05)).prop_map(
            |((id, cdw11), nsid, save)| Action::SetFeature { id, nsid, cdw11, save }
        ),
        2 => prop_oneof![
            4 => any::<u8>().prop_map(Target::InFlight),
            1 => any::<u8>().prop_map(Target::Event),
            1 => (0u16..6, any::<u16>()).prop_map(|(sq, cid)| Target::Unknown(sq, cid)),
        ].prop_map(Action::Abort),
        3 => Just(Action::Event),
        1 => (nsid(), prop_oneof![
            4 => Just(0u32), 1 => Just(1u32 << 9), 1 => Just(2u32 << 9), 1 => Just(1u32),
            1 => Just(1u32 << 5)
        ]).prop_map(|(nsid, cdw10)| Action::Format { nsid, cdw10 }),
        1 => Just(Action::KeepAlive),
        1 => (prop_oneof![
            Just(0x03u8), Just(0x07), Just(0x0d), Just(0x10), Just(0x11), Just(0x14), Just(0x19),
            Just(0x84), Just(0xff), Just(0x06)
        ], prop_oneof![3 => Just(0u8), 1 => Just(1u8), 1 => Just(0x40u8), 1 => Just(0x80u8)])
            .prop_map(|(opcode, flags)| Action::Refused { opcode, flags }),
    ]
}

fn bell() -> impl Strategy<Value = Bell> {
    prop_oneof![
        (0u8..5, any::<bool>(), prop_oneof![Just(0u16), Just(1u16), any::<u16>()])
            .prop_map(|(queue, head, over)| Bell::Value { queue, head, over }),
        (prop_oneof![1u16..5, 5u16..1536], any::<bool>())
            .prop_map(|(queue, head)| Bell::NoQueue { queue, head }),
        (0u8..5, prop_oneof![Just(1u8), Just(2u8)], 0u8..4)
            .prop_map(|(queue, size, shift)| Bell::Odd { queue, size, shift }),
    ]
}

pub(crate) fn action() -> impl Strategy<Value = Action> {
    let again = prop_oneof![
        6 => Just(Again::Plain),
        1 => prop_oneof![Just(1u32 << 4), Just(1u32 << 7), Just(1u32 << 11)].prop_map(Again::BadCc),
        1 => Just(Again::BadQueues),
        1 => Just(Again::Storm),
        1 => Just(Again::Function),
    ];
    prop_oneof![
        40 => (1u8..5, vec(io(), 1..7)).prop_map(|(sq, commands)| Action::Io { sq, commands }),
        14 => (1u8..5, 1u8..8).prop_map(|(cq, most)| Action::Poll { cq, most }),
        3 => Just(Action::Drain),
        3 => Just(Action::Hold),
        3 => Just(Action::ReleaseOne),
        4 => Just(Action::Release),
        1 => any::<bool>().prop_map(Action::Failing),
        2 => any::<u8>().prop_map(Action::Scribble),
        3 => (any::<u8>(), proptest::option::weighted(0.3, any::<u8>()))
            .prop_map(|(which, spoil)| Action::Bend { which, spoil }),
        24 => admin(),
        2 => bell().prop_map(Action::Bell),
        2 => (prop_oneof![Just(0u16), Just(8), Just(0x1c), Just(0x20), Just(0x38), Just(0x68),
                0x40u16..0x1000, Just(0x0c), Just(0x10), Just(0x24), Just(0x28)],
            prop_oneof![Just(1u8), Just(2), Just(4), Just(8)], any::<u64>())
            .prop_map(|(at, size, value)| Action::Register { at, size, value }),
        1 => again.prop_map(Action::Reset),
        1 => any::<bool>().prop_map(|abrupt| Action::Shutdown { abrupt }),
        1 => (0u8..3).prop_map(Action::Resize),
    ]
}
