//! A node's API on a unix socket and on TLS, over the in-memory twin.
#![allow(dead_code, unreachable_pub)] // each test program uses its part

pub mod site;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use vipd_api::memory::Memory;
use vipd_api::{Api, bind_tcp, bind_unix, tls_config};
use vipd_api_types::{
    Access, Block, Families, Pool, PoolSpec, PoolWrite, TokenRequest, Vip, VipSpec, VipWrite,
};
use vipd_client::{Client, Error, Server, Settings, WriteOptions, Written};

/// Ended when it is dropped.
pub struct Node {
    pub memory: Arc<Memory>,
    pub socket: PathBuf,
    pub tls: SocketAddr,
    pub metrics: SocketAddr,
    pub ca_pem: String,
    pub stop: CancellationToken,
    _dir: TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Node {
    pub async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let memory = Memory::three_nodes();
        let api = Api::new(memory.clone());
        let stop = CancellationToken::new();
        let socket = dir.path().join("run/api.sock");
        let unix = bind_unix(&socket).unwrap();
        let tls = bind_tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let plain = bind_tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (tls_at, metrics_at) = (tls.local_addr().unwrap(), plain.local_addr().unwrap());
        let (ca_pem, chain, key) = certificates();
        let config = tls_config(chain, key).unwrap();
        let (a, b, c) = (api.clone(), api.clone(), api);
        let (s, t, m) = (stop.clone(), stop.clone(), stop.clone());
        tokio::spawn(async move { a.serve_unix(unix, s).await });
        tokio::spawn(async move { b.serve_tls(tls, config, t).await });
        tokio::spawn(async move { c.serve_metrics(plain, m).await });
        Self {
            memory,
            socket,
            tls: tls_at,
            metrics: metrics_at,
            ca_pem,
            stop,
            _dir: dir,
        }
    }

    /// A client on the unix socket.
    pub fn client(&self) -> Client {
        self.client_with(Settings::default())
    }

    pub fn client_with(&self, settings: Settings) -> Client {
        Client::new(&Server::Unix(self.socket.clone()), settings).unwrap()
    }

    /// A client on TLS.
    pub fn tls_client(&self, token: Option<&str>) -> Client {
        let settings = Settings {
            token: token.map(str::to_owned),
            ca_pem: Some(self.ca_pem.clone().into_bytes()),
            ..Settings::default()
        };
        Client::new(&format!("https://{}", self.tls).parse().unwrap(), settings).unwrap()
    }

    pub async fn token(&self, name: &str, access: Access) -> String {
        let request = TokenRequest {
            name: name.to_owned(),
            access,
            ttl_seconds: None,
        };
        self.client().create_token(&request).await.unwrap().token
    }
}

/// CA, certificate for 127.0.0.1 and its key, as PEM.
fn certificates() -> (String, Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &ca)
        .unwrap();
    let chain = vec![leaf.der().clone(), ca.der().clone()];
    (
        ca.pem(),
        chain,
        PrivateKeyDer::Pkcs8(key.serialize_der().into()),
    )
}

pub fn pool(blocks: &[&str]) -> PoolWrite {
    let blocks = blocks
        .iter()
        .map(|block| Block::from_short(block))
        .collect();
    PoolWrite {
        name: None,
        labels: Default::default(),
        spec: PoolSpec {
            blocks,
            ..PoolSpec::default()
        },
    }
}

pub fn vip(families: Families) -> VipWrite {
    VipWrite {
        name: None,
        labels: Default::default(),
        spec: VipSpec {
            families,
            ..VipSpec::default()
        },
    }
}

pub fn vip_at(addresses: &[&str]) -> VipWrite {
    let addresses = addresses
        .iter()
        .map(|&address| address.to_owned())
        .collect();
    VipWrite {
        name: None,
        labels: Default::default(),
        spec: VipSpec {
            addresses,
            ..VipSpec::default()
        },
    }
}

/// Pool `web` and VIP `www`, dual stack.
pub async fn web_and_www(client: &Client) -> (Pool, Vip) {
    let web = pool(&["10.0.0.10-10.0.0.20", "fd00::10-fd00::20"]);
    let web = done(
        client
            .put::<Pool>("web", &web, WriteOptions::default())
            .await,
    );
    let www = done(
        client
            .put::<Vip>("www", &vip(Families::RequireDual), WriteOptions::default())
            .await,
    );
    (web, www)
}

pub fn done<T: std::fmt::Debug>(written: Result<Written<T>, Error>) -> T {
    match written.unwrap() {
        Written::Done(Some(object)) => object,
        other => panic!("not an object that was written: {other:?}"),
    }
}

pub fn reason<T: std::fmt::Debug>(answer: Result<T, Error>) -> String {
    answer
        .unwrap_err()
        .reason()
        .unwrap_or("no problem document")
        .to_owned()
}

/// One raw exchange over plain TCP.
pub async fn http(at: SocketAddr, request: &str) -> String {
    exchange(tokio::net::TcpStream::connect(at).await.unwrap(), request).await
}

/// One raw exchange on a unix socket.
pub async fn http_unix(at: &Path, request: &str) -> String {
    exchange(tokio::net::UnixStream::connect(at).await.unwrap(), request).await
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
