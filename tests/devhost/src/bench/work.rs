// SPDX-License-Identifier: BSD-2-Clause

//! What is read and written, and where: the same for the device and for the
//! limit beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that carry one stamp.
pub(crate) const PAGE: u64 = 4096;

/// Which way the data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Read,
    Write,
}

/// Where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Random,
    Sequential,
}

/// A workload: transfers of `bytes`, a multiple of [`PAGE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) op: Op,
    pub(crate) order: Order,
    pub(crate) bytes: u64,
}

impl Work {
    pub(crate) const fn new(op: Op, order: Order, kib: u64) -> Work {
        Work { op, order, bytes: kib * 1024 }
    }

    /// Pages of one transfer.
    pub(crate) fn pages(&self) -> u64 {
        self.bytes / PAGE
    }
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let order = match self.order {
            Order::Random => "random",
            Order::Sequential => "sequential",
        };
        let op = match self.op {
            Op::Read => "read",
            Op::Write => "write",
        };
        write!(f, "{}K {order} {op}", self.bytes / 1024)
    }
}

/// Gives one thread the places of its transfers.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    order: Order,
    /// First transfer of the part, and how many it has.
    first: u64,
    count: u64,
    random: u64,
    /// Shared by the threads that move along one stream.
    stream: Arc<AtomicU64>,
}

impl Places {
    /// For each of `streams` streams over a store of `size` bytes. Random
    /// transfers go anywhere; a sequential stream has a part of the store for
    /// itself.
    pub(crate) fn streams(work: &Work, size: u64, streams: u64) -> Vec<Places> {
        let all = size / work.bytes;
        let part = all / streams;
        assert!(part > 0, "a store of {size} bytes is too small");
        let place = |stream: u64| Places {
            order: work.order,
            first: if work.order == Order::Random { 0 } else { stream * part },
            count: if work.order == Order::Random { all } else { part },
            random: 0x9e37_79b9_7f4a_7c15 ^ (stream + 1).wrapping_mul(0xd134_2543_de82_ef95),
            stream: Arc::new(AtomicU64::new(0)),
        };
        (0..streams).map(place).collect()
    }

    /// The same stream for one thread more: number `number` of its threads.
    pub(crate) fn shared_by(&self, number: u64) -> Places {
        let random = self.random ^ (number + 1).wrapping_mul(0xa076_1d64_78bd_642f) | 1;
        Places { random, ..self.clone() }
    }

    /// The number of the next transfer: its place is that many transfers after
    /// the store's beginning.
    pub(crate) fn next(&mut self) -> u64 {
        match self.order {
            Order::Random => {
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                let scaled = u128::from(self.random.wrapping_mul(0x2545_f491_4f6c_dd1d));
                self.first + ((scaled * u128::from(self.count)) >> 64) as u64
            }
            Order::Sequential => {
                self.first + self.stream.fetch_add(1, Ordering::Relaxed) % self.count
            }
        }
    }
}

/// What page `page` of a store begins with, always: a read that brings another
/// value has not read that page.
pub(crate) fn stamp(page: u64) -> u64 {
    page.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x6e76_6d65
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_places_cover_the_store_evenly() {
        let work = Work::new(Op::Read, Order::Random, 4);
        let mut places = Places::streams(&work, 64 * 4096, 1).remove(0);
        let mut hits = [0u32; 64];
        for _ in 0..64_000 {
            hits[places.next() as usize] += 1;
        }
        assert!(hits.iter().all(|&n| (800..1200).contains(&n)), "{hits:?}");
    }

    #[test]
    fn streams_have_a_part_each_and_threads_share_one() {
        let work = Work::new(Op::Write, Order::Sequential, 128);
        assert_eq!(work.to_string(), "128K sequential write");
        let mut streams = Places::streams(&work, 16 * 128 * 1024, 2);
        let mut helper = streams[1].shared_by(1);
        let seen: Vec<u64> = (0..5).flat_map(|_| [streams[1].next(), helper.next()]).collect();
        assert_eq!(seen, [8, 9, 10, 11, 12, 13, 14, 15, 8, 9]);
        assert_eq!(streams[0].next(), 0);
    }
}
