//! Binding, with errors that name the address and the next step.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::unistd::Group;
use tokio::net::{TcpListener, UnixListener};

/// The group whose members may use the unix socket.
const GROUP: &str = "vipd";
/// Owner and group may connect.
const MODE: u32 = 0o660;

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Somebody else listens there.
    #[error(
        "API: {at} is in use by another program; change [api] listen, or stop that program (ss -lxtp shows it)"
    )]
    InUse {
        /// Where.
        at: String,
    },
    /// There is a file in the way.
    #[error("API: {} exists and is not a socket; move it away, or change [api] listen", .0.display())]
    NotASocket(PathBuf),
    /// Anything else.
    #[error("API: cannot listen on {at}: {cause}; check [api] listen")]
    Failed {
        /// Where.
        at: String,
        /// Why not.
        cause: io::Error,
    },
    /// Certificate or key.
    #[error("API: TLS {0}; the daemon makes both again if they are removed")]
    Tls(String),
}

/// Listens on a unix socket that root and the group `vipd` may use. A socket that a dead daemon left is replaced.
///
/// # Errors
/// [`ListenError`].
pub fn bind_unix(path: &Path) -> Result<UnixListener, ListenError> {
    let at = || format!("unix:{}", path.display());
    let failed = |cause| ListenError::Failed { at: at(), cause };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NotASocket(path.to_owned()));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(ListenError::InUse { at: at() }),
        Ok(_) => std::fs::remove_file(path).map_err(failed)?,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
        Err(cause) => return Err(failed(cause)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    if let Ok(Some(group)) = Group::from_name(GROUP)
        && let Err(error) = chown(path, None, Some(group.gid.as_raw()))
    {
        tracing::warn!(socket = %path.display(), %error, "API: cannot give the socket to group {GROUP}; only the owner may use it");
    }
    // The owner may write before this already, nobody else: connecting to a socket takes write permission.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE)).map_err(failed)?;
    Ok(listener)
}

/// Listens on a TCP address.
///
/// # Errors
/// [`ListenError`].
pub async fn bind_tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address)
        .await
        .map_err(|cause| match cause.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse {
                at: address.to_string(),
            },
            _ => ListenError::Failed {
                at: address.to_string(),
                cause,
            },
        })
}
