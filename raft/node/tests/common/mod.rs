//! Nodes on loopback, each with a data directory of its own.
#![allow(dead_code)] // each test file uses a part of it

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vipd_core::asker::Who;
use vipd_core::block::Block;
use vipd_core::command::{Applied, Command, Expect, Outcome};
use vipd_core::id::NodeId;
use vipd_core::name::{Labels, Name};
use vipd_core::node::Role;
use vipd_core::pool::PoolSpec;
use vipd_raft::{Init, Join, RaftNode, Settings, Status, Token, init, join};

/// Who asks for what a test asks for.
pub(crate) const ROOT: Who = Who::Local { uid: 0 };
/// The longest a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A node's place on disk and on the network.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) addr: SocketAddr,
    pub(crate) name: Name,
}

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        // `RUST_LOG=debug cargo test …` shows what a failing cluster did.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        drop(
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_test_writer()
                .try_init(),
        );
        // The kernel does not hand out a port it has just given away for a while.
        let addr = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            addr,
            name: name.parse().unwrap(),
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        let mut settings = Settings::new(self.dir.path().join("data"), self.addr);
        // Tests of others share the machine; only the timing tests use the default profile.
        settings.heartbeat = Duration::from_millis(50);
        settings.election_min = Duration::from_millis(250);
        settings.election_max = Duration::from_millis(500);
        settings.patience = PATIENCE;
        settings
    }

    pub(crate) fn init(&self) -> Result<(), vipd_raft::InitError> {
        self.init_at(self.dir.path().join("data"))
    }

    pub(crate) fn init_in(&self, data_dir: &Path) {
        self.init_at(data_dir.to_path_buf()).unwrap();
    }

    fn init_at(&self, data_dir: PathBuf) -> Result<(), vipd_raft::InitError> {
        init(&Init {
            data_dir,
            name: self.name.clone(),
            peer: self.addr,
            addresses: vec![],
            first: vec![],
        })
        .map(drop)
    }

    pub(crate) async fn join(
        &self,
        at: SocketAddr,
        token: Token,
    ) -> Result<(NodeId, Role), vipd_raft::JoinError> {
        join(&Join {
            addr: at,
            token,
            data_dir: self.dir.path().join("data"),
            name: self.name.clone(),
            peer: self.addr,
            addresses: vec![],
        })
        .await
    }

    pub(crate) async fn open(&self) -> RaftNode {
        RaftNode::open(self.settings()).await.unwrap()
    }
}

/// A cluster of voters `n1`, `n2`, …
pub(crate) struct Cluster {
    pub(crate) places: Vec<Place>,
    pub(crate) nodes: Vec<RaftNode>,
}

impl Cluster {
    pub(crate) async fn of(n: usize) -> Self {
        let places: Vec<Place> = (1..=n).map(|i| Place::new(&format!("n{i}"))).collect();
        places[0].init().unwrap();
        let mut nodes = vec![places[0].open().await];
        for place in &places[1..] {
            let token = nodes[0]
                .issue_token(ROOT, Role::Voter, Duration::from_secs(60), 1)
                .await
                .unwrap();
            place.join(places[0].addr, token).await.unwrap();
            nodes.push(place.open().await);
        }
        let cluster = Self { places, nodes };
        cluster.until_all_vote().await;
        cluster
    }

    pub(crate) async fn until_all_vote(&self) {
        let want = self.nodes.len();
        until("every node votes", || {
            let settled = |status: Status| {
                status.voters.len() == want && status.learners.is_empty() && !status.changing
            };
            self.nodes.iter().all(|node| settled(node.status()))
        })
        .await;
    }

    pub(crate) async fn leader(&self) -> usize {
        let mut found = None;
        until("somebody leads", || {
            found = leader_of(&self.nodes);
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Stops everybody.
    pub(crate) async fn down(&self) {
        for node in &self.nodes {
            node.shutdown().await;
        }
    }
}

/// The place in `nodes` of the one that all of them follow.
pub(crate) fn leader_of(nodes: &[RaftNode]) -> Option<usize> {
    let leader = nodes.first()?.status().leader?;
    let agreed = nodes
        .iter()
        .all(|node| node.status().leader == Some(leader));
    nodes
        .iter()
        .position(|node| node.id() == leader)
        .filter(|_| agreed)
}

/// Waits for `condition`, at most [`PATIENCE`].
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < PATIENCE,
            "waited {PATIENCE:?} until {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A command that makes the pool `name`, with the `n`th of many blocks that do not overlap.
pub(crate) fn pool(name: &str, n: impl Into<u32>) -> Command {
    let n = n.into();
    let block = Block::parse(&format!("10.{}.{}.0/24", 1 + n / 256, n % 256)).unwrap();
    let spec = PoolSpec {
        blocks: vec![block],
        ..PoolSpec::default()
    };
    Command::PutPool {
        name: name.parse().unwrap(),
        labels: Labels::new(),
        spec,
        expect: Expect::Any,
        care: vipd_core::pool::Care::default(),
    }
}

pub(crate) fn done(outcome: Outcome) -> u64 {
    match outcome.unwrap() {
        Applied::Done { revision } | Applied::Created { revision } => revision.0,
        other @ Applied::Joined { .. } => panic!("{other:?}"),
    }
}

pub(crate) fn has_pool(node: &RaftNode, name: &str) -> bool {
    node.state()
        .read()
        .pools()
        .contains_key(&name.parse::<Name>().unwrap())
}
