// SPDX-License-Identifier: BSD-2-Clause

//! The volatile write cache, switched off while commands are under way.

use super::store::{Op, World};
use super::*;

/// The store makes such a write durable itself: no flush follows.
#[test]
fn while_the_cache_is_off_a_write_is_one_durable_operation() {
    let world = World::new();
    world.nvm.set_write_cache(false);
    assert_eq!(world.run(command(io::WRITE, 1, 3, 1)), Status::SUCCESS);
    assert_eq!(world.log(), [Op::Write(3, 2, true)]);
}

/// What makes durable all that was written before, when the cache is switched
/// off, comes too early for a command that is in the store meanwhile.
#[test]
fn what_is_written_while_the_cache_is_switched_off_is_durable_when_it_completes() {
    let writes = |op: &Op| !matches!(op, Op::Flush);
    for (opcode, written) in
        [(io::WRITE, Op::Write(3, 2, false)), (io::WRITE_ZEROES, Op::Zero(3, 2, false))]
    {
        let world = World::new();
        let status = world.run_holding(command(opcode, 1, 3, 1), writes, || {
            world.nvm.set_write_cache(false);
            world.nvm.flush_store().unwrap();
        });
        assert_eq!(status, Status::SUCCESS);
        assert_eq!(world.log(), [written, Op::Flush, Op::Flush]);
    }
}

#[test]
fn a_flush_that_fails_after_the_cache_was_switched_off_fails_the_write() {
    let world = World::new();
    let hit = |op: &Op| matches!(op, Op::Write(..));
    let status = world.run_holding(command(io::WRITE, 1, 3, 1), hit, || {
        world.nvm.set_write_cache(false);
        world.fail(|op| *op == Op::Flush, crate::backend::Error::Io);
    });
    assert_eq!(status, Status::WRITE_FAULT);
    assert_eq!(world.nvm.totals().writes, 0, "it has not succeeded");
}
