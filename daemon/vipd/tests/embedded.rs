//! Whole nodes inside a test: real log, real peers and beats on loopback, real API; the kernel is a twin in
//! memory. No root needed.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use vipd::config::Config;
use vipd::{Handle, Node};
use vipd_api_types::{Block, Families, Mode, Pool, PoolSpec, PoolWrite, Vip, VipSpec, VipWrite};
use vipd_client::{Client, ConnectionFilter, Server, Settings, WriteOptions};
use vipd_datapath::{Interface, Twin, TwinHandle};
use vipd_raft::{Init, Join};

const BOUND: Duration = Duration::from_secs(20);

/// A port that was free a moment ago, for TCP and UDP.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

struct Member {
    dir: TempDir,
    twin: TwinHandle,
    handle: Handle,
    running: JoinHandle<anyhow::Result<vipd::Ended>>,
    /// Keeps the watch of interfaces open.
    _links: watch::Sender<u64>,
}

impl Member {
    async fn start(dir: TempDir, name: &str, peer: SocketAddr) -> Self {
        let text = format!(
            "[node]\nname = \"{name}\"\ndata_dir = {:?}\n[cluster]\nlisten = \"{peer}\"\n[api]\nlisten = [\"unix:{}\"]\n\
             [announce]\ninterfaces = [\"^eth0$\"]\n[lease]\nprofile = \"safe\"\n",
            dir.path().join("data"),
            socket(dir.path()).display()
        );
        let config = Config::parse(Path::new("test"), &text).unwrap();
        let (twin, seen) = Twin::new(vec![interface("eth0"), interface("eth1")]);
        let (links, watched) = watch::channel(0);
        let node = Node::build(config, twin, watched).await.unwrap();
        let handle = node.handle();
        Self {
            dir,
            twin: seen,
            handle,
            running: tokio::spawn(node.run()),
            _links: links,
        }
    }

    fn client(&self) -> Client {
        Client::new(&Server::Unix(socket(self.dir.path())), Settings::default()).unwrap()
    }

    fn answers(&self, address: IpAddr) -> bool {
        self.twin.answers(address)
    }
}

fn interface(name: &str) -> Interface {
    Interface {
        name: name.into(),
        index: 2,
        mac: [2, 0, 0, 0, 0, 1],
        up: true,
        prefixes: vec![
            ("10.0.0.1".parse().unwrap(), 24),
            ("fd00::1".parse().unwrap(), 64),
        ],
    }
}

