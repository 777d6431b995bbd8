//! The asking side of a join.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::RngCore;
use rcgen::KeyPair;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use vipd_core::codec::{DecodeError, Wire};
use vipd_core::id::NodeId;
use vipd_core::name::Name;
use vipd_core::node::Role;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::identity::{
    ANY_VOTER, Authority, Identity, InitError, public_key_of, server_name, take_data_dir,
};
use crate::peer::{
    Hello, JoinAnswer, JoinAsk, Lane, PROTOCOL, get_welcome, joiner_config, open_stream,
    read_frame, write_frame,
};
use crate::store::SledDisk;
use crate::token::Token;

/// How long the connection, and then the answer, may take.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(15);
/// How often, and after which pause, the question is repeated when the connection breaks.
const RETRIES: usize = 3;
const RETRY: Duration = Duration::from_millis(500);
const FRAME: usize = 64 * 1024;

/// What `vipd join` is told.
#[derive(Clone, Debug)]
pub struct Join {
    /// A member of the cluster: its peer address.
    pub addr: SocketAddr,
    /// The token.
    pub token: Token,
    /// Where the new node keeps its data; made if absent, else it must hold no node.
    pub data_dir: PathBuf,
    /// Its name.
    pub name: Name,
    /// Where its peers will reach it.
    pub peer: SocketAddr,
    /// Further addresses at which clients of its API may reach it, for its certificate.
    pub addresses: Vec<IpAddr>,
}

/// Why a node could not join. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The data directory or the address is no good.
    #[error(transparent)]
    Init(#[from] InitError),
    /// Nobody answers there.
    #[error(
        "cannot reach a member at {addr}: {source}; check the address (its [cluster] listen), that vipd runs \
             there, and the firewall"
    )]
    Unreachable {
        /// Where.
        addr: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// The node there is of another cluster.
    #[error(
        "the node at {0} does not belong to the cluster of this token (its CA is another); use a token made by \
             that cluster, or the address of the token's cluster"
    )]
    WrongCluster(SocketAddr),
    /// No answer came.
    #[error(
        "the connection to {addr} broke before it answered ({source}); the node may be on the cluster's list by now. \
             Next: look with `vipctl node list`, remove it there if it is, and join again"
    )]
    Broken {
        /// Whose answer.
        addr: SocketAddr,
        /// How it ended.
        source: io::Error,
    },
    /// The cluster said no.
    #[error("{addr} did not admit this node: {why}")]
    Refused {
        /// Who said so.
        addr: SocketAddr,
        /// Why.
        why: String,
    },
    /// The answer makes no sense.
    #[error("the answer of {addr} makes no sense ({why}); are both vipd of the same version?")]
    Garbled {
        /// Whose.
        addr: SocketAddr,
        /// What is wrong.
        why: String,
    },
}

/// Joins the cluster of `options.token` through the member at `options.addr`, and writes the new node's identity.
/// Returns its number and role; nothing runs yet.
///
/// # Errors
/// [`JoinError`], one line each. A token is spent only when the cluster admitted the node.
pub async fn join(options: &Join) -> Result<(NodeId, Role), JoinError> {
    if options.peer.ip().is_unspecified() || options.peer.port() == 0 {
        return Err(InitError::Unreachable(options.peer).into());
    }
    take_data_dir(&options.data_dir)?;
    let key = KeyPair::generate().map_err(InitError::Certificate)?;
    let mut beat_secret = [0; 32];
    rand::rng().fill_bytes(&mut beat_secret);
    let ask = JoinAsk {
        id: rand::random(),
        secret: options.token.secret,
        name: options.name.clone(),
        peer: options.peer,
        beat_key: PublicKey::from(&StaticSecret::from(beat_secret)).to_bytes(),
        spki: public_key_of(&key),
        addresses: options.addresses.clone(),
    };
    let (answer, ca) = insist(options, &ask).await?;
    let identity = Identity {
        cluster: answer.cluster,
        node: answer.node,
        name: options.name.clone(),
        role: answer.role,
        peer: options.peer,
        authority: Authority::from_parts(ca, answer.ca_key),
        certificate: answer.certificate,
        key: key.serialize_der(),
        beat_secret,
        members: answer.members,
    };
    if answer.role.votes() {
        SledDisk::create(&options.data_dir).map_err(InitError::Store)?;
    }
    identity
        .save(&options.data_dir)
        .map_err(InitError::Identity)?;
    Ok((answer.node, answer.role))
}

/// Asks again when the connection breaks: the question has a number, so the node is admitted once.
async fn insist(options: &Join, ask: &JoinAsk) -> Result<(JoinAnswer, Vec<u8>), JoinError> {
    let mut asked = exchange(options, ask).await;
    for _ in 0..RETRIES {
        if !matches!(asked, Err(JoinError::Broken { .. })) {
            break;
        }
        sleep(RETRY).await;
        asked = exchange(options, ask).await;
    }
    asked
}

/// Asks, and returns the answer with the CA's certificate that the connection was checked by.
async fn exchange(options: &Join, ask: &JoinAsk) -> Result<(JoinAnswer, Vec<u8>), JoinError> {
    let addr = options.addr;
    let unreachable = |source| JoinError::Unreachable { addr, source };
    let config = joiner_config(options.token.fingerprint)
        .map_err(|error| unreachable(io::Error::other(error)))?;
    let connector = TlsConnector::from(Arc::new(config));
    let opened = open_stream(&connector, addr, server_name(ANY_VOTER.into()), CONNECT).await;
    let mut stream = opened.map_err(|error| {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(_)) => JoinError::WrongCluster(addr),
            _ => unreachable(error),
        }
    })?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let pinned = chain
        .iter()
        .find(|cert| crate::identity::fingerprint(cert) == options.token.fingerprint);
    let ca = pinned
        .map(|cert| cert.to_vec())
        .ok_or(JoinError::WrongCluster(addr))?;
    let hello = Hello {
        protocol: PROTOCOL,
        lane: Lane::Join,
        caller: None,
    };
    let garbled = |error: DecodeError| JoinError::Garbled {
        addr,
        why: error.to_string(),
    };
    let greet = async {
        write_frame(&mut stream, &hello.to_bytes()).await?;
        read_frame(&mut stream, FRAME).await
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    let greeted = timeout(CONNECT, greet)
        .await
        .unwrap_or_else(|_| Err(late()));
    if let Err(refused) = get_welcome(&greeted.map_err(unreachable)?).map_err(garbled)? {
        return Err(JoinError::Refused {
            addr,
            why: refused.to_string(),
        });
    }
    let talk = async {
        write_frame(&mut stream, &ask.to_bytes()).await?;
        read_frame(&mut stream, FRAME).await
    };
    let answer = timeout(ANSWER, talk).await.unwrap_or_else(|_| Err(late()));
    let answer = answer.map_err(|source| JoinError::Broken { addr, source })?;
    let answer = Result::<JoinAnswer, String>::from_bytes(&answer).map_err(garbled)?;
    Ok((answer.map_err(|why| JoinError::Refused { addr, why })?, ca))
}
