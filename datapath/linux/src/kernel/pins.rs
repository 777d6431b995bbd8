//! The folder of the pins, `<pin dir>/v<schema>/`, on a BPF file system.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sys::statfs::{FsType, statfs},
};
use vipd_datapath_common::{MAPS, SCHEMA};

use crate::DatapathError;

/// Where BPF file systems usually are.
const BPFFS: &str = "/sys/fs/bpf";
/// BPF_FS_MAGIC of linux/magic.h.
const MAGIC: i64 = 0xcafe_4a11;

/// The folder of one daemon's pins.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    parent: PathBuf,
    dir: PathBuf,
    /// Two daemons on the same maps would open and shut each other's addresses.
    _lock: Arc<Flock<fs::File>>,
}

impl Pins {
    /// Makes the folder, and mounts a BPF file system if it would not be on one: at /sys/fs/bpf if
    /// the folder belongs there, else at `parent` itself.
    pub(crate) fn open(parent: &Path) -> Result<Self, DatapathError> {
        let home = parent.ancestors().find(|path| path.exists());
        if !home.is_some_and(on_bpffs) {
            let at = if parent.starts_with(BPFFS) {
                Path::new(BPFFS)
            } else {
                parent
            };
            mount_bpffs(at).map_err(|source| DatapathError::NoBpffs {
                path: at.to_owned(),
                source,
            })?;
        }
        let dir = parent.join(format!("v{SCHEMA}"));
        let links = dir.join("links");
        fs::create_dir_all(&links).map_err(|source| DatapathError::Pin {
            doing: "make the folder of",
            path: links,
            source,
        })?;
        Ok(Self {
            _lock: Arc::new(lock(parent)?),
            parent: parent.to_owned(),
            dir,
        })
    }

    /// The folder of the maps.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The pin of a map.
    pub(crate) fn map(&self, pin: &str) -> PathBuf {
        self.dir.join(pin)
    }

    /// The pin of a link, or of what stands for one.
    pub(crate) fn link(&self, kind: &str, ifindex: u32) -> PathBuf {
        self.dir.join("links").join(format!("{kind}_{ifindex}"))
    }

    /// The interfaces that have pins of a kind.
    pub(crate) fn links(&self, kind: &str) -> Result<Vec<u32>, DatapathError> {
        let dir = self.dir.join("links");
        let names = list(&dir).map_err(|source| DatapathError::Pin {
            doing: "list",
            path: dir,
            source,
        })?;
        let index = |name: &String| name.strip_prefix(kind)?.strip_prefix('_')?.parse().ok();
        Ok(names.iter().filter_map(index).collect())
    }

    /// Removes a pin; that it is gone already is fine.
    pub(crate) fn remove(path: &Path) -> Result<(), DatapathError> {
        missing_is_fine(fs::remove_file(path)).map_err(|source| DatapathError::Pin {
            doing: "remove",
            path: path.to_owned(),
            source,
        })
    }

    /// The folders of vipd versions of other schemas.
    pub(crate) fn others(&self) -> Result<Vec<Self>, DatapathError> {
        let names = list(&self.parent).map_err(|source| DatapathError::Pin {
            doing: "list",
            path: self.parent.clone(),
            source,
        })?;
        let schema = |name: &&String| {
            name.strip_prefix('v')
                .and_then(|number| number.parse::<u32>().ok())
                .is_some_and(|number| number != SCHEMA)
        };
        let other = |name: &String| Self {
            dir: self.parent.join(name),
            ..self.clone()
        };
        Ok(names.iter().filter(schema).map(other).collect())
    }

    /// Removes the folder with all that is in it.
    pub(crate) fn remove_folder(&self) -> Result<(), DatapathError> {
        missing_is_fine(fs::remove_dir_all(&self.dir)).map_err(|source| DatapathError::Pin {
            doing: "remove",
            path: self.dir.clone(),
            source,
        })
    }

    /// Removes everything; the parent too if nothing else is in it.
    pub(crate) fn remove_all(&self) -> Result<(), DatapathError> {
        let mut errors = Vec::new();
        for map in MAPS {
            errors.extend(Self::remove(&self.map(map.pin)).err());
        }
        errors.extend(self.remove_folder().err());
        // In use by others, or a mount point: stays.
        let _ = fs::remove_dir(&self.parent);
        DatapathError::all(errors)
    }
}

fn list(dir: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(dir)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Locks the folder itself, for as long as the process lives: no file can be made on a BPF file system.
fn lock(parent: &Path) -> Result<Flock<fs::File>, DatapathError> {
    let pin = |source| DatapathError::Pin {
        doing: "lock the folder of",
        path: parent.to_owned(),
        source,
    };
    let folder = fs::File::open(parent).map_err(pin)?;
    Flock::lock(folder, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => DatapathError::InUse {
            path: parent.to_owned(),
        },
        other => pin(other.into()),
    })
}

fn on_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == FsType(MAGIC as _))
}

fn mount_bpffs(at: &Path) -> io::Result<()> {
    fs::create_dir_all(at)?;
    mount(Some("bpf"), at, Some("bpf"), MsFlags::empty(), None::<&str>)?;
    Ok(())
}
