use std::collections::BTreeSet;

use super::*;
use crate::testing::{Host, three_voters, three_voters_that_wait, until};

const HEARTBEAT: Duration = Duration::from_millis(75);

fn at(leader: Option<u64>, heard_ms: Option<u64>) -> Need {
    need(leader, 1, heard_ms.map(Duration::from_millis), HEARTBEAT)
}

#[test]
fn a_leader_sends_heartbeats_whatever_it_has_heard_before() {
    assert_eq!(at(Some(1), None), Need::Heartbeat);
    assert_eq!(at(Some(1), Some(10_000)), Need::Heartbeat);
}

#[test]
fn a_voter_that_hears_its_leader_needs_no_tick() {
    assert_eq!(at(Some(2), Some(0)), Need::Nothing);
    assert_eq!(at(Some(2), Some(149)), Need::Nothing);
}

#[test]
fn a_voter_without_a_leader_or_with_a_silent_one_ticks() {
    assert_eq!(at(Some(2), Some(150)), Need::Ticks);
    assert_eq!(at(Some(2), None), Need::Ticks);
    assert_eq!(at(None, Some(0)), Need::Ticks);
}

/// Carries what each node's beats say to all others, as beats would.
fn carry(hosts: &[Host]) {
    for from in hosts {
        let said = from.node.words().own(now());
        for to in hosts {
            to.node.words().of(from.node.id()).note(said, now());
        }
    }
}

/// The leader's place, once all follow it and each has heard that of it through its connection.
async fn led(hosts: &[Host]) -> usize {
    let mut leader = None;
    until("all are led by one", || {
        let leaders: BTreeSet<_> = hosts.iter().map(|host| host.node.status().leader).collect();
        leader = leaders.first().copied().flatten();
        leaders.len() == 1 && leader.is_some()
    })
    .await;
    let place = hosts
        .iter()
        .position(|host| Some(host.node.id()) == leader)
        .unwrap();
    until("all follow it", || {
        let mut all = hosts.iter().map(|host| host.node.words().own(now()));
        all.all(|word| Some(word.leader) == leader)
    })
    .await;
    place
}

