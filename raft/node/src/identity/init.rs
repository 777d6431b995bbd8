//! The first node of a cluster.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rand::RngCore;
use rcgen::KeyPair;
use vipd_core::codec::{DecodeError, Reader, Wire, Writer};
use vipd_core::command::{Command, Proposal};
use vipd_core::id::NodeId;
use vipd_core::name::Name;
use vipd_core::node::Role;
use vipd_core::time::Millis;

use super::authority::Subject;
use super::file::replace;
use super::{Authority, Identity, IdentityError, fingerprint, public_key_of};
use crate::store::{SledDisk, StoreError};
use crate::token::Token;
use crate::types::Request;

/// The file of requests that the first start proposes.
const BOOTSTRAP: &str = "bootstrap";

/// What `vipd init` is told.
#[derive(Clone, Debug)]
pub struct Init {
    /// Where the node keeps its data; made if absent, else it must hold no node.
    pub data_dir: PathBuf,
    /// Its name.
    pub name: Name,
    /// Where its peers will reach it.
    pub peer: SocketAddr,
    /// Further addresses at which clients of its API may reach it, for its certificate.
    pub addresses: Vec<IpAddr>,
    /// Commands to apply right after the cluster is made: an admin token, say.
    pub first: Vec<Command>,
}

/// How long, and for how many nodes, the join token of a new cluster is good.
const JOIN_TOKEN: (Duration, u32) = (Duration::from_secs(24 * 60 * 60), 16);

/// What `vipd init` hands out.
#[derive(Clone, Debug)]
pub struct Initialized {
    /// Admits voters, for 24 hours, 16 times; valid once the node runs.
    pub join_token: Token,
}

/// Whether `dir` holds a node.
#[must_use]
pub fn is_node(dir: &Path) -> bool {
    dir.join(super::IDENTITY).exists()
}

/// Where peers reach the node in `dir`.
///
/// # Errors
/// If it holds none, or one that cannot be read.
pub fn peer_address(dir: &Path) -> Result<SocketAddr, IdentityError> {
    Ok(Identity::load(dir)?.peer)
}

/// The name under which the node in `dir` joined.
///
/// # Errors
/// If it holds none, or one that cannot be read.
pub fn joined_name(dir: &Path) -> Result<Name, IdentityError> {
    Ok(Identity::load(dir)?.name)
}

