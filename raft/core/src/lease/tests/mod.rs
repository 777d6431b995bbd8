//! What the protocol promises, as stories and as seeded simulations.

mod pulse;
mod sim;

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use std::println;

use super::{Ack, Beat, Holder, Profile, Verdict, Voter};
use crate::id::{Epoch, NodeId};
use crate::node::VoterSets;
use crate::time::{Instant, Span};
use sim::{Mutant, World};

/// What `voter` says to beat `seq` of node 2 under `epoch`, which has `heard` its answer to an earlier one.
fn answer(voter: &mut Voter, now: Instant, epoch: u64, seq: u64, heard: u64) -> Verdict {
    let beat = Beat {
        seq,
        epoch: Some(Epoch(epoch)),
        lease: Profile::Lan.timing().lease,
        heard,
        ack: None,
        certificates: Vec::new(),
    };
    voter.on_beat(now, NodeId(2), &beat).unwrap()
}

#[test]
fn at_no_moment_do_two_nodes_announce_one_address() {
    let mut handovers = 0;
    for seed in 0..60 {
        let mut world = World::new(seed, Mutant::None, 3 + seed % 2 * 2);
        if let Err(broken) = world.run(6_000) {
            panic!("seed {seed}: {broken}");
        }
        handovers += world.handovers;
    }
    println!("60 seeds of 6 s, {handovers} takeovers");
    assert!(
        handovers > 60,
        "only {handovers} takeovers: the simulation tests nothing"
    );
}

#[test]
fn every_planted_fault_is_caught() {
    for mutant in [
        Mutant::LeaseFromReceipt,
        Mutant::OneCertificate,
        Mutant::NoFence,
        Mutant::PromiseByOwnLease,
        Mutant::NoDriftMargin,
    ] {
        let caught = (0..300).find(|seed| World::new(*seed, mutant, 3).run(6_000).is_err());
        println!("{mutant:?} caught by seed {caught:?}");
        assert!(caught.is_some(), "{mutant:?} was not caught");
    }
}

#[test]
fn a_voter_that_just_started_withdraws_nothing_for_a_promise() {
    let timing = Profile::Lan.timing();
    let start = Instant(Span::millis(1000).0);
    let mut voter = Voter::new(timing, start, []);
    voter.set_leases(start, [(NodeId(2), Epoch(5))]);
    let mut now = start;
    while now < start.after(timing.promise()) {
        assert!(voter.tick(now).is_empty());
        now = now.after(Span::millis(1));
    }
}

#[test]
fn a_fence_is_certified_only_once_it_is_on_disk_and_outlives_a_restart() {
    let timing = Profile::Lan.timing();
    let mut now = Instant(Span::millis(1000).0);
    let mut voter = Voter::new(timing, now, []);
    voter.set_leases(now, [(NodeId(2), Epoch(5))]);
    let fenced = loop {
        now = now.after(Span::millis(1));
        let fenced = voter.tick(now);
        if !fenced.is_empty() {
            break fenced;
        }
    };
    assert_eq!(fenced, [(NodeId(2), Epoch(5))]);
    assert_eq!(
        answer(&mut voter, now, 5, 1, 0),
        Verdict::Fenced,
        "not supported from this moment"
    );
    assert_eq!(voter.certificates().count(), 0, "and not yet certified");
    voter.fenced(NodeId(2), Epoch(5));
    assert_eq!(
        voter.certificates().collect::<Vec<_>>(),
        [(NodeId(2), Epoch(5))]
    );
    let mut again = Voter::new(timing, now, [(NodeId(2), Epoch(5))]);
    assert_eq!(answer(&mut again, now, 5, 1, 0), Verdict::Fenced);
    assert_eq!(
        answer(&mut again, now, 6, 2, 0),
        Verdict::Supported,
        "a new lease is another matter"
    );
}

#[test]
fn a_voter_that_was_away_judges_nobody_by_its_own_silence() {
    let timing = Profile::Lan.timing();
    let start = Instant(Span::millis(1000).0);
    let mut voter = Voter::new(timing, start, []);
    voter.set_leases(start, [(NodeId(2), Epoch(5))]);
    let later = start.after(Span::millis(60_000));
    assert!(
        voter.tick(later).is_empty(),
        "it slept a minute: it cannot know"
    );
    let mut now = later;
    while now < later.after(timing.promise()).after(Span::millis(2)) {
        now = now.after(Span::millis(1));
        if !voter.tick(now).is_empty() {
            assert!(now >= later.after(timing.promise()));
            return;
        }
    }
    panic!("it fences once it has listened for a promise and heard nothing");
}

