//! The judge is not blind: planted faults are found, within the first seeds.

#![allow(clippy::unwrap_used)]

use vipd_sim::{Mutant, Plan, run};

/// Runs seeds until one shows the fault; fails if none does.
fn found(mutant: Mutant, word: &str) {
    for seed in 1..=6 {
        let report = run(Plan::of(seed, 40), mutant, false);
        if let Some(violation) = report.violations.first() {
            assert!(
                violation.contains(word),
                "something else was found: {violation}"
            );
            return;
        }
    }
    panic!("{mutant:?} was not found in six seeds");
}

#[test]
fn a_kernel_that_ignores_the_deadline_is_found() {
    found(Mutant::NoDeadline, "two announce");
}

#[test]
fn a_takeover_by_one_certificate_is_found() {
    found(Mutant::OneCertificate, "two announce");
}

#[test]
fn what_an_earlier_life_left_open_and_a_later_lease_revives_is_found() {
    found(Mutant::Unarmed, "two announce");
}

#[test]
fn a_replica_that_reads_its_own_clock_is_found() {
    found(Mutant::OwnClock, "other bytes");
}
