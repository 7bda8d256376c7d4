// SPDX-License-Identifier: BSD-2-Clause

//! The library's queues and wake-ups, compiled anew with a model checker's
//! atomics (`--cfg loom`), and with as little else as they need: so that the
//! model builds in seconds. Run by `tests/model.sh`.

#![cfg(loom)]
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "only a part of the library is here to use them"
)]

#[path = "../../../src/engine/mod.rs"]
mod engine;
#[path = "../../../src/host.rs"]
mod host;
#[path = "../../../src/memory.rs"]
mod memory;
#[path = "../../../src/queue/mod.rs"]
mod queue;
#[path = "../../../src/sync.rs"]
mod sync;
#[path = "../../../src/wire/mod.rs"]
mod wire;
