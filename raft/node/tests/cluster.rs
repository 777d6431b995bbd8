//! Whole clusters on loopback, in one process: propose anywhere, lose a leader, restart, snapshots, membership.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Cluster, Place, done, has_pool, leader_of, pool, until};
use vipd_core::id::{Epoch, NodeId};
use vipd_core::node::Role;
use vipd_raft::OpenError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_node_comes_up_answers_and_restarts_with_its_state() {
    let place = Place::new("n1");
    place.init().unwrap();
    let node = place.open().await;
    assert_eq!((node.id(), node.role()), (NodeId(1), Role::Voter));
    let revision = done(node.propose(pool("web", 1u8)).await.unwrap());
    node.linearizable().await.unwrap();
    assert!(has_pool(&node, "web"));
    assert!(*node.applied().borrow() >= revision);
    node.persist_fence(NodeId(5), Epoch(3)).await.unwrap();
    node.shutdown().await;

    let node = place.open().await;
    assert_eq!(node.fences(), [(NodeId(5), Epoch(3))].into());
    node.linearizable().await.unwrap();
    assert!(has_pool(&node, "web"));
    assert_eq!(
        node.state().read().nodes().len(),
        1,
        "the bootstrap is applied once"
    );
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_init_over_data_is_refused_and_changes_nothing() {
    let place = Place::new("n1");
    place.init().unwrap();
    let identity = place.dir.path().join("data/identity");
    let before = std::fs::read(&identity).unwrap();
    let error = place.init().unwrap_err().to_string();
    assert!(error.contains("holds a node already"), "{error}");
    assert_eq!(std::fs::read(&identity).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_a_data_directory_and_one_program_a_port() {
    let place = Place::new("n1");
    place.init().unwrap();
    let node = place.open().await;
    let error = vipd_raft::RaftNode::open(place.settings())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("is in use by another vipd (pid "), "{error}");
    let other = Place::new("n2");
    other.init().unwrap();
    let mut settings = other.settings();
    settings.listen = place.addr;
    let error = vipd_raft::RaftNode::open(settings).await.unwrap_err();
    assert!(matches!(error, OpenError::Listen { .. }), "{error}");
    assert!(
        error.to_string().contains("another program has that port"),
        "{error}"
    );
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_without_a_node_says_how_to_make_one() {
    let place = Place::new("n1");
    let error = vipd_raft::RaftNode::open(place.settings())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("vipd init") && error.contains("vipd join"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_proposes_and_every_node_reads_what_was_acknowledged() {
    let cluster = Cluster::of(3).await;
    for (i, node) in cluster.nodes.iter().enumerate() {
        let name = format!("pool-{i}");
        done(node.propose(pool(&name, i as u8)).await.unwrap());
        for reader in &cluster.nodes {
            reader.linearizable().await.unwrap();
            assert!(
                has_pool(reader, &name),
                "node {} after node {} proposed",
                reader.id(),
                node.id()
            );
        }
    }
    cluster.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_go_on_when_the_leader_is_gone() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    done(
        cluster.nodes[leader]
            .propose(pool("before", 1u8))
            .await
            .unwrap(),
    );
    let gone = cluster.nodes.remove(leader);
    gone.shutdown().await;
    done(cluster.nodes[0].propose(pool("after", 2u8)).await.unwrap());
    cluster.nodes[1].linearizable().await.unwrap();
    assert!(has_pool(&cluster.nodes[1], "before") && has_pool(&cluster.nodes[1], "after"));

    let back = cluster.places[leader].open().await;
    back.linearizable().await.unwrap();
    assert!(
        has_pool(&back, "after"),
        "the old leader catches up when it is back"
    );
    back.shutdown().await;
    cluster.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_under_way_while_the_leader_goes_takes_effect_once() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.nodes[(leader + 1) % 3].clone();
    let proposals = tokio::spawn(async move {
        let mut revisions = Vec::new();
        for i in 0..40u8 {
            let name = format!("pool-{i}");
            revisions.push(done(follower.propose(pool(&name, i)).await.unwrap()));
        }
        revisions
    });
    tokio::time::sleep(Duration::from_millis(60)).await;
    let gone = cluster.nodes.remove(leader);
    gone.shutdown().await;
    let revisions = proposals.await.unwrap();
    assert!(revisions.windows(2).all(|pair| pair[0] < pair[1]));
    cluster.nodes[0].linearizable().await.unwrap();
    let state = cluster.nodes[0].state();
    assert_eq!(state.read().pools().len(), 40);
    drop(gone);
    cluster.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_three_restart_with_everything_they_had() {
    let mut cluster = Cluster::of(3).await;
    for i in 0..5u8 {
        done(
            cluster.nodes[i as usize % 3]
                .propose(pool(&format!("pool-{i}"), i))
                .await
                .unwrap(),
        );
    }
    let members: Vec<NodeId> = cluster.nodes.iter().map(vipd_raft::RaftNode::id).collect();
    cluster.down().await;
    cluster.nodes.clear();
    for place in &cluster.places {
        cluster.nodes.push(place.open().await);
    }
    cluster.leader().await;
    for node in &cluster.nodes {
        node.linearizable().await.unwrap();
        assert_eq!(node.state().read().pools().len(), 5);
        assert_eq!(
            node.status().voters.into_iter().collect::<Vec<_>>(),
            members
        );
    }
    cluster.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_a_proposal_says_so_and_a_read_does_not_lie() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    for i in (0..3).filter(|i| *i != leader) {
        cluster.nodes[i].shutdown().await;
    }
    let mut settings = cluster.places[leader].settings();
    settings.patience = Duration::from_secs(2);
    cluster.nodes[leader].shutdown().await;
    let alone = vipd_raft::RaftNode::open(settings).await.unwrap();
    let error = alone
        .propose(pool("web", 1u8))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no leader took the command") && error.contains("vipctl status"),
        "{error}"
    );
    let error = alone.linearizable().await.unwrap_err().to_string();
    assert!(error.contains("consistency=local"), "{error}");
    assert!(!alone.status().quorum_ok);
    alone.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_for_long_is_brought_back_by_a_snapshot() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let away = (leader + 1) % 3;
    cluster.nodes[away].shutdown().await;
    for round in 0..3u8 {
        for i in 0..20u8 {
            done(
                cluster.nodes[leader]
                    .propose(pool(&format!("pool-{round}-{i}"), round * 20 + i))
                    .await
                    .unwrap(),
            );
        }
        cluster.nodes[leader].snapshot().await.unwrap();
    }
    let node = &cluster.nodes[leader];
    until("a snapshot is written", || {
        node.status().snapshot.is_some_and(|at| at > 20)
    })
    .await;
    cluster.nodes[away] = cluster.places[away].open().await;
    cluster.nodes[away].linearizable().await.unwrap();
    assert_eq!(cluster.nodes[away].state().read().pools().len(), 60);
    cluster.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_let_go_behind_a_snapshot_and_a_restart_begins_there() {
    let place = Place::new("n1");
    place.init().unwrap();
    let mut settings = place.settings();
    settings.snapshot_every = 20;
    settings.keep_behind = 5;
    let node = vipd_raft::RaftNode::open(settings.clone()).await.unwrap();
    for i in 0..100u8 {
        done(node.propose(pool(&format!("pool-{i}"), i)).await.unwrap());
    }
    until("a late snapshot", || {
        node.status().snapshot.is_some_and(|at| at > 80)
    })
    .await;
    node.shutdown().await;
    let node = vipd_raft::RaftNode::open(settings).await.unwrap();
    node.linearizable().await.unwrap();
    assert_eq!(node.state().read().pools().len(), 100);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lead_is_handed_over_on_request() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let next = cluster.nodes[(leader + 1) % 3].id();
    // Asked of a follower, carried out by the leader.
    cluster.nodes[(leader + 2) % 3]
        .transfer_leader(Some(next))
        .await
        .unwrap();
    until("the chosen node leads", || {
        leader_of(&cluster.nodes).is_some_and(|i| cluster.nodes[i].id() == next)
    })
    .await;
    let before = cluster.leader().await;
    cluster.nodes[before].transfer_leader(None).await.unwrap();
    until("another node leads", || {
        leader_of(&cluster.nodes).is_some_and(|i| i != before)
    })
    .await;
    cluster.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_called_election_does_not_depose_a_living_leader() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let mark = cluster.nodes[leader].vote_mark();
    for _ in 0..5 {
        cluster.nodes[(leader + 1) % 3].elect().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(cluster.leader().await, leader);
    assert_eq!(
        cluster.nodes[leader].vote_mark(),
        mark,
        "the term did not move"
    );
    cluster.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_daemon_tells_another_arrives_with_who_told_it_and_too_much_is_refused() {
    let cluster = Cluster::of(2).await;
    let (teller, listener) = (&cluster.nodes[0], &cluster.nodes[1]);
    let mut told = listener.told().unwrap();
    assert!(listener.told().is_none(), "only one can listen");
    let patience = Duration::from_secs(5);
    let tell = |bytes: &'static [u8]| teller.tell(listener.id(), bytes.into(), patience);
    tell(b"flows").await.unwrap();
    let got = told.recv().await.unwrap();
    assert_eq!((got.from, &got.bytes[..]), (teller.id(), &b"flows"[..]));

    let large = vec![0; vipd_raft::RECORDS_MAX + 1];
    let refused = teller.tell(listener.id(), large.into(), patience).await;
    assert!(matches!(refused, Err(vipd_raft::TellError::TooMuch(_))));

    // An inbox that nobody reads fills up, and then says so instead of holding up who tells.
    let mut taken = 0;
    let full = loop {
        match tell(b"more").await {
            Ok(()) => taken += 1,
            Err(error) => break error.to_string(),
        }
        assert!(taken < 1000, "it takes without end");
    };
    assert!(full.contains("has yet to read"), "{full}");
    drop(told);
    let nobody = tell(b"again").await.unwrap_err().to_string();
    assert!(nobody.contains("nobody reads"), "{nobody}");
    cluster.down().await;
}
