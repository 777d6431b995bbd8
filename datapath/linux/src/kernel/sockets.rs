//! The programs at the host's own sockets, by which clients on the holder reach backends: on the root of the cgroups, as
//! long as anything is balanced. Their links are pinned, so that they outlive the daemon.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    programs::{CgroupAttachMode, CgroupSockAddr, ProgramError, links::FdLink},
};
use vipd_datapath_common::program::SOCKETS;

use super::{
    object::verified,
    pins::Pins,
    sys::{self, Link},
};
use crate::DatapathError;

/// Where the kernel says what is mounted.
const MOUNTS: &str = "/proc/self/mountinfo";

/// Whether they are there.
pub(super) struct Sockets {
    pins: Pins,
    /// Held, so that a pin that somebody removes takes nothing with it.
    links: Vec<Link>,
    /// What was last wanted was tried: who failed once fails again.
    tried: Option<bool>,
    /// Why the kernel does not take them, if it does not: told when they are wanted.
    refused: Option<DatapathError>,
}

impl Sockets {
    /// Loads them. Before any map is taken out of the object: programs name maps by their descriptors, and another map may
    /// get that of one that was closed.
    pub(super) fn load(ebpf: &mut Ebpf, pins: Pins) -> Self {
        let refused = SOCKETS.into_iter().find_map(|(name, _)| {
            let loaded = program(ebpf, name).and_then(|program| verified(|| program.load()));
            loaded.err().map(|source| DatapathError::Program {
                program: name,
                source: Box::new(source),
            })
        });
        Self {
            pins,
            links: Vec::new(),
            tried: None,
            refused,
        }
    }

    /// Puts them there, in place of an earlier daemon's, or takes them away. A host where they can't be serves all clients but those on
    /// itself, so that is no failure, but said once.
    pub(super) fn follow(&mut self, ebpf: &mut Ebpf, wanted: bool) {
        if self.tried.replace(wanted) == Some(wanted) {
            return;
        }
        let result = if wanted {
            self.attach(ebpf)
        } else {
            self.detach()
        };
        if let Err(error) = result {
            if wanted && let Err(error) = self.detach() {
                // All or none: half of them would show a program another peer than it has asked for.
                tracing::warn!(%error, "some programs stay at this host's sockets");
            }
            tracing::warn!(%error, "programs on this host that ask for a balanced address while it is here reach the host itself, not a backend");
        }
    }

    fn attach(&mut self, ebpf: &mut Ebpf) -> Result<(), DatapathError> {
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        if sys::namespace().is_err() {
            let source = io::Error::from(io::ErrorKind::Unsupported);
            let doing = "tell sockets of this host from those of containers: that needs Linux 5.14";
            return Err(DatapathError::system(doing, source));
        }
        let mounts = fs::read_to_string(MOUNTS)
            .map_err(|source| DatapathError::system(format!("read {MOUNTS}"), source))?;
        let root = cgroups(&mounts).ok_or_else(|| {
            let doing = "find the cgroups (mount -t cgroup2 none /sys/fs/cgroup)";
            DatapathError::system(doing, io::Error::from(io::ErrorKind::NotFound))
        })?;
        let cgroup = File::open(&root).map_err(|source| {
            DatapathError::system(format!("open the cgroups at {}", root.display()), source)
        })?;
        let mut links = Vec::new();
        for (name, pin) in SOCKETS {
            let pin = self.pin(pin);
            // The new one first: for a moment both are there, and the second finds nothing left to do.
            let link = put(ebpf, name, &cgroup).and_then(|link| {
                let pinned = Pins::remove(&pin).map_err(other);
                pinned.and_then(|()| link.pin(&pin).map(drop).map_err(other))?;
                Link::from_pin(&pin).map_err(Into::into)
            });
            links.push(link.map_err(|source| DatapathError::Program {
                program: name,
                source: Box::new(source),
            })?);
        }
        self.links = links;
        Ok(())
    }

    /// Takes them away, also those of an earlier daemon.
    pub(super) fn detach(&mut self) -> Result<(), DatapathError> {
        self.links.clear();
        let removed = SOCKETS.map(|(_, pin)| Pins::remove(&self.pin(pin)).err());
        DatapathError::all(removed.into_iter().flatten().collect())
    }

    fn pin(&self, name: &str) -> PathBuf {
        self.pins.dir().join("links").join(name)
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut CgroupSockAddr, ProgramError> {
    let program = ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?;
    program.try_into()
}

/// Attaches a program.
fn put(ebpf: &mut Ebpf, name: &'static str, cgroup: &File) -> Result<FdLink, ProgramError> {
    let program = program(ebpf, name)?;
    // Links always stand beside others.
    let id = program.attach(cgroup, CgroupAttachMode::Single)?;
    FdLink::try_from(program.take_link(id)?).map_err(other)
}

/// aya's program error has no place for errors of links and pins.
fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ProgramError {
    io::Error::other(error).into()
}

/// Where the root of the cgroups of version 2 is mounted.
fn cgroups(mounts: &str) -> Option<PathBuf> {
    let found = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = left.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (root == "/" && right.starts_with("cgroup2 ")).then_some(point)
    })?;
    Some(Path::new(found).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroups_are_found_where_they_are_alone_and_beside_those_of_version_1() {
        let alone = "24 1 0:22 / /sys rw - sysfs sysfs rw\n30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(cgroups(alone), Some("/sys/fs/cgroup".into()));
        let beside = "31 24 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      32 24 0:28 /a/part /mnt rw - cgroup2 cgroup2 rw\n\
                      33 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroups(beside), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(cgroups("24 1 0:22 / /sys rw - sysfs sysfs rw\n"), None);
    }
}
