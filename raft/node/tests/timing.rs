//! How long things take at the default profile. The bounds are wide, since other tests share the machine; the figures are
//! printed (`--nocapture`).
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{Cluster, done, pool, until};
use vipd_core::id::{Epoch, NodeId};

async fn lan() -> Cluster {
    let mut cluster = Cluster::of(3).await;
    cluster.down().await;
    cluster.nodes.clear();
    for place in &cluster.places {
        let mut settings = place.settings();
        settings.heartbeat = Duration::from_millis(25);
        settings.election_min = Duration::from_millis(100);
        settings.election_max = Duration::from_millis(150);
        cluster
            .nodes
            .push(vipd_raft::RaftNode::open(settings).await.unwrap());
    }
    cluster.leader().await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_takes_milliseconds() {
    let cluster = lan().await;
    let leader = cluster.leader().await;
    for (what, node) in [("leader", leader), ("follower", (leader + 1) % 3)] {
        let mut took = Vec::new();
        for i in 0..100u32 {
            let start = Instant::now();
            done(
                cluster.nodes[node]
                    .propose(pool(&format!("{what}-{i}"), i + 1000 * node as u32))
                    .await
                    .unwrap(),
            );
            took.push(start.elapsed());
        }
        took.sort();
        println!(
            "a commit, asked of the {what}: median {:?}, worst of 100 {:?}",
            took[50], took[99]
        );
        assert!(took[50] < Duration::from_millis(200));
    }
    let mut took = Vec::new();
    for i in 0..50 {
        let start = Instant::now();
        cluster.nodes[leader]
            .persist_fence(NodeId(99), Epoch(i))
            .await
            .unwrap();
        took.push(start.elapsed());
    }
    took.sort();
    println!(
        "a fence on disk: median {:?}, worst of 50 {:?}",
        took[25], took[49]
    );
    cluster.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_called_election_replaces_a_lost_leader_fast() {
    let mut cluster = lan().await;
    let leader = cluster.leader().await;
    let lost = cluster.nodes.remove(leader);
    let gone = lost.id();
    // As the daemon does: a lease after the loss is noticed, unless somebody else stands already.
    let start = Instant::now();
    let stopping = tokio::spawn(async move { lost.shutdown().await });
    let mark = cluster.nodes[0].vote_mark();
    tokio::time::sleep(Duration::from_millis(155)).await;
    if cluster.nodes[0].vote_mark() == mark {
        cluster.nodes[0].elect().await;
    }
    until("a new leader", || {
        cluster
            .nodes
            .iter()
            .all(|node| node.status().leader.is_some_and(|id| id != gone))
    })
    .await;
    let elected = start.elapsed();
    done(
        cluster.nodes[1]
            .propose(pool("after", 5000u32))
            .await
            .unwrap(),
    );
    println!(
        "from the loss of the leader: elected {elected:?}, first commit {:?}",
        start.elapsed()
    );
    assert!(start.elapsed() < Duration::from_secs(5));
    stopping.await.unwrap();
    cluster.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handing_the_lead_over_takes_milliseconds() {
    let cluster = lan().await;
    for _ in 0..3 {
        let leader = cluster.leader().await;
        let start = Instant::now();
        cluster.nodes[leader].transfer_leader(None).await.unwrap();
        println!("handed over in {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(2));
    }
    cluster.down().await;
}
