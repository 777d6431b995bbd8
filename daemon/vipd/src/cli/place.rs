//! What `init` and `join` share: where a new node lives and where it is reached.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use vipd::config::{self, DEFAULT_PATH};
use vipd_core::name::Name;

const PORT: u16 = 7400;

/// Where a new node lives.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// Where to write its configuration
    #[arg(long, value_name = "PATH", default_value = DEFAULT_PATH)]
    pub(super) config: PathBuf,
    /// Where it keeps everything durable
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vipd")]
    pub(super) data_dir: PathBuf,
    /// Its name; the host name when absent
    #[arg(long)]
    name: Option<Name>,
    /// Where peers reach it, TCP and UDP; port 7400 of this host's first address when absent
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Where its API answers over TLS, besides the unix socket
    #[arg(long, value_name = "IP:PORT")]
    api: Option<SocketAddr>,
    /// The API's unix socket
    #[arg(long, value_name = "PATH", default_value = "/run/vipd/api.sock")]
    socket: PathBuf,
}

impl Place {
    pub(super) fn name(&self) -> anyhow::Result<Name> {
        match &self.name {
            Some(name) => Ok(name.clone()),
            None => match config::Config::default().check() {
                Ok(checked) => Ok(checked.name),
                Err((_, why)) => bail!("{why}, or give --name"),
            },
        }
    }

    pub(super) fn listen(&self) -> SocketAddr {
        self.listen.unwrap_or_else(default_listen)
    }

    /// Addresses that the node's certificate shall name besides the one peers use.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.api.into_iter().map(|api| api.ip()).collect()
    }

    /// Refuses what could not be undone later: a configuration that is there already.
    pub(super) fn check_free(&self) -> anyhow::Result<()> {
        if self.config.exists() {
            bail!(
                "{} exists already and is left as it is: remove it, or name another with --config",
                self.config.display()
            );
        }
        Ok(())
    }

    pub(super) fn write_config(&self, name: &Name, listen: SocketAddr) -> anyhow::Result<()> {
        let mut api = vec![format!("unix:{}", self.socket.display())];
        api.extend(self.api.map(|api| api.to_string()));
        let text = config::template(name, &absolute(&self.data_dir)?, listen, &api, None);
        write_private(&self.config, text.as_bytes())
    }
}

/// Port 7400 of the first address that others can reach, or of loopback on a host that has none.
pub(super) fn default_listen() -> SocketAddr {
    let found = nix::ifaddrs::getifaddrs().ok().and_then(|mut list| {
        list.find_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in()?.ip();
            (!v4.is_loopback() && !v4.is_link_local()).then_some(IpAddr::V4(v4))
        })
    });
    SocketAddr::new(found.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), PORT)
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} has no absolute form", path.display()))
}

/// Writes a file that only its owner may read, with its directory.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot make the directory {}", parent.display()))?;
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .with_context(|| format!("cannot write {}", path.display()))
}
