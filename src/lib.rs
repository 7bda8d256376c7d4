// SPDX-License-Identifier: BSD-2-Clause

//! An NVMe controller for FreeBSD's bhyve: a static library with a C ABI that
//! takes the place of bhyve's own `pci_nvme.c`.
//!
//! # The house
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`abi`] | the C functions that bhyve's device table gets; nothing unwinds past them |
//! | [`bhyve`] | bhyve as the C glue offers it; implements [`host::Host`] |
//! | [`config`] | options: names, defaults, limits, error lines |
//! | [`device`] | from a configuration to a running controller |
//! | [`controller`] | registers, the enable, reset and shutdown machine, admin commands |
//! | `nvm` | what I/O commands do |
//! | `engine` | who runs I/O, and on which thread |
//! | `queue` | submission and completion queues, doorbells, interrupts |
//! | `data_pointer` | from a command's data pointer to guest memory |
//! | [`wire`] | what the guest sees, bit for bit |
//! | [`memory`] | the only door to guest memory |
//! | [`backend`] | where the blocks live; system calls in `backend::sys` |
//! | [`sandbox`] | Capsicum rights of a store |
//! | [`host`] | what a controller needs of the hypervisor |
//!
//! Dependencies point one way: `abi` → `device` → `controller`, `nvm` →
//! `queue`, `data_pointer` → `memory`, `wire`. `engine` runs an executor that
//! `nvm` gives it. `backend` and `host` are leaves that know nothing of NVMe.
//!
//! `unsafe` is in `memory`, `bhyve`, `abi` and the `sys` folders, and nowhere
//! else. Where a value comes from the guest, clippy forbids whatever could
//! panic or overflow.
//!
//! # Threads
//!
//! | thread | does | never |
//! | --- | --- | --- |
//! | vCPU (many) | reads registers; stores doorbells, CC, AQA, ASQ, ACQ and wakes; passes BAR4 on; runs small commands of a store that never waits | blocks, takes a lock that is held over I/O, runs admin commands |
//! | controller (one) | owns the controller's state: enable, reset, shutdown, the admin queue, features, logs, events, queues' creation and deletion; makes workers; while the engine puts anything off, looks after it every millisecond | waits for an I/O |
//! | size (one, where the system tells of changes of the store) | passes that on to the controller thread | looks at anything itself |
//! | worker (up to `ioslots`) | claims a queue, reserves completions, fetches, executes, posts, interrupts; runs what is long for the controller thread | touches the controller's state |
//!
//! Locks, in order: the *claim* of a submission queue, held while a batch of
//! entries is copied, and the *publish* lock of a completion queue, held over
//! one 16-byte store. A vCPU only tries the claim; the controller thread waits
//! for it when it aborts a command. No lock is held over a data copy, a call of
//! the backend, or an interrupt.
//!
//! Any of these threads may be gone from one instruction to the next when the
//! hypervisor exits; no destructor matters. If one panics, the guest reads
//! CSTS.CFS, that controller starts no more I/O, and all else goes on.
//!
//! # The way of one read
//!
//! 1. A vCPU writes the tail doorbell ([`abi::pci_nvme_write`]). The value is
//!    checked and stored together with the queue's epoch (`queue::doorbell`),
//!    the queue is marked as ready, and a worker is woken unless one is
//!    searching (`engine::pool`), or those awake come to it sooner
//!    (`engine::pace`).
//! 2. A worker finds the queue, counts itself in flight there, claims it,
//!    reserves completion entries, copies as many commands out of guest
//!    memory, once, and lets go (`engine::dispatch`): one, or up to eight
//!    while the store answers from memory. If there is more, the next worker
//!    is woken before this one enters the store, if that is worth it. What a
//!    worker has in hand and does not come to, others take (`engine::watch`).
//! 3. The command's fields are checked, on the copy (`nvm`); its PRPs become
//!    segments of guest memory, neighbours joined (`data_pointer`).
//! 4. The store reads straight into them ([`backend`]). Of the commands, only a
//!    Dataset Management has parts that several workers take (`engine::parts`).
//! 5. The completion is posted, the half with the phase tag last, with
//!    release order (`queue::completion`). One interrupt covers a few, never
//!    held back for long (`engine::coalescing`), and is remembered until it has
//!    been delivered (`queue::interrupt`).
//! 6. A worker that finds nothing says so, looks once more, and sleeps.
//!
//! A reset closes all queues, waits in the controller thread until nobody is
//! in flight, and only then clears CSTS.RDY: from then on nothing of the old
//! life can reach guest memory.

#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod abi;
pub mod backend;
#[allow(unsafe_code)]
pub mod bhyve;
pub mod config;
pub mod controller;
pub mod device;
pub mod host;
#[allow(unsafe_code)]
pub mod memory;
pub mod sandbox;
pub mod wire;

mod data_pointer;
mod engine;
mod nvm;
mod queue;
mod sync;
