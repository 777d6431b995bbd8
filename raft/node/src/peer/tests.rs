//! Who may come in, and what a lane does when its peer goes away.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls_pki_types::ServerName;
use tempfile::TempDir;
use tokio::net::TcpListener;
use vipd_core::codec::Wire;
use vipd_core::id::NodeId;

use super::admission::{JoinAnswer, JoinAsk};
use super::hello::{Caller, Hello, Lane, PROTOCOL, Refused, Welcome, get_welcome};
use super::listener::{Feeder, Listener, Service};
use super::message::{Request, Response};
use super::{CallError, Directory, Tls, open_stream, read_frame, write_frame};
use crate::identity::{Identity, Init, init, node_server_name};
use crate::machine::Shared;

const PATIENCE: Duration = Duration::from_secs(5);

struct Echo {
    me: ([u8; 16], NodeId),
    removed: AtomicBool,
    asked: AtomicUsize,
}

impl Service for Echo {
    fn me(&self) -> ([u8; 16], NodeId) {
        self.me
    }
    fn was_removed(&self, _node: NodeId) -> bool {
        self.removed.load(Ordering::SeqCst)
    }
    async fn answer(&self, _from: NodeId, _request: Request) -> Response {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Response::Done
    }
    async fn feed(&self, _from: NodeId, _stream: Feeder) -> io::Result<()> {
        Ok(())
    }
    async fn admit(&self, _ask: JoinAsk) -> Result<JoinAnswer, String> {
        Err("not today".into())
    }
}

/// A listening node of a fresh cluster, and its own identity, which also dials.
struct Host {
    identity: Identity,
    service: Arc<Echo>,
    listener: Listener,
    _dir: TempDir,
}

async fn host() -> Host {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    init(&Init {
        data_dir: dir.path().to_path_buf(),
        name: "n1".parse().unwrap(),
        peer: socket.local_addr().unwrap(),
        addresses: vec![],
        first: vec![],
    })
    .unwrap();
    let identity = Identity::load(dir.path()).unwrap();
    let me = (identity.cluster, identity.node);
    let service = Arc::new(Echo {
        me,
        removed: false.into(),
        asked: 0.into(),
    });
    let listener = Listener::start(socket, Tls::new(&identity).unwrap(), service.clone()).unwrap();
    Host {
        identity,
        service,
        listener,
        _dir: dir,
    }
}

fn caller(host: &Host, from: u64, to: u64) -> Option<Caller> {
    Some(Caller {
        cluster: host.identity.cluster,
        from: NodeId(from),
        to: NodeId(to),
    })
}

/// Greets `addr` with `tls` and returns what it says.
async fn greet(
    tls: &Tls,
    addr: SocketAddr,
    name: ServerName<'static>,
    hello: &Hello,
) -> io::Result<Welcome> {
    let mut stream = open_stream(&tls.connector, addr, name, PATIENCE).await?;
    write_frame(&mut stream, &hello.to_bytes()).await?;
    Ok(get_welcome(&read_frame(&mut stream, 1024).await?).unwrap())
}

#[tokio::test]
async fn a_member_comes_in_only_under_its_own_number_and_only_where_it_meant_to() {
    let host = host().await;
    let tls = Tls::new(&host.identity).unwrap();
    let name = node_server_name(&host.identity.cluster, NodeId(1));
    let say = async |protocol, caller| {
        let hello = Hello {
            protocol,
            lane: Lane::Log,
            caller,
        };
        greet(&tls, host.listener.addr(), name.clone(), &hello)
            .await
            .unwrap()
    };
    assert_eq!(say(PROTOCOL, caller(&host, 1, 1)).await, Ok(()));
    assert_eq!(
        say(PROTOCOL, caller(&host, 2, 1)).await,
        Err(Refused::NotYou)
    );
    assert_eq!(
        say(PROTOCOL, caller(&host, 1, 7)).await,
        Err(Refused::NotMe { me: NodeId(1) })
    );
    assert_eq!(
        say(PROTOCOL + 1, caller(&host, 1, 1)).await,
        Err(Refused::Protocol { ours: PROTOCOL })
    );
    assert_eq!(
        say(PROTOCOL, None).await,
        Err(Refused::NotYou),
        "a certificate alone is no greeting"
    );
    let other = Caller {
        cluster: [0; 16],
        from: NodeId(1),
        to: NodeId(1),
    };
    assert_eq!(say(PROTOCOL, Some(other)).await, Err(Refused::OtherCluster));
    host.service.removed.store(true, Ordering::SeqCst);
    assert_eq!(
        say(PROTOCOL, caller(&host, 1, 1)).await,
        Err(Refused::Removed)
    );
    host.listener.stop().await;
}

