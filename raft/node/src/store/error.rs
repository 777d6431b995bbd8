//! What can go wrong with the files of a node, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why the store of this node cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("{path} is in use by another vipd{}; stop that one, or give this one a data_dir of its own",
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    InUse {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it, if it said so.
        pid: Option<u32>,
    },
    /// The operating system refused.
    #[error("cannot {what} {path}: {source}{}", hint(source))]
    Io {
        /// What was being done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The files contradict themselves.
    #[error(
        "the log in {path} is damaged: {what}. It is not repaired, since a repaired log may have forgotten \
             what it promised. Next: stop this node, remove it from the cluster (`vipctl cluster remove`), move \
             the data directory away and `vipd join` again as a new member"
    )]
    Corrupt {
        /// The store.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Acknowledged data are gone.
    #[error(
        "the log in {path} has lost data that this node acknowledged: {what}. The disk or the file system \
             does not keep what it is asked to flush, or an old copy was put back. Next: stop this node, remove \
             it from the cluster (`vipctl cluster remove`), move the data directory away, check the disk, and \
             `vipd join` again as a new member"
    )]
    Lost {
        /// The store.
        path: PathBuf,
        /// What is missing.
        what: String,
    },
    /// An earlier error ended the use of the store.
    #[error("the store failed earlier: {0}")]
    Failed(String),
}

impl StoreError {
    /// For `map_err`: wraps the reason with what was being done to what.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { what, path, source }
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; the disk is full: make room and start vipd again"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "; the file system is read-only: check the disk and remount it"
        }
        io::ErrorKind::PermissionDenied => "; give the directory to the user that runs vipd",
        _ if source.raw_os_error() == Some(nix::libc::EIO) => {
            "; the disk reports errors: replace it"
        }
        _ => "",
    }
}
