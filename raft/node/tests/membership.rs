//! Who comes in, and who goes out for good.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{Cluster, PATIENCE, Place, ROOT, done, has_pool, pool, until};
use vipd_core::asker::{TokenId, Who};
use vipd_core::command::Command;
use vipd_core::name::Name;
use vipd_core::node::Role;
use vipd_core::rejection::Rejection;
use vipd_core::time::Millis;
use vipd_core::token::Access;
use vipd_raft::{JoinError, ProposeError, RemovalError, Token};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_token_is_refused_with_its_own_line_and_nothing_is_written() {
    let first = Place::new("n1");
    first.init().unwrap();
    let node = first.open().await;
    let stranger = Place::new("n2");

    let never_issued = node.new_token(Role::Voter, Millis(u64::MAX));
    let error = stranger
        .join(first.addr, never_issued)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("did not admit this node") && error.contains("token"),
        "{error}"
    );

    let expired = node
        .issue_token(ROOT, Role::Voter, Duration::ZERO, 1)
        .await
        .unwrap();
    let error = stranger
        .join(first.addr, expired)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("expired"), "{error}");

    assert!(
        "vipd1-nonsense"
            .parse::<Token>()
            .unwrap_err()
            .to_string()
            .contains("vipd token")
    );

    let elsewhere = Place::new("other");
    elsewhere.init().unwrap();
    let other = elsewhere.open().await;
    let foreign = other.issue_token(ROOT, Role::Voter, HOUR, 1).await.unwrap();
    let error = stranger.join(first.addr, foreign).await.unwrap_err();
    assert!(matches!(error, JoinError::WrongCluster(_)), "{error}");

    let dead = Place::new("dead");
    let good = node.issue_token(ROOT, Role::Voter, HOUR, 1).await.unwrap();
    let error = stranger.join(dead.addr, good.clone()).await.unwrap_err();
    assert!(matches!(error, JoinError::Unreachable { .. }), "{error}");

    assert!(!stranger.dir.path().join("data/identity").exists());
    assert_eq!(node.state().read().nodes().len(), 1);

    stranger.join(first.addr, good.clone()).await.unwrap();
    let third = Place::new("n3");
    let error = third.join(first.addr, good).await.unwrap_err().to_string();
    assert!(error.contains("used"), "{error}");
    let error = stranger
        .join(
            first.addr,
            node.issue_token(ROOT, Role::Voter, HOUR, 1).await.unwrap(),
        )
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("holds a node already"),
        "{error}"
    );
    other.shutdown().await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_taken_is_refused() {
    let first = Place::new("n1");
    first.init().unwrap();
    let node = first.open().await;
    let token = node.issue_token(ROOT, Role::Voter, HOUR, 1).await.unwrap();
    let error = Place::new("n1")
        .join(first.addr, token)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("n1"), "{error}");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_is_told_so_and_never_comes_back_under_its_number() {
    let mut cluster = Cluster::of(3).await;
    done(cluster.nodes[0].propose(pool("web", 1u8)).await.unwrap());
    let gone = cluster.nodes.pop().unwrap();
    let number = gone.id();
    gone.shutdown().await;
    cluster.nodes[1]
        .remove_node(ROOT, number)
        .await
        .unwrap()
        .unwrap();
    assert!(cluster.nodes[0].state().read().node(number).is_none());
    // Whoever got no answer asks again, perhaps another leader.
    for asked in &cluster.nodes {
        asked.remove_node(ROOT, number).await.unwrap().unwrap();
    }
    until("two voters are left", || {
        cluster
            .nodes
            .iter()
            .all(|node| node.status().voters.len() == 2)
    })
    .await;

    let ghost = cluster.places[2].open().await;
    let mut failed = ghost.failed();
    let told = tokio::time::timeout(PATIENCE, failed.wait_for(Option::is_some))
        .await
        .unwrap()
        .unwrap()
        .clone();
    assert!(told.unwrap().contains("was removed from the cluster"));
    ghost.shutdown().await;

    // The same host comes back as a new member.
    let again = Place {
        dir: tempfile::tempdir().unwrap(),
        addr: cluster.places[2].addr,
        name: cluster.places[2].name.clone(),
    };
    let token = cluster.nodes[0]
        .issue_token(ROOT, Role::Voter, HOUR, 1)
        .await
        .unwrap();
    let (fresh, _) = again.join(cluster.places[0].addr, token).await.unwrap();
    assert!(fresh > number);
    cluster.nodes.push(again.open().await);
    cluster.until_all_vote().await;
    assert!(has_pool(&cluster.nodes[2], "web"));
    cluster.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_without_a_majority_fails_as_fast_as_any_write_and_is_not_carried_out_later() {
    let mut cluster = Cluster::of(3).await;
    let number = cluster.nodes[2].id();
    let asked = cluster.leader().await;
    let asked = if asked == 2 { 0 } else { asked };
    for i in (0..3).filter(|i| *i != asked) {
        cluster.nodes[i].shutdown().await;
    }
    // It takes itself for the leader yet, or knows that nobody leads.
    let begun = Instant::now();
    let refused = cluster.nodes[asked].remove_node(ROOT, number).await;
    assert!(
        matches!(refused, Err(ProposeError::NoLeader { .. })),
        "{refused:?}"
    );
    let took = begun.elapsed();
    assert!(took < PATIENCE + Duration::from_secs(3), "{took:?}");

    let other = 1 - asked;
    cluster.nodes[other] = cluster.places[other].open().await;
    done(
        cluster.nodes[asked]
            .propose(pool("web", 1u8))
            .await
            .unwrap(),
    );
    assert!(cluster.nodes[asked].state().read().node(number).is_some());
    assert_eq!(cluster.nodes[asked].status().voters.len(), 3);
    cluster.down().await;
}

/// Changes of members carry no asker: the log is asked before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_with_a_token_that_was_revoked_takes_no_vote_away() {
    let mut cluster = Cluster::of(3).await;
    let name: Name = "ci".parse().unwrap();
    let make = Command::PutApiToken {
        token: [1; 32],
        name: name.clone(),
        access: Access::Admin,
        expires: None,
    };
    done(cluster.nodes[0].propose(make).await.unwrap());
    let made = cluster.nodes[0].state().read().api_tokens()[&[1; 32]].made;
    let revoke = Command::DeleteApiToken { name: name.clone() };
    done(cluster.nodes[0].propose(revoke).await.unwrap());
    let gone = cluster.nodes.pop().unwrap();
    let number = gone.id();
    gone.shutdown().await;

    let token = TokenId { name, made };
    for asked in &cluster.nodes {
        let who = Who::Token {
            token: token.clone(),
        };
        let refused = asked.remove_node(who, number).await.unwrap().unwrap_err();
        assert!(
            matches!(refused, RemovalError::Rejected(Rejection::Revoked { .. })),
            "{refused}"
        );
    }
    cluster.nodes[0].linearizable().await.unwrap();
    assert_eq!(cluster.nodes[0].status().voters.len(), 3);
    cluster.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_voter_and_a_stranger_cannot_be_removed() {
    let place = Place::new("n1");
    place.init().unwrap();
    let node = place.open().await;
    let error = node
        .remove_node(ROOT, node.id())
        .await
        .unwrap()
        .unwrap_err();
    assert!(error.to_string().contains("last voter"), "{error}");
    let error = node.transfer_leader(None).await.unwrap_err().to_string();
    assert!(error.contains("no other voter is alive"), "{error}");
    let error = node
        .remove_node(ROOT, vipd_core::id::NodeId(99))
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        error.to_string().contains("no node with number 99"),
        "{error}"
    );
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_follows_proposes_and_resumes_with_another_voter() {
    let mut cluster = Cluster::of(3).await;
    done(cluster.nodes[0].propose(pool("first", 1u8)).await.unwrap());
    let place = Place::new("a1");
    let token = cluster.nodes[1]
        .issue_token(ROOT, Role::Agent, HOUR, 1)
        .await
        .unwrap();
    let (number, role) = place.join(cluster.places[1].addr, token).await.unwrap();
    assert_eq!(role, Role::Agent);
    let agent = place.open().await;
    until("the agent has the state", || has_pool(&agent, "first")).await;
    done(agent.propose(pool("second", 2u8)).await.unwrap());
    agent.linearizable().await.unwrap();
    assert!(has_pool(&agent, "second"));
    assert!(
        agent
            .persist_fence(number, vipd_core::id::Epoch(1))
            .await
            .is_err()
    );

    // Whichever voter it follows: two of three go and come back, one after the other.
    for i in [0, 1] {
        cluster.nodes[i].shutdown().await;
        let name = format!("while-{i}-away");
        done(agent.propose(pool(&name, 10 + i as u8)).await.unwrap());
        until("the agent goes on", || has_pool(&agent, &name)).await;
        cluster.nodes[i] = cluster.places[i].open().await;
        cluster.nodes[i].linearizable().await.unwrap();
    }
    agent.shutdown().await;
    let agent = place.open().await;
    until("a restarted agent has the state again", || {
        has_pool(&agent, "while-1-away")
    })
    .await;
    assert_eq!(
        cluster.nodes[0].status().voters.len(),
        3,
        "an agent is no Raft member"
    );
    agent.shutdown().await;
    cluster.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_comes_late_starts_from_a_snapshot_and_a_removed_one_is_told() {
    let first = Place::new("n1");
    first.init().unwrap();
    let mut settings = first.settings();
    settings.keep_behind = 1;
    let voter = vipd_raft::RaftNode::open(settings).await.unwrap();
    for i in 0..50u8 {
        done(voter.propose(pool(&format!("pool-{i}"), i)).await.unwrap());
    }
    voter.snapshot().await.unwrap();
    let place = Place::new("a1");
    let token = voter.issue_token(ROOT, Role::Agent, HOUR, 1).await.unwrap();
    let (number, _) = place.join(first.addr, token).await.unwrap();
    let agent = place.open().await;
    until("the agent has everything", || {
        agent.state().read().pools().len() == 50
    })
    .await;
    until("the agent hears of a majority", || agent.status().quorum_ok).await;
    assert_eq!(agent.status().leader, Some(voter.id()));
    let same = |node: &vipd_raft::RaftNode| node.state().view(vipd_core::codec::Wire::to_bytes);
    voter.linearizable().await.unwrap();
    until("both are at the same entry", || {
        same(&agent).0 == same(&voter).0
    })
    .await;
    assert!(
        same(&agent) == same(&voter),
        "an agent's state is the voters', byte by byte"
    );

    voter.remove_node(ROOT, number).await.unwrap().unwrap();
    let mut failed = agent.failed();
    let told = tokio::time::timeout(PATIENCE, failed.wait_for(Option::is_some))
        .await
        .unwrap()
        .unwrap()
        .clone();
    assert!(told.unwrap().contains("was removed from the cluster"));
    agent.shutdown().await;
    voter.shutdown().await;
}
