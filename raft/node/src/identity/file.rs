//! The identity on disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use vipd_core::codec::{DecodeError, Reader, Wire, Writer};
use vipd_core::id::NodeId;
use vipd_core::name::Name;
use vipd_core::node::Role;

use super::{Authority, Identity};
use crate::raft_wire::{get_bytes, put_bytes};

/// The name of the file in the data directory.
pub(crate) const IDENTITY: &str = "identity";
const MAGIC: u32 = 0x7669_7049; // "vipI"
const VERSION: u8 = 1;

/// Why a node's identity cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is none.
    #[error(
        "{0} holds no node yet; make the first one with `vipd init`, a further one with `vipd join`"
    )]
    Missing(PathBuf),
    /// The file does not decode.
    #[error(
        "{path} is damaged: {reason}. Next: put back a copy of it, or remove the node from the cluster, move \
             the data directory away and `vipd join` again as a new member"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: DecodeError,
    },
    /// The operating system refused.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl Identity {
    /// The identity in `data_dir`.
    pub(crate) fn load(data_dir: &Path) -> Result<Self, IdentityError> {
        let path = data_dir.join(IDENTITY);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(IdentityError::Missing(data_dir.to_path_buf()));
            }
            Err(source) => {
                return Err(IdentityError::Io {
                    what: "read",
                    path,
                    source,
                });
            }
        };
        decode(&bytes).map_err(|reason| IdentityError::Damaged { path, reason })
    }

    /// Keeps this identity in `data_dir`, durably, and the CA's certificate beside it for people to use.
    pub(crate) fn save(&self, data_dir: &Path) -> Result<(), IdentityError> {
        replace(
            &data_dir.join("ca.pem"),
            self.authority.pem().as_bytes(),
            0o644,
        )?;
        replace(&data_dir.join(IDENTITY), &encode(self), 0o600)
    }
}

/// Writes a file aside, durably, and puts it in place at once.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), IdentityError> {
    let aside = path.with_extension("new");
    let write = || -> io::Result<()> {
        // A leftover of a crash may have another mode.
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(mode)
            .open(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    write().map_err(|source| IdentityError::Io {
        what: "write",
        path: path.to_path_buf(),
        source,
    })
}

fn encode(identity: &Identity) -> Vec<u8> {
    let mut body = Writer::new();
    identity.cluster.encode(&mut body);
    identity.node.encode(&mut body);
    identity.name.encode(&mut body);
    identity.role.encode(&mut body);
    identity.peer.encode(&mut body);
    put_bytes(identity.authority.certificate(), &mut body);
    put_bytes(identity.authority.key().unwrap_or_default(), &mut body);
    put_bytes(&identity.certificate, &mut body);
    put_bytes(&identity.key, &mut body);
    identity.beat_secret.encode(&mut body);
    identity.members.encode(&mut body);
    let body = body.finish();
    let mut out = Writer::new();
    MAGIC.encode(&mut out);
    VERSION.encode(&mut out);
    crc32c::crc32c(&body).encode(&mut out);
    out.raw(&body);
    out.finish()
}

fn decode(bytes: &[u8]) -> Result<Identity, DecodeError> {
    let mut input = Reader::new(bytes);
    if u32::decode(&mut input)? != MAGIC {
        return Err(DecodeError::Invalid("first four bytes"));
    }
    match u8::decode(&mut input)? {
        VERSION => {}
        tag => {
            return Err(DecodeError::Tag {
                of: "identity",
                tag,
            });
        }
    }
    let crc = u32::decode(&mut input)?;
    if crc32c::crc32c(&bytes[bytes.len() - input.left()..]) != crc {
        return Err(DecodeError::Invalid("checksum"));
    }
    let cluster = <[u8; 16]>::decode(&mut input)?;
    let (node, name, role) = (
        NodeId::decode(&mut input)?,
        Name::decode(&mut input)?,
        Role::decode(&mut input)?,
    );
    let peer = SocketAddr::decode(&mut input)?;
    let (ca, ca_key) = (get_bytes(&mut input)?, get_bytes(&mut input)?);
    let identity = Identity {
        cluster,
        node,
        name,
        role,
        peer,
        authority: Authority::from_parts(ca, (!ca_key.is_empty()).then_some(ca_key)),
        certificate: get_bytes(&mut input)?,
        key: get_bytes(&mut input)?,
        beat_secret: <[u8; 32]>::decode(&mut input)?,
        members: Vec::decode(&mut input)?,
    };
    match input.left() {
        0 => Ok(identity),
        n => Err(DecodeError::Trailing(n)),
    }
}
