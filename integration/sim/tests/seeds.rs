//! Seeds that have found something, which must not come back; and the size of cluster that most sites have.

#![allow(clippy::unwrap_used)]

use vipd_sim::{Aim, Mutant, Plan, Report, run};

fn calm(plan: Plan) -> Report {
    let report = run(plan, Mutant::None, false);
    let seed = report.plan.seed;
    let again = format!("cargo xtask sim --seed {seed}, with {:?}", report.plan.aim);
    assert!(
        report.violations.is_empty(),
        "{:?}\n{}\nagain: {again}",
        report.violations,
        report.tail.join("\n")
    );
    report
}

/// Seed 5: an agent whose stream lagged renewed its lease 800 times a second, as its own replica had not yet applied
/// what was already carried out.
#[test]
fn a_node_whose_replica_lags_does_not_flood_the_log_with_leases() {
    let report = calm(Plan::of(5, 20));
    let per_second = report.entries * 1_000_000_000 / report.virtual_ns;
    assert!(
        per_second < 60,
        "{per_second} entries a second\n{}",
        report.line()
    );
}

#[test]
fn three_voters_survive_everything_that_the_nemesis_does_in_half_a_minute() {
    let report = calm(Plan::of(2, 30));
    assert!(
        report.handovers > 50,
        "nothing has moved: {}",
        report.line()
    );
    assert!(
        !report.recoveries.is_empty(),
        "nothing was healed: {}",
        report.line()
    );
}

/// The operator wants holders that go on without a majority: two announce then, for as long as they are cut off from each
/// other, and no longer.
#[test]
fn holders_that_freeze_thaw_and_leave_one_announcer_when_all_is_healed() {
    let report = calm(Plan {
        freeze: true,
        ..Plan::of(4, 30)
    });
    assert!(!report.recoveries.is_empty(), "{}", report.line());
}

/// Each of these finds a planted fault in `tests/mutants.rs`.
#[test]
fn no_scene_that_is_aimed_at_a_rule_shows_two_announcers_while_the_rule_is_kept() {
    let aims = [
        Aim::LostFence,
        Aim::LateRelease,
        Aim::StaleRead,
        Aim::StarvedByNewVoters,
        Aim::SlowDatapath,
        Aim::DeafLeader,
        Aim::DeposedTail,
        Aim::ToAndFro,
    ];
    for aim in aims {
        let small = Plan {
            vips: 24,
            clients: 1,
            ..Plan::aimed(2, 12, aim)
        };
        calm(small);
    }
}
