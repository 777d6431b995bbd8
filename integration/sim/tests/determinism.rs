//! The same seed is the same history.

#![allow(clippy::unwrap_used)]

use vipd_sim::{Mutant, Plan, run};

#[test]
fn the_same_seed_gives_the_same_trace_to_the_last_event() {
    let plan = Plan::of(8, 12);
    let (first, second) = (
        run(plan.clone(), Mutant::None, false),
        run(plan, Mutant::None, false),
    );
    assert!(
        first.packets > 1_000,
        "something must have happened: {}",
        first.line()
    );
    assert_eq!(first.violations, Vec::<String>::new());
    assert_eq!(
        first.hash,
        second.hash,
        "{}\n{}",
        first.line(),
        second.line()
    );
    assert_eq!(first.tail, second.tail);
}

#[test]
fn another_seed_gives_another_trace() {
    let hash = |seed| run(Plan::of(seed, 5), Mutant::None, false).hash;
    assert_ne!(hash(8), hash(9));
}