fn socket(dir: &Path) -> std::path::PathBuf {
    dir.join("api.sock")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < BOUND, "waited {BOUND:?} until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A node that stops before the others have their votes leaves them without a majority.
async fn all_vote(client: &Client, nodes: usize) {
    let begun = Instant::now();
    loop {
        let cluster = client.cluster().await;
        let voting = |cluster: &vipd_api_types::Cluster| {
            cluster
                .members
                .iter()
                .filter(|member| member.voting)
                .count()
                == nodes
        };
        if cluster.as_ref().is_ok_and(voting) {
            return;
        }
        assert!(begun.elapsed() < BOUND, "{nodes} voters: {cluster:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn three() -> Vec<Member> {
    let (first, peer) = (TempDir::new().unwrap(), free());
    let init = Init {
        data_dir: first.path().join("data"),
        name: "n1".parse().unwrap(),
        peer,
        addresses: Vec::new(),
        first: Vec::new(),
    };
    let token = vipd_raft::init(&init).unwrap().join_token;
    let mut members = vec![Member::start(first, "n1", peer).await];
    for name in ["n2", "n3"] {
        let (dir, own) = (TempDir::new().unwrap(), free());
        let join = Join {
            addr: peer,
            token: token.clone(),
            data_dir: dir.path().join("data"),
            name: name.parse().unwrap(),
            peer: own,
            addresses: Vec::new(),
        };
        let begun = Instant::now();
        while let Err(error) = vipd_raft::join(&join).await {
            assert!(begun.elapsed() < BOUND, "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        members.push(Member::start(dir, name, own).await);
    }
    members
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_hold_a_vip_on_exactly_one_and_pass_it_on_when_its_holder_stops() {
    let mut members = three().await;
    let client = members[0].client();
    let pool = PoolWrite {
        name: None,
        labels: Default::default(),
        spec: PoolSpec {
            blocks: vec![
                Block::from_short("10.0.0.50-10.0.0.60"),
                Block::from_short("fd00::50-fd00::60"),
            ],
            ..PoolSpec::default()
        },
    };
    client
        .put::<Pool>("web", &pool, WriteOptions::default())
        .await
        .unwrap();
    let vip = VipWrite {
        name: None,
        labels: Default::default(),
        spec: VipSpec {
            families: Families::RequireDual,
            ..VipSpec::default()
        },
    };
    client
        .put::<Vip>("www", &vip, WriteOptions::default())
        .await
        .unwrap();
    let addresses: [IpAddr; 2] = ["10.0.0.50".parse().unwrap(), "fd00::50".parse().unwrap()];
    let serving = |members: &[Member]| -> Vec<usize> {
        let both = |member: &Member| addresses.iter().all(|address| member.answers(*address));
        (0..members.len()).filter(|i| both(&members[*i])).collect()
    };
    // It is silent for a beat when it begins to count by more voters.
    all_vote(&client, members.len()).await;
    until("one node answers for both addresses", || {
        serving(&members).len() == 1
    })
    .await;

    let holder = serving(&members)[0];
    let wanted = members[holder].twin.wanted();
    assert!(
        wanted
            .addresses
            .values()
            .all(|entry| entry.interface == "eth0")
    );
    assert_eq!(
        wanted.interfaces,
        ["eth0", "eth1"].map(String::from).into(),
        "eth1 announces nothing, and is fenced: Linux answers on any interface"
    );
    let mut stopped = members.remove(holder);
    stopped.handle.stop();
    until("another node answers for both addresses", || {
        serving(&members).len() == 1
    })
    .await;
    tokio::time::timeout(BOUND, &mut stopped.running)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(
        addresses.iter().all(|address| !stopped.answers(*address)),
        "who stopped is silent"
    );

    for member in members {
        member.handle.stop();
        tokio::time::timeout(BOUND, member.running)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stated_name_or_role_that_is_not_the_one_it_joined_with_is_refused() {
    let (dir, peer) = (TempDir::new().unwrap(), free());
    let data_dir = dir.path().join("data");
    let init = Init {
        data_dir: data_dir.clone(),
        name: "n1".parse().unwrap(),
        peer,
        addresses: Vec::new(),
        first: Vec::new(),
    };
    vipd_raft::init(&init).unwrap();
    for (stated, here) in [
        ("name = \"n1\"\nrole = \"agent\"", ["agent", "voter"]),
        ("name = \"n2\"", ["n2", "joined as n1"]),
    ] {
        let text = format!("[node]\n{stated}\ndata_dir = {data_dir:?}\n[api]\nlisten = []\n");
        let config = Config::parse(Path::new("test"), &text).unwrap();
        let (twin, _seen) = Twin::new(Vec::new());
        let (_links, watched) = watch::channel(0);
        let built = Node::build(config, twin, watched).await;
        let error = built.err().unwrap().to_string();
        assert!(here.iter().all(|word| error.contains(word)), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_node_that_was_stopped_with_a_vip_holds_it_and_new_ones_when_it_is_back_and_balances_them()
 {
    let (dir, peer) = (TempDir::new().unwrap(), free());
    let init = Init {
        data_dir: dir.path().join("data"),
        name: "n1".parse().unwrap(),
        peer,
        addresses: Vec::new(),
        first: Vec::new(),
    };
    vipd_raft::init(&init).unwrap();
    let first = Member::start(dir, "n1", peer).await;
    let pool = PoolWrite {
        name: None,
        labels: Default::default(),
        spec: PoolSpec {
            blocks: vec![Block::from_short("10.0.0.50-10.0.0.60")],
            ..PoolSpec::default()
        },
    };
    let vip = VipWrite {
        name: None,
        labels: Default::default(),
        spec: VipSpec {
            families: Families::Ipv4,
            ..VipSpec::default()
        },
    };
    let client = first.client();
    let options = WriteOptions::default;
    client.put::<Pool>("web", &pool, options()).await.unwrap();
    client.put::<Vip>("a", &vip, options()).await.unwrap();
    let (a, b) = ("10.0.0.50".parse().unwrap(), "10.0.0.51".parse().unwrap());
    until("it answers", || first.answers(a)).await;
    first.handle.stop();
    tokio::time::timeout(BOUND, first.running)
        .await
        .unwrap()
        .unwrap()
        .unwrap();

    // Nobody has withdrawn its lease meanwhile: there is nobody.
    let again = Member::start(first.dir, "n1", peer).await;
    until("it answers again", || again.answers(a)).await;
    let client = again.client();
    client.put::<Vip>("b", &vip, options()).await.unwrap();
    until("it answers for the new one", || again.answers(b)).await;
    let mut balanced = vip.clone();
    balanced.spec.mode = Mode::Nat;
    balanced.spec.ports = vec!["tcp/80=8080".parse().unwrap()];
    balanced.spec.backends = vec!["10.9.0.1".parse().unwrap()];
    client.put::<Vip>("b", &balanced, options()).await.unwrap();
    until("its datapath balances", || {
        let services = again.twin.wanted().services;
        let mut backends = services.iter().flat_map(|(at, service)| {
            let backends = service.backends.iter();
            backends.map(move |to| (at.address, at.port, to.port))
        });
        backends.next() == Some((b, 80, 8080)) && backends.next().is_none()
    })
    .await;
    assert!(again.answers(a) && again.answers(b), "as before");
    let seen = client.lb_services().await.unwrap();
    let seen = seen.items.first().unwrap();
    assert_eq!((seen.vip.as_deref(), seen.held), (Some("b"), true));
    assert_eq!(seen.backends[0].share, 10_000, "all of it");
    let table = client.lb_maglev(b, &"tcp/80".parse().unwrap()).await;
    assert_eq!(table.unwrap().backends.len(), 1);
    let flows = client.lb_connections(&ConnectionFilter::default()).await;
    assert_eq!(flows.unwrap().known, 0);
    again.handle.stop();
    tokio::time::timeout(BOUND, again.running)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}
