//! What can go wrong, on what, and what to do about it.

use std::{io, net::IpAddr, path::PathBuf};

use aya::{EbpfError, maps::MapError, programs::ProgramError};

use crate::kernel::{OLDEST_KERNEL, running};

/// A failure of the datapath.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The process may not do what it has to.
    #[error(
        "vipd lacks {capability}, which it needs to {purpose}: run it by its systemd unit (AmbientCapabilities={capability}), or as root, or `setcap cap_bpf,cap_net_admin,cap_net_raw,cap_perfmon+ep` the binary"
    )]
    MissingCapability {
        /// The capability, as systemd spells it.
        capability: &'static str,
        /// What for.
        purpose: &'static str,
    },
    /// Another daemon uses these maps.
    #[error(
        "another vipd uses the maps in {}: stop it, or give this one a [datapath] pin_dir of its own",
        path.display()
    )]
    InUse {
        /// The folder of the pins.
        path: PathBuf,
    },
    /// Pins need a BPF file system.
    #[error(
        "no BPF file system at {path} and none could be mounted ({source}): `mount -t bpf bpf {path}`, as root"
    )]
    NoBpffs {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A pin could not be read, made or removed.
    #[error("cannot {doing} the pin {path}: {source}")]
    Pin {
        /// What was tried.
        doing: &'static str,
        /// The pin.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A pinned map is not what this version of vipd uses.
    #[error(
        "the pinned map {path} has {what} {found}, this vipd needs {expected}: stop every vipd that uses it, remove {dir} and start again", dir = path.parent().unwrap_or(path).display()
    )]
    Layout {
        /// The pin.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// How it is.
        found: u32,
        /// How it must be.
        expected: u32,
    },
    /// The object cannot be read.
    #[error("cannot read the eBPF object {path}, named by VIPD_EBPF_OBJECT: {source}")]
    Object {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel refuses the programs.
    #[error(
        "{} refuses vipd's eBPF programs ({source}): they need CONFIG_BPF_SYSCALL, and no lockdown mode",
        this_kernel()
    )]
    Load {
        /// Why.
        #[source]
        source: Box<EbpfError>,
    },
    /// The verifier refuses one program.
    #[error("{} refuses the eBPF program {program}: {source}", this_kernel())]
    Program {
        /// Its name.
        program: &'static str,
        /// Why.
        source: Box<ProgramError>,
    },
    /// The object is not vipd's.
    #[error("the eBPF object has no {what}: rebuild it with `cargo xtask ebpf`")]
    Incomplete {
        /// What is missing.
        what: &'static str,
    },
    /// A program cannot be attached.
    #[error("cannot attach {program} to interface {interface}: {source}")]
    Attach {
        /// The program.
        program: &'static str,
        /// The interface.
        interface: String,
        /// Why not.
        source: Box<ProgramError>,
    },
    /// A map cannot be read or written.
    #[error("cannot {doing} in the map {map}: {source}")]
    Map {
        /// What was tried.
        doing: String,
        /// The map.
        map: &'static str,
        /// Why not.
        source: MapError,
    },
    /// An interface does not exist or cannot carry a virtual IP.
    #[error("interface {interface} {reason}")]
    Interface {
        /// The interface.
        interface: String,
        /// What is the matter, as the rest of the sentence.
        reason: &'static str,
    },
    /// No packet has addresses of two families.
    #[error("a packet from {client} cannot be to {vip}: the families differ")]
    Families {
        /// The client.
        client: IpAddr,
        /// The virtual IP.
        vip: IpAddr,
    },
    /// Not everything about services could be written, and it is not tried again at once.
    #[error(
        "{count} services, tables or backends are not in the kernel, as was told before, and are tried again within {seconds} s"
    )]
    Postponed {
        /// So many steps failed.
        count: usize,
        /// When they are tried again.
        seconds: u64,
    },
    /// An address cannot be served.
    #[error("{address}: {source}")]
    Address {
        /// The address.
        address: IpAddr,
        /// Why not.
        source: Box<DatapathError>,
    },
    /// The kernel refuses a netlink request.
    #[error("cannot {doing}: {source}")]
    Netlink {
        /// What was tried.
        doing: String,
        /// Why not.
        source: rtnetlink::Error,
    },
    /// A system call failed.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was tried.
        doing: String,
        /// Why not.
        source: io::Error,
    },
    /// More than one thing failed; everything else was done.
    #[error("{} things failed: {}", .0.len(), join(.0))]
    Several(Vec<DatapathError>),
}

impl DatapathError {
    /// Nothing, the one, or all of them.
    pub(crate) fn all(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }

    pub(crate) fn system(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System {
            doing: doing.into(),
            source: source.into(),
        }
    }

    pub(crate) fn of(self, address: IpAddr) -> Self {
        Self::Address {
            address,
            source: Box::new(self),
        }
    }
}

/// This kernel, and from which one on vipd is known to work.
fn this_kernel() -> String {
    let (major, minor) = OLDEST_KERNEL;
    let running = running();
    format!("the kernel (Linux {running}; vipd is tested on {major}.{minor} and later)")
}

/// The first few: of ten thousand addresses that failed nobody reads more.
fn join(errors: &[DatapathError]) -> String {
    const SHOWN: usize = 5;
    let mut shown: Vec<String> = errors.iter().take(SHOWN).map(ToString::to_string).collect();
    if errors.len() > SHOWN {
        shown.push(format!("and {} more", errors.len() - SHOWN));
    }
    shown.join("; ")
}