#[tokio::test]
async fn a_stranger_without_a_certificate_may_only_ask_to_join() {
    let host = host().await;
    let connector = super::joiner_config(crate::identity::fingerprint(
        host.identity.authority.certificate(),
    ))
    .unwrap();
    let tls = Tls {
        connector: Arc::new(connector).into(),
        ..Tls::new(&host.identity).unwrap()
    };
    let name = crate::identity::server_name(crate::identity::ANY_VOTER.into());
    let say = async |lane, caller| {
        let hello = Hello {
            protocol: PROTOCOL,
            lane,
            caller,
        };
        greet(&tls, host.listener.addr(), name.clone(), &hello)
            .await
            .unwrap()
    };
    let lanes = [
        Lane::Pulse,
        Lane::Log,
        Lane::Bulk,
        Lane::Follow,
        Lane::Records,
    ];
    for lane in lanes {
        assert_eq!(say(lane, None).await, Err(Refused::NotYou), "{lane:?}");
        assert_eq!(
            say(lane, caller(&host, 1, 1)).await,
            Err(Refused::NotYou),
            "{lane:?}"
        );
    }
    assert_eq!(say(Lane::Join, None).await, Ok(()));
    assert_eq!(host.service.asked.load(Ordering::SeqCst), 0);
    host.listener.stop().await;
}

#[tokio::test]
async fn clusters_do_not_talk_to_each_other() {
    let (host, foreign) = (host().await, host().await);
    // Same node number, another CA: neither side accepts the other.
    let tls = Tls::new(&foreign.identity).unwrap();
    let name = node_server_name(&host.identity.cluster, NodeId(1));
    let hello = Hello {
        protocol: PROTOCOL,
        lane: Lane::Log,
        caller: caller(&host, 1, 1),
    };
    let error = greet(&tls, host.listener.addr(), name, &hello)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    // A stranger's certificate of another CA is refused even by one who checks nothing.
    let pinned = super::joiner_config(crate::identity::fingerprint(
        host.identity.authority.certificate(),
    ))
    .unwrap();
    let mut own = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_protocol_versions(&[&rustls::version::TLS13])
    .unwrap()
    .dangerous()
    .with_custom_certificate_verifier(pinned_verifier(&host))
    .with_client_auth_cert(foreign.identity.chain(), foreign.identity.private_key())
    .unwrap();
    own.alpn_protocols = pinned.alpn_protocols;
    let tls = Tls {
        connector: Arc::new(own).into(),
        ..tls
    };
    let name = crate::identity::server_name(crate::identity::ANY_VOTER.into());
    let error = greet(&tls, host.listener.addr(), name, &hello)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("UnknownCA") || error.to_string().contains("UnknownIssuer"),
        "{error}"
    );
    host.listener.stop().await;
    foreign.listener.stop().await;
}

fn pinned_verifier(host: &Host) -> Arc<dyn rustls::client::danger::ServerCertVerifier> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(host.identity.authority.certificate().clone())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_lane_says_at_once_that_nobody_is_there_and_connects_when_somebody_is() {
    let host = host().await;
    let shared = Shared::default();
    let directory = Directory::new(&host.identity, Tls::new(&host.identity).unwrap(), shared);
    let lane = directory.lane(NodeId(1), Lane::Pulse);
    let error = lane.call(&Request::Ping, PATIENCE).await.unwrap_err();
    assert!(
        matches!(error, CallError::Unreachable(_)) && error.to_string().contains("not known"),
        "{error}"
    );

    let addr = host.listener.addr();
    directory.hint(NodeId(1), addr);
    let start = Instant::now();
    while lane.call(&Request::Ping, PATIENCE).await.is_err() {
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    host.listener.stop().await;
    let error = lane.call(&Request::Ping, PATIENCE).await.unwrap_err();
    assert!(!error.to_string().is_empty());

    // The same node is back on the same port.
    let socket = TcpListener::bind(addr).await.unwrap();
    let again = Listener::start(
        socket,
        Tls::new(&host.identity).unwrap(),
        host.service.clone(),
    )
    .unwrap();
    let start = Instant::now();
    while lane.call(&Request::Ping, PATIENCE).await.is_err() {
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    again.stop().await;
}

#[tokio::test]
async fn a_peer_that_accepts_and_says_nothing_costs_the_caller_only_its_patience() {
    let host = host().await;
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let directory = Directory::new(
        &host.identity,
        Tls::new(&host.identity).unwrap(),
        Shared::default(),
    );
    directory.hint(NodeId(1), mute.local_addr().unwrap());
    let lane = directory.lane(NodeId(1), Lane::Pulse);
    for _ in 0..3 {
        let start = Instant::now();
        let error = lane
            .call(&Request::Ping, Duration::from_millis(40))
            .await
            .unwrap_err();
        assert!(matches!(error, CallError::Unreachable(_)), "{error}");
        assert!(
            start.elapsed() < Duration::from_millis(400),
            "{:?}",
            start.elapsed()
        );
    }
    host.listener.stop().await;
}
