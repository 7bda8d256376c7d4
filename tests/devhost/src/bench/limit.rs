// SPDX-License-Identifier: BSD-2-Clause

//! What this machine can do at most, without a device: the limit that the
//! device's figures are held against.

use super::Result;
use super::clock::{Used, Window, clock, thread_cpu_ns, ticks};
use super::histogram::Histogram;
use super::line::Line;
use super::store::FileStore;
use super::subject::used_in;
use super::vcpu::Tally;
use super::work::{Op, PAGE, Places, Work, stamp};
use bhyve_nvme::memory::{Region, Segment};
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The most threads that a file's limit is taken with.
const MAX_THREADS: usize = 32;

/// Threads for commands `depth` deep on each of `queues` queues.
pub(crate) fn file_threads(depth: usize, queues: u16) -> usize {
    (depth * usize::from(queues)).min(MAX_THREADS)
}

/// preadv(2) or pwritev(2) on the file itself, from `threads` threads. They are
/// spread over as many streams as the device has queues.
pub(crate) fn file(
    store: &FileStore,
    work: &Work,
    threads: usize,
    queues: u16,
    window: Window,
) -> Result<(Vec<Tally>, Used)> {
    let streams = Places::streams(work, store.size(), u64::from(queues));
    let buffers = memory(threads as u64 * work.bytes)?;
    run(threads, window, |number| {
        let mut places = streams[number % streams.len()].shared_by(number as u64);
        let buffer = part(&buffers, number as u64, work.bytes)?;
        Ok(move || {
            let transfer = places.next();
            write_stamps(work, &buffer, transfer);
            store.transfer(work.op, transfer * work.bytes, &buffer)
        })
    })
}

/// Copies between `ram` and buffers, `depth` of them for each of `threads`
/// threads.
pub(crate) fn memcpy(
    ram: &Region,
    work: &Work,
    threads: usize,
    depth: usize,
    window: Window,
) -> Result<(Vec<Tally>, Used)> {
    let streams = Places::streams(work, ram.segment().len() as u64, threads as u64);
    let buffers = memory((threads * depth) as u64 * work.bytes)?;
    run(threads, window, |number| {
        let mut places = streams[number].shared_by(number as u64);
        let own: Vec<Segment> = (0..depth)
            .map(|slot| part(&buffers, (number * depth + slot) as u64, work.bytes))
            .collect::<Result<_>>()?;
        let mut turn = 0;
        Ok(move || {
            let transfer = places.next();
            let buffer = &own[turn];
            turn = (turn + 1) % own.len();
            write_stamps(work, buffer, transfer);
            let place = part(ram, transfer, work.bytes).map_err(io::Error::other)?;
            let copied = match work.op {
                Op::Read => buffer.copy_from(&place),
                Op::Write => place.copy_from(buffer),
            };
            copied.ok_or_else(|| io::Error::other("the lengths differ"))
        })
    })
}

/// Two threads that wake each other for every transfer of `work`: what a device
/// reaches at depth 1 that hands a command to a sleeping thread and interrupts
/// a sleeping CPU. The doorbells of the tally are the calls that woke.
pub(crate) fn handoff(
    store: &FileStore,
    work: &Work,
    window: Window,
) -> Result<(Vec<Tally>, Used)> {
    const PATIENCE: Duration = Duration::from_secs(10);
    /// The count at which the second thread ends.
    const BEAT: u32 = 0;
    let mut places = Places::streams(work, store.size(), 1).remove(0);
    let buffers = memory(work.bytes)?;
    let buffer = buffers.segment();
    let (request, answer, end) = (Line::default(), Line::default(), Line::default());
    let worker = || -> io::Result<()> {
        let mut turn = BEAT;
        while request.wait(turn, PATIENCE) && end.count() == 0 {
            turn = turn.wrapping_add(1);
            let transfer = places.next();
            write_stamps(work, &buffer, transfer);
            store.transfer(work.op, transfer * work.bytes, &buffer)?;
            answer.raise();
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let worker = scope.spawn(worker);
        let asker = scope.spawn(|| {
            let mut turn = BEAT;
            let mut doorbells = Histogram::default();
            let result = measure(window, || {
                let before = ticks();
                let woke = request.raise();
                let after = ticks();
                if woke {
                    doorbells.record(clock().between(before, after));
                }
                if !answer.wait(turn, PATIENCE) {
                    return Err(io::Error::other("no answer came"));
                }
                turn = turn.wrapping_add(1);
                Ok(())
            });
            end.raise();
            request.raise();
            result.map(|tally| Tally { doorbells, ..tally })
        });
        let used = used_in(window);
        let tally = asker.join().map_err(|_| "a thread panicked")??;
        worker.join().map_err(|_| "a thread panicked")??;
        Ok((vec![tally], used))
    })
}

/// Runs what `make` makes for each of `threads` threads, again and again.
pub(crate) fn run<F>(
    threads: usize,
    window: Window,
    make: impl Fn(usize) -> Result<F>,
) -> Result<(Vec<Tally>, Used)>
where
    F: FnMut() -> io::Result<()> + Send,
{
    let transfers: Vec<F> = (0..threads).map(make).collect::<Result<_>>()?;
    std::thread::scope(|scope| {
        let running: Vec<_> = transfers
            .into_iter()
            .map(|transfer| scope.spawn(move || measure(window, transfer)))
            .collect();
        let used = used_in(window);
        let tallies: Result<Vec<Tally>> = running
            .into_iter()
            .map(|thread| Ok(thread.join().map_err(|_| "a thread panicked")??))
            .collect();
        Ok((tallies?, used))
    })
}

/// Counts how often `transfer` ends within `window`.
fn measure(window: Window, mut transfer: impl FnMut() -> io::Result<()>) -> io::Result<Tally> {
    let mut tally = Tally::default();
    let mut now = ticks();
    while now < window.begin {
        transfer()?;
        now = ticks();
    }
    let cpu_before = thread_cpu_ns();
    while now < window.end {
        transfer()?;
        let before = now;
        now = ticks();
        if now < window.end {
            tally.latency.record(now - before);
        }
    }
    tally.ios = tally.latency.count();
    tally.cpu_ns = thread_cpu_ns() - cpu_before;
    Ok(tally)
}

/// A store in memory whose pages all are there.
pub(crate) fn filled(size: u64) -> Result<Region> {
    let ram = memory(size)?;
    let all = Work { op: Op::Write, order: super::work::Order::Sequential, bytes: size };
    write_stamps(&all, &ram.segment(), 0);
    Ok(ram)
}

fn memory(size: u64) -> Result<Region> {
    let region = usize::try_from(size).ok().and_then(Region::zeroed).ok_or("not enough memory")?;
    // Touched once, so that no fault counts.
    for page in (0..region.segment().len()).step_by(PAGE as usize) {
        region.segment().store64(page, 0, Ordering::Relaxed).ok_or("a page of memory")?;
    }
    Ok(region)
}

fn part(region: &Region, number: u64, bytes: u64) -> Result<Segment> {
    let part = region.segment().slice((number * bytes) as usize, bytes as usize);
    Ok(part.ok_or("outside of the memory")?)
}

/// What is written begins with its stamps, as the guest's does.
fn write_stamps(work: &Work, buffer: &Segment, transfer: u64) {
    if work.op == Op::Write {
        for (page, at) in (transfer * work.pages()..).zip((0..buffer.len()).step_by(PAGE as usize))
        {
            let stored = buffer.store64(at, stamp(page), Ordering::Relaxed);
            debug_assert!(stored.is_some(), "a page of a buffer");
        }
    }
}
