//! A cluster on loopback for this crate's own tests, and strangers that ask to be let in.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use rcgen::KeyPair;
use tempfile::TempDir;
use vipd_core::asker::Who;
use vipd_core::node::Role;

use crate::identity::public_key_of;
use crate::peer::JoinAsk;
use crate::{Init, Join, RaftNode, Settings, Token, init, join};

/// Who asks for what a test asks for.
const ROOT: Who = Who::Local { uid: 0 };

/// A node, and its data directory, which goes when this is dropped.
pub(crate) struct Host {
    pub(crate) node: RaftNode,
    _dir: TempDir,
}

/// An address of loopback that is free now; the kernel does not hand out its port again for a while.
pub(crate) fn free_address() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

/// How long a follower waits for its leader, at least and at most: tests of others share the machine.
const ELECTION: (Duration, Duration) = (Duration::from_millis(250), Duration::from_millis(500));

/// The first voter of a new cluster, running.
pub(crate) async fn first_voter() -> Host {
    first_of(ELECTION).await
}

async fn first_of(election: (Duration, Duration)) -> Host {
    let (dir, peer) = (tempfile::tempdir().unwrap(), free_address());
    init(&Init {
        data_dir: dir.path().to_path_buf(),
        name: "n1".parse().unwrap(),
        peer,
        addresses: vec![],
        first: vec![],
    })
    .unwrap();
    let node = open(dir.path(), peer, election).await;
    Host { node, _dir: dir }
}

/// A second voter of the cluster of `first`, running; its vote comes later.
pub(crate) async fn another_voter(first: &Host) -> Host {
    another(first, "n2", Role::Voter, ELECTION).await
}

/// Three voters, each with its vote.
pub(crate) async fn three_voters() -> Vec<Host> {
    three_voters_that_wait(ELECTION).await
}

/// The same, which wait so long for their leader.
pub(crate) async fn three_voters_that_wait(election: (Duration, Duration)) -> Vec<Host> {
    let first = first_of(election).await;
    let mut hosts = vec![first];
    for name in ["n2", "n3"] {
        let next = another(&hosts[0], name, Role::Voter, election).await;
        hosts.push(next);
    }
    until("three vote", || {
        let mut each = hosts.iter().map(|host| host.node.status());
        each.all(|now| now.voters.len() == 3 && !now.changing)
    })
    .await;
    hosts
}

/// Waits for it, 20 s at most.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An agent of the cluster of `first`, running.
pub(crate) async fn agent(first: &Host) -> Host {
    another(first, "a1", Role::Agent, ELECTION).await
}

async fn another(first: &Host, name: &str, role: Role, election: (Duration, Duration)) -> Host {
    let (dir, peer) = (tempfile::tempdir().unwrap(), free_address());
    join(&Join {
        addr: first.node.peer(),
        token: token(first, role).await,
        data_dir: dir.path().to_path_buf(),
        name: name.parse().unwrap(),
        peer,
        addresses: vec![],
    })
    .await
    .unwrap();
    let node = open(dir.path(), peer, election).await;
    Host { node, _dir: dir }
}

async fn open(data_dir: &Path, listen: SocketAddr, election: (Duration, Duration)) -> RaftNode {
    let mut settings = Settings::new(data_dir.to_path_buf(), listen);
    settings.heartbeat = Duration::from_millis(50);
    (settings.election_min, settings.election_max) = election;
    settings.patience = Duration::from_secs(20);
    RaftNode::open(settings).await.unwrap()
}

/// A token for one node.
pub(crate) async fn token(host: &Host, role: Role) -> Token {
    let hour = Duration::from_secs(3600);
    host.node.issue_token(ROOT, role, hour, 1).await.unwrap()
}

/// What a stranger with `token` asks, who calls himself `name`.
pub(crate) fn stranger(name: &str, token: &Token) -> JoinAsk {
    JoinAsk {
        id: rand::random(),
        secret: token.secret,
        name: name.parse().unwrap(),
        peer: free_address(),
        beat_key: [7; 32],
        spki: public_key_of(&KeyPair::generate().unwrap()),
        addresses: vec![],
    }
}
