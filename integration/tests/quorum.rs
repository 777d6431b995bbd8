//! The majority is lost: the holder goes silent, or goes on if that was asked for; and both can be seen.
#![allow(clippy::unwrap_used)]

use std::thread::sleep;
use std::time::Duration;

use vipd_integration::cluster::{PATIENCE, wait};
use vipd_integration::{Bench, Stamp};

/// Longer than any lease of the default profile, and as much again for a busy machine.
const LEASE: Duration = Duration::from_millis(600);

fn kill_all_but(bench: &Bench, name: &str) {
    for node in bench
        .cluster()
        .nodes()
        .filter(|node| node.host().name() != name)
    {
        node.kill9().unwrap();
    }
}

fn says(bench: &Bench, name: &str, word: &str) {
    wait(
        &format!("`vipctl status` on {name} says {word:?}"),
        PATIENCE,
        || {
            let said = bench.cluster().node(name).vipctl(&["status"])?;
            Ok(said.contains(word).then_some(()))
        },
    )
    .unwrap();
}

/// Whether `name` is asked for the addresses in vain at the moment.
fn dark(bench: &Bench, from: Stamp) -> bool {
    let quiet = |gap: &vipd_integration::probe::Gap| gap.length() > LEASE;
    bench.outages(from).iter().filter(|gap| quiet(gap)).count() == bench.addresses().len()
}

#[test]
fn without_a_majority_the_holder_goes_silent_says_so_and_answers_again_with_it() {
    let bench = Bench::start().unwrap();
    let holder = bench
        .wait_for_one_holder("a holder", |_| true)
        .unwrap()
        .name()
        .to_owned();
    let from = Stamp::now();
    kill_all_but(&bench, &holder);
    wait("the client has no answer", PATIENCE, || {
        Ok(dark(&bench, from).then_some(()))
    })
    .unwrap();
    says(&bench, &holder, "a majority of the voters is out of reach");

    let other = bench
        .cluster()
        .nodes()
        .find(|node| node.host().name() != holder)
        .unwrap();
    other.run().unwrap();
    bench
        .wait_for_one_holder("it answers again", |_| true)
        .unwrap();
    bench.ensure_never_two().unwrap();
}

#[test]
fn a_holder_told_to_freeze_goes_on_without_a_majority_says_so_and_is_still_fenced_when_it_hangs() {
    let bench = Bench::start().unwrap();
    for node in bench.cluster().nodes() {
        node.stop(PATIENCE).unwrap();
        node.configure("lease", "on_quorum_loss", "freeze").unwrap();
        node.run().unwrap();
        bench.cluster().wait_until_whole().unwrap();
    }
    let holder = bench
        .wait_for_one_holder("a holder", |_| true)
        .unwrap()
        .name()
        .to_owned();
    let from = Stamp::now();
    kill_all_but(&bench, &holder);
    says(&bench, &holder, "answers without a majority");
    sleep(4 * LEASE);
    assert!(
        bench.outages(from).iter().all(|gap| gap.length() < LEASE),
        "{:?}",
        bench.outages(from)
    );

    let from = Stamp::now();
    bench.cluster().node(&holder).freeze().unwrap();
    wait("the client has no answer", PATIENCE, || {
        Ok(dark(&bench, from).then_some(()))
    })
    .unwrap();
    bench.cluster().node(&holder).thaw().unwrap();
    for node in bench
        .cluster()
        .nodes()
        .filter(|node| node.host().name() != holder)
    {
        node.run().unwrap();
    }
    bench.cluster().wait_until_whole().unwrap();
    bench
        .wait_for_one_holder("it answers again", |_| true)
        .unwrap();
    bench.ensure_never_two().unwrap();
}