#[test]
fn a_recorded_beat_renews_no_promise_and_a_restarted_node_is_told_where_to_go_on() {
    let timing = Profile::Lan.timing();
    let now = Instant(Span::millis(1000).0);
    let mut voter = Voter::new(timing, now, []);
    assert_eq!(answer(&mut voter, now, 5, 7, 0), Verdict::Supported);
    let behind = Verdict::Behind { newest: 7 };
    assert_eq!(
        answer(&mut voter, now.after(Span::millis(100)), 5, 7, 0),
        behind
    );
    assert!(
        !voter.hears(now.after(timing.promise()), NodeId(2)),
        "the recording renewed nothing"
    );
    let mut restarted = Holder::new(timing);
    restarted.set_epoch(Some(Epoch(5)));
    let seq = restarted.beat(now);
    restarted.on_ack(
        NodeId(1),
        Ack {
            seq,
            epoch: Epoch(5),
            verdict: behind,
        },
    );
    assert_eq!(restarted.beat(now), 8);
}

#[test]
fn a_node_that_is_heard_but_hears_nobody_is_not_propped_up() {
    let timing = Profile::Lan.timing();
    let mut now = Instant(Span::millis(1000).0);
    let mut voter = Voter::new(timing, now, []);
    voter.set_leases(now, [(NodeId(2), Epoch(5))]);
    let cut = 200;
    for seq in 1..1000 {
        now = now.after(timing.beat);
        // Its answers arrive until the cut, and never after.
        let verdict = answer(&mut voter, now, 5, seq, (seq - 1).min(cut));
        if !voter.tick(now).is_empty() {
            assert_eq!(verdict, Verdict::Unheard);
            let silent = (seq - cut) * timing.beat.as_millis();
            assert!(
                (300..500).contains(&silent),
                "fenced {silent} ms after the cut"
            );
            return;
        }
        if seq > cut + 20 {
            panic!("still supported {} beats after the cut", seq - cut);
        }
    }
}

#[test]
fn a_node_that_hears_again_is_supported_again() {
    let timing = Profile::Lan.timing();
    let now = Instant(Span::millis(1000).0);
    let later = now.after(Span::millis(400));
    let mut voter = Voter::new(timing, now, []);
    assert_eq!(answer(&mut voter, now, 5, 1, 0), Verdict::Supported);
    assert_eq!(answer(&mut voter, later, 5, 2, 0), Verdict::Unheard);
    assert_eq!(answer(&mut voter, later, 5, 3, 2), Verdict::Supported);
}

#[test]
fn a_renewed_lease_leaves_no_gap_and_a_lost_one_ends_at_once() {
    let timing = Profile::Lan.timing();
    let now = Instant(Span::millis(1000).0);
    let mut holder = Holder::new(timing);
    holder.set_voters(&VoterSets {
        sets: vec![BTreeSet::from([NodeId(1)])],
    });
    holder.set_epoch(Some(Epoch(5)));
    let seq = holder.beat(now);
    holder.on_ack(
        NodeId(1),
        Ack {
            seq,
            epoch: Epoch(5),
            verdict: Verdict::Supported,
        },
    );
    let deadline = now.after(timing.lease);
    assert_eq!(holder.deadline(), deadline);
    holder.set_epoch(Some(Epoch(9)));
    assert_eq!(holder.deadline(), deadline, "renewed");
    holder.set_epoch(None);
    assert_eq!(holder.deadline(), Instant(0), "lost");
}

#[test]
fn a_voter_promises_by_the_longer_lease_and_never_for_one_that_nobody_may_have() {
    let timing = Profile::Lan.timing();
    let now = Instant(Span::millis(1000).0);
    let mut voter = Voter::new(timing, now, []);
    let mut beat = Beat {
        seq: 1,
        epoch: Some(Epoch(5)),
        lease: Span::millis(1000),
        heard: 0,
        ack: None,
        certificates: Vec::new(),
    };
    assert_eq!(
        voter.on_beat(now, NodeId(2), &beat),
        Some(Verdict::Supported)
    );
    assert!(voter.hears(now.after(Span::millis(1001)), NodeId(2)));
    beat.lease = Span::millis(60_000);
    assert_eq!(voter.on_beat(now, NodeId(3), &beat), Some(Verdict::Unheard));
    assert!(!voter.hears(now.after(Span::millis(1)), NodeId(3)));
}