/// How many heartbeats reach a follower through its connection in `span`, while `meanwhile` is done each few milliseconds.
async fn heartbeats(follower: &Host, span: Duration, meanwhile: impl Fn()) -> usize {
    let words = follower.node.words();
    let (began, mut seen) = (Instant::now(), BTreeSet::from([words.spoken()]));
    while began.elapsed() < span {
        meanwhile();
        tokio::time::sleep(Duration::from_millis(4)).await;
        seen.insert(words.spoken());
    }
    seen.len() - 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_go_by_beats_while_these_say_who_leads_and_who_follows() {
    let hosts = three_voters().await;
    let leader = led(&hosts).await;
    let (follower, status) = (&hosts[(leader + 1) % 3], hosts[leader].node.status());
    let heartbeat = follower.node.core.settings.heartbeat;
    let span = heartbeat * 40;
    let without = heartbeats(follower, span, || {}).await;
    // The first ones still go through the connection.
    heartbeats(follower, heartbeat * 4, || carry(&hosts)).await;
    let with = heartbeats(follower, span, || {
        carry(&hosts);
        assert!(follower.node.status().quorum_ok && hosts[leader].node.status().quorum_ok);
    })
    .await;
    println!("heartbeats through a connection: {without}, with beats {with}");
    assert!(with >= 2 && with * 3 <= without, "{without}, then {with}");
    let after = hosts[leader].node.status();
    assert_eq!((after.leader, after.term), (status.leader, status.term));
    let again = heartbeats(follower, span, || {}).await;
    assert!(again > with * 2, "no beats, so all by connection: {again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_is_answered_by_no_beat() {
    let mut hosts = three_voters().await;
    let leader = led(&hosts).await;
    let leader = hosts.remove(leader);
    let said = leader.node.words().own(now());
    let follow = || {
        for gone in &hosts {
            let words = leader.node.words();
            let committed = u64::MAX;
            words
                .of(gone.node.id())
                .note(Word { committed, ..said }, now());
        }
    };
    let words = leader.node.words();
    until("beats may answer heartbeats", || {
        follow();
        let mut both = hosts.iter().map(|gone| gone.node.id());
        both.all(|gone| words.may_ride(gone, now()))
    })
    .await;
    // Nobody fails to answer, and nobody answers: only what goes through the connections finds out.
    for gone in &hosts {
        gone.node.core.stop.cancel();
        gone.node
            .core
            .voter
            .as_ref()
            .unwrap()
            .listener
            .get()
            .unwrap()
            .stop()
            .await;
    }
    let read = leader.node.linearizable();
    tokio::pin!(read);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        follow();
        let answered = timeout(Duration::from_millis(4), &mut read).await;
        assert!(answered.is_err(), "nobody is there: {answered:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_of_which_only_beats_are_heard_is_replaced() {
    let mut hosts = three_voters().await;
    let leader = led(&hosts).await;
    let gone = hosts.remove(leader);
    let (id, said) = (gone.node.id(), gone.node.words().own(now()));
    gone.node.shutdown().await;
    let began = Instant::now();
    until("another leads", || {
        for host in &hosts {
            host.node.words().of(id).note(said, now());
        }
        hosts
            .iter()
            .all(|host| host.node.status().leader.is_some_and(|led| led != id))
    })
    .await;
    println!("replaced after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_that_have_given_their_leader_up_refuse_nobody_that_stands() {
    // Far longer than this test waits: only beats find out here.
    let minute = Duration::from_secs(60);
    let mut hosts = three_voters_that_wait((minute, minute * 2)).await;
    let leader = led(&hosts).await;
    let gone = hosts.remove(leader);
    let (id, said) = (gone.node.id(), gone.node.words().own(now()));
    gone.node.shutdown().await;
    for host in &hosts {
        // What the lost leader's last beats said is not believed any more either.
        host.node.words().of(id).note(said, now());
        host.node.give_up(id);
    }
    let waits = |host: &Host| host.node.core.waits_for_leader();
    assert!(!hosts.iter().any(waits), "he was not heard since");
    until("one of them leads", || {
        let stands = hosts[0].node.clone();
        tokio::spawn(async move { stands.elect().await });
        hosts
            .iter()
            .all(|host| host.node.status().leader.is_some_and(|led| led != id))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_heard_again_after_he_was_given_up_is_waited_for() {
    let hosts = three_voters().await;
    let leader = led(&hosts).await;
    let (id, term) = (hosts[leader].node.id(), hosts[leader].node.status().term);
    let (doubter, other) = (&hosts[(leader + 1) % 3], &hosts[(leader + 2) % 3]);
    doubter.node.give_up(id);
    let waits = || doubter.node.core.waits_for_leader();
    until("it hears him through the connection", waits).await;
    // The other loses him, too, and stands: refused by both, again and again.
    for _ in 0..50 {
        other.node.give_up(id);
        other.node.elect().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let now = doubter.node.status();
    assert_eq!((now.leader, now.term), (Some(id), term));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_hears_its_leader_by_beats_refuses_votes_though_its_raft_was_told_nothing() {
    let hosts = three_voters().await;
    let leader = led(&hosts).await;
    let (id, term) = (hosts[leader].node.id(), hosts[leader].node.status().term);
    let (hears, stands) = (&hosts[(leader + 1) % 3], &hosts[(leader + 2) % 3]);
    // Until the lease that Raft itself granted is long over, and then some.
    let span = hears.node.core.settings.election_max * 10;
    let (began, mut stood) = (Instant::now(), 0);
    let (mut seen, mut quiet) = (hears.node.words().spoken(), Instant::now());
    while began.elapsed() < span || stood == 0 {
        carry(&hosts);
        if hears.node.words().spoken() != seen {
            (seen, quiet) = (hears.node.words().spoken(), Instant::now());
        }
        if quiet.elapsed() > hears.node.core.settings.heartbeat * 5 {
            stands.node.give_up(id);
            stands.node.elect().await;
            stood += 1;
        }
        assert!(began.elapsed() < span * 10, "it is told each time");
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    let now = hears.node.status();
    assert_eq!((now.leader, now.term), (Some(id), term), "{stood} times");
    // Whom the leader hands the lead to is waited for no longer.
    hears.node.core.let_go();
    assert!(!hears.node.core.waits_for_leader());
    until("it hears him again", || {
        carry(&hosts);
        hears.node.core.waits_for_leader()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hands_the_lead_to_nobody_is_not_spoken_of() {
    // The third voter waits for longer than this test does, so that the leader stays one.
    let minute = Duration::from_secs(60);
    let mut hosts = three_voters_that_wait((minute, minute * 2)).await;
    let leader = led(&hosts).await;
    let leader = hosts.remove(leader);
    let gone = hosts.remove(0);
    let id = gone.node.id();
    gone.node.shutdown().await;
    let raft = &leader.node.core.voter.as_ref().unwrap().raft;
    raft.trigger().transfer_leader(id.0).await.unwrap();
    let words = leader.node.words();
    let (mut silent, heartbeat) = (0, leader.node.core.settings.heartbeat);
    until(
        "nobody is told that it leads, and goes on not to be",
        || {
            silent = if words.own(now()) == Word::default() {
                silent + 1
            } else {
                0
            };
            Duration::from_millis(5) * silent > heartbeat * 5
        },
    )
    .await;
    assert_eq!(leader.node.status().leader, Some(leader.node.id()));
}