/// Why a node could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is one already.
    #[error(
        "{0} holds a node already, and nothing was changed; start it with `vipd run`, or choose another data \
             directory"
    )]
    Exists(PathBuf),
    /// Peers could never reach it there.
    #[error(
        "{0} is no address at which peers can reach this node; listen on (or advertise) one of its own \
             addresses with a port"
    )]
    Unreachable(SocketAddr),
    /// The directory cannot be used.
    #[error(
        "cannot use the data directory {path}: {source}; make it writable for the user that runs vipd"
    )]
    DataDir {
        /// Which.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The identity cannot be kept.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The store cannot be made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cryptography library refused.
    #[error("cannot make the certificates of the cluster: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// Makes the first node: the cluster's CA, the node's own certificate and keys, and what its first start will
/// propose. The node is number 1; nothing runs yet.
///
/// # Errors
/// [`InitError`]; a directory that holds a node is left as it is.
pub fn init(options: &Init) -> Result<Initialized, InitError> {
    if options.peer.ip().is_unspecified() || options.peer.port() == 0 {
        return Err(InitError::Unreachable(options.peer));
    }
    take_data_dir(&options.data_dir)?;
    let mut rng = rand::rng();
    let (mut cluster, mut beat_secret) = ([0; 16], [0; 32]);
    rng.fill_bytes(&mut cluster);
    rng.fill_bytes(&mut beat_secret);
    let authority = Authority::generate(&cluster)?;
    let key = KeyPair::generate()?;
    let mut addresses = vec![
        options.peer.ip(),
        IpAddr::from([127, 0, 0, 1]),
        IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
    ];
    addresses.extend(options.addresses.iter().filter(|ip| !ip.is_unspecified()));
    let subject = Subject {
        cluster: &cluster,
        node: NodeId(1),
        name: &options.name,
        role: Role::Voter,
        addresses: &addresses,
    };
    let certificate = authority
        .sign(&subject, &public_key_of(&key))
        .expect("an authority just generated holds its key")?;
    let identity = Identity {
        cluster,
        node: NodeId(1),
        name: options.name.clone(),
        role: Role::Voter,
        peer: options.peer,
        authority,
        certificate,
        key: key.serialize_der(),
        beat_secret,
        members: Vec::new(),
    };
    let bootstrap = Command::Bootstrap {
        cluster,
        name: options.name.clone(),
        peer: options.peer,
        beat_key: identity.beat_key(),
    };
    let at = now();
    let valid = u64::try_from(JOIN_TOKEN.0.as_millis()).unwrap_or(u64::MAX);
    let expires = Millis(at.0.saturating_add(valid));
    let join_token = Token::generate(
        Role::Voter,
        expires,
        fingerprint(identity.authority.certificate()),
    );
    let admit = Command::PutJoinToken {
        token: join_token.hash(),
        role: join_token.role,
        expires,
        uses: JOIN_TOKEN.1,
    };
    let commands = [bootstrap, admit]
        .into_iter()
        .chain(options.first.iter().cloned());
    let requests = commands.map(|command| Request {
        id: rand::random(),
        proposal: Proposal {
            at,
            command,
            by: None,
        },
    });
    Bootstrap {
        requests: requests.collect(),
    }
    .save(&options.data_dir)?;
    SledDisk::create(&options.data_dir)?;
    // Last, since it is what makes the directory a node.
    identity.save(&options.data_dir)?;
    Ok(Initialized { join_token })
}

/// The wall clock, for log entries.
/// The wall clock, which log entries are stamped with. A clock before 1970 reads as 1970.
#[must_use]
pub fn now() -> Millis {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Makes `dir` if absent, for its owner only, and refuses one that holds a node.
pub(crate) fn take_data_dir(dir: &Path) -> Result<(), InitError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| InitError::DataDir {
            path: dir.to_path_buf(),
            source,
        })?;
    let holds = |name: &str| dir.join(name).symlink_metadata().is_ok();
    if [super::IDENTITY, "log", "snapshots"].into_iter().any(holds) {
        return Err(InitError::Exists(dir.to_path_buf()));
    }
    // Without an identity these are what a crash left of an attempt that came to nothing.
    SledDisk::abandon(dir)?;
    drop(fs::remove_file(dir.join(BOOTSTRAP)));
    Ok(())
}

/// What the first start of a cluster proposes, once: each request keeps its number, so that a crash in the
/// middle repeats nothing.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    pub(crate) requests: Vec<Request>,
}

impl Bootstrap {
    fn save(&self, data_dir: &Path) -> Result<(), IdentityError> {
        let mut out = Writer::new();
        self.requests.encode(&mut out);
        replace(&data_dir.join(BOOTSTRAP), &out.finish(), 0o600)
    }

    /// What is still to be proposed, if anything.
    pub(crate) fn load(data_dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = data_dir.join(BOOTSTRAP);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(IdentityError::Io {
                    what: "read",
                    path,
                    source,
                });
            }
        };
        let decode = |bytes: &[u8]| -> Result<Vec<Request>, DecodeError> {
            Vec::decode(&mut Reader::new(bytes))
        };
        decode(&bytes)
            .map(|requests| Some(Self { requests }))
            .map_err(|reason| IdentityError::Damaged { path, reason })
    }

    /// Forgets them, once they are applied.
    pub(crate) fn done(data_dir: &Path) -> Result<(), IdentityError> {
        let path = data_dir.join(BOOTSTRAP);
        fs::remove_file(&path).map_err(|source| IdentityError::Io {
            what: "remove",
            path,
            source,
        })
    }
}
