// SPDX-License-Identifier: BSD-2-Clause

//! A random walk of a guest, polite and not, against a plain model of the
//! controller and its disk: every status is the expected one, all data are what
//! the model allows, and every command that was accepted ends once, or goes
//! with its queue or with a reset.
//!
//! What fails is shown with its seed, after it was made as short as can be.
//! `BHYVE_NVME_WALK_SEED=<seed>` walks that way again, and
//! `BHYVE_NVME_WALK_STEPS` says how far (50000 actions for each of the two
//! walks, if it does not).

mod action;
mod admin;
mod bend;
mod disk;
mod events;
mod expect;
mod features;
mod io;
mod lives;
mod queues;
mod world;

use action::{Action, Shape};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use world::World;

/// Actions of one walk.
const STEPS: u64 = 50_000;

/// The most actions between two controllers.
const PATH: usize = 500;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}: must be a whole number")))
}

/// A controller of `shape`, walked over by `actions`.
fn walk(shape: &Shape, actions: &[Action], walked: &AtomicU64) -> Result<(), String> {
    let mut world = World::new(shape)?;
    for (step, action) in actions.iter().enumerate() {
        world.act(action).map_err(|what| format!("step {step}, {action:?}: {what}"))?;
        walked.fetch_add(1, Ordering::Relaxed);
    }
    world.end().map_err(|what| format!("at the end: {what}"))
}

/// The step that an error names.
fn step_of(what: &str) -> Option<usize> {
    what.strip_prefix("step ")?.split(',').next()?.parse().ok()
}

fn walk_from(seed: u64) {
    let steps = number("BHYVE_NVME_WALK_STEPS").unwrap_or(STEPS);
    let config = Config {
        // The walk ends by its length.
        cases: u32::MAX,
        failure_persistence: None,
        max_shrink_iters: 4096,
        max_shrink_time: 120_000,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let (walked, failing) = (AtomicU64::new(0), AtomicBool::new(false));
    while walked.load(Ordering::Relaxed) < steps {
        let paths = (action::shape(), proptest::collection::vec(action::action(), 1..=PATH));
        let path = proptest::strategy::Strategy::new_tree(&paths, &mut runner).expect("a path");
        let result = runner.run_one(path, |(shape, actions)| {
            walk(&shape, &actions, &walked).map_err(|what| {
                if !failing.swap(true, Ordering::Relaxed) {
                    eprintln!("seed {seed}: {what}; shortening");
                }
                TestCaseError::fail(what)
            })
        });
        if let Err(TestError::Fail(what, (shape, actions))) = result {
            // What comes after the step that failed has not been walked.
            let failed = step_of(what.message()).map_or(actions.len(), |step| step + 1);
            let list = actions.iter().take(failed).map(|action| format!("\n    {action:?}"));
            let list: String = list.collect();
            panic!("BHYVE_NVME_WALK_SEED={seed}: {what}\n{shape:?}{list}");
        }
    }
}

#[test]
fn a_walk_from_the_same_seed_each_time() {
    walk_from(number("BHYVE_NVME_WALK_SEED").unwrap_or(20));
}

#[test]
fn a_walk_from_a_new_seed() {
    if number("BHYVE_NVME_WALK_SEED").is_some() {
        return;
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = now.map_or(0, |time| time.as_nanos() as u64 & 0xffff_ffff);
    println!("BHYVE_NVME_WALK_SEED={seed}");
    walk_from(seed);
}
