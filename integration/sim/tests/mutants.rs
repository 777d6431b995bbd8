//! The judge is not blind: planted faults are found, within the first seeds.

#![allow(clippy::unwrap_used)]

use vipd_sim::{Aim, Mutant, Plan, run};

/// What a node that comes back under a lease which others took for ended is found by: the next holder announces still, or has
/// announced under a newer token.
const COMES_BACK: &[&str] = &["two announce", "went back"];

/// Runs plans until one shows the fault, by one of `words`; fails if none does, or if something else is wrong.
fn found(mutant: Mutant, words: &[&str], plans: impl Iterator<Item = Plan>) {
    let mut tried = 0;
    for plan in plans {
        tried += 1;
        let seed = plan.seed;
        let report = run(plan, mutant, false);
        // A second holder may first be seen by its token, which is older than that of the other.
        let mut violations = report.violations.iter();
        if let Some(first) = report.violations.first() {
            assert!(
                violations.any(|it| words.iter().any(|word| it.contains(word))),
                "seed {seed}: something else was found: {first}"
            );
            return;
        }
    }
    panic!("{mutant:?} was not found in {tried} seeds");
}

/// By the nemesis that does whatever it likes.
fn found_by_chance(mutant: Mutant, word: &str) {
    found(mutant, &[word], (1..=6).map(|seed| Plan::of(seed, 40)));
}

/// By one scene, in a small cluster. Without the fault the same must be clean: see `tests/seeds.rs`.
fn found_by_aiming(mutant: Mutant, aim: Aim, words: &[&str]) {
    let small = |seed| Plan {
        vips: 24,
        clients: 1,
        ..Plan::aimed(seed, 12, aim)
    };
    found(mutant, words, (1..=12).map(small));
}

#[test]
fn a_kernel_that_ignores_the_deadline_is_found() {
    found_by_chance(Mutant::NoDeadline, "two announce");
}

#[test]
fn a_beat_that_is_taken_to_have_arrived_early_is_found() {
    found_by_chance(Mutant::ArrivedEarly, "two announce");
}

#[test]
fn a_takeover_by_one_certificate_is_found() {
    found_by_chance(Mutant::OneCertificate, "two announce");
}

#[test]
fn what_an_earlier_life_left_open_and_a_later_lease_revives_is_found() {
    found_by_chance(Mutant::Unarmed, "two announce");
}

#[test]
fn a_holder_that_answers_while_it_hands_on_is_found() {
    found_by_chance(Mutant::HandsWhileOpen, "two announce");
}

#[test]
fn a_right_by_one_handed_packet_that_never_ends_is_found() {
    // It takes two moves of one address to the same node.
    let plans = (1..=6).map(|seed| Plan::of(seed, 60));
    found(Mutant::ServesForEver, &["two announce"], plans);
}

#[test]
fn a_holder_that_never_stops_to_go_on_without_a_majority_is_found() {
    let frozen = |seed| Plan {
        freeze: true,
        ..Plan::of(seed, 40)
    };
    found(
        Mutant::NeverThaws,
        &["frozen: [HostId"],
        (1..=6).map(frozen),
    );
}

#[test]
fn a_replica_that_reads_its_own_clock_is_found() {
    found_by_chance(Mutant::OwnClock, "other bytes");
}

#[test]
fn a_release_before_the_gate_is_shut_is_found() {
    found_by_chance(Mutant::ReleaseBeforeShut, "two announce");
}

#[test]
fn a_certificate_whose_fence_is_not_on_the_disk_is_found() {
    found_by_aiming(Mutant::FenceNotDurable, Aim::LostFence, COMES_BACK);
}

#[test]
fn a_release_that_counts_under_any_token_is_found() {
    found_by_aiming(Mutant::ReleaseUnbound, Aim::LateRelease, &["two announce"]);
}

#[test]
fn a_start_without_asking_a_majority_is_found() {
    found_by_aiming(Mutant::NoStartRead, Aim::StaleRead, &["two announce"]);
}

#[test]
fn a_voter_that_vouches_for_a_read_by_its_own_log_is_found() {
    found_by_aiming(Mutant::LocalRead, Aim::StaleRead, &["two announce"]);
}

#[test]
fn a_report_of_new_voters_before_the_beats_count_by_them_is_found() {
    found_by_aiming(
        Mutant::ReportsVotersEarly,
        Aim::StarvedByNewVoters,
        &["two announce"],
    );
}

#[test]
fn beats_for_a_new_lease_before_the_gates_of_the_last_one_are_shut_are_found() {
    found_by_aiming(
        Mutant::BeatsBeforeDatapath,
        Aim::SlowDatapath,
        &["two announce"],
    );
}

#[test]
fn a_leader_that_nobody_answers_and_that_speaks_on_is_found() {
    found_by_aiming(Mutant::LoudLeader, Aim::DeafLeader, &["hears nobody"]);
}

#[test]
fn an_agent_that_is_fed_what_was_never_committed_is_found() {
    found_by_aiming(
        Mutant::FeedsUncommitted,
        Aim::DeposedTail,
        &["another entry"],
    );
}

#[test]
fn an_address_that_is_taken_back_before_all_has_arrived_that_was_handed_on_is_found() {
    found_by_aiming(Mutant::TakesTooSoon, Aim::ToAndFro, &["two announce"]);
}
