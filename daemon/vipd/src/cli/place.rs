//! What `init` and `join` share: where a new node lives and where it is reached.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use vipd::config::{self, DEFAULT_PATH, PEER_PORT};
use vipd_core::name::Name;

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
    /// Where peers reach it, TCP and UDP; port 7400 unless it is named, and this host's first address when absent
    #[arg(long, value_name = "IP[:PORT]", value_parser = config::peer)]
    listen: Option<SocketAddr>,
    /// Where its API answers over TLS, besides the unix socket
    #[arg(long, value_name = "IP:PORT", value_parser = config::socket)]
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

    /// Where peers will reach it. An address that this host does not have is refused while nothing is made yet: the
    /// daemon could not listen there, and the command that joins the next host would name it.
    pub(super) fn listen(&self) -> anyhow::Result<SocketAddr> {
        let Some(listen) = self.listen else {
            return Ok(default_listen());
        };
        let own: Vec<IpAddr> = own_addresses().collect();
        if !own.is_empty() && !own.contains(&listen.ip()) {
            let own: Vec<String> = own.iter().map(ToString::to_string).collect();
            bail!(
                "--listen {listen}: this host has no address {}; it has {}",
                listen.ip(),
                own.join(", ")
            );
        }
        Ok(listen)
    }

    /// How the node that was made here is started: by systemd where the package's unit reads this configuration.
    pub(super) fn start(&self) -> String {
        let unit = ["/etc", "/usr/lib", "/lib"]
            .iter()
            .any(|dir| Path::new(dir).join("systemd/system/vipd.service").exists());
        if unit && self.config == Path::new(DEFAULT_PATH) {
            "systemctl enable --now vipd".to_owned()
        } else {
            format!("vipd run --config {}", self.config.display())
        }
    }

    /// Addresses that the node's certificate shall name besides the one peers use.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.api.into_iter().map(|api| api.ip()).collect()
    }

    /// Refuses what could not be undone later: a configuration that is there already.
    pub(super) fn check_free(&self) -> anyhow::Result<()> {
        if self.config.exists() {
            bail!(
                "{} exists already and is left as it is: if this host was a node and shall begin anew, stop vipd and remove \
                 both {0} and {}; else name another with --config",
                self.config.display(),
                self.data_dir.display()
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
    let found = first_reachable(own_addresses());
    SocketAddr::new(found.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), PEER_PORT)
}

/// The first IPv4 address that others can reach, else the first IPv6 address: one of a host with both may be temporary (RFC 8981).
fn first_reachable(own: impl Iterator<Item = IpAddr>) -> Option<IpAddr> {
    let others_reach = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    own.filter(others_reach).min_by_key(IpAddr::is_ipv6)
}

/// The addresses of this host's interfaces; none if they can't be listed.
fn own_addresses() -> impl Iterator<Item = IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn place(listen: Option<&str>) -> Place {
        Place {
            config: "/nowhere/vipd.toml".into(),
            data_dir: "/nowhere/data".into(),
            name: None,
            listen: listen.map(|listen| listen.parse().unwrap()),
            api: None,
            socket: "/nowhere/api.sock".into(),
        }
    }

    #[test]
    fn a_node_is_not_made_at_an_address_that_its_host_does_not_have() {
        let why = place(Some("192.0.2.9:7400")).listen().unwrap_err();
        assert!(why.to_string().contains("no address 192.0.2.9"), "{why}");
        let own = place(Some("127.0.0.1:7400")).listen().unwrap();
        assert_eq!(own, "127.0.0.1:7400".parse().unwrap());
    }

    #[test]
    fn a_host_without_ipv4_is_reached_by_ipv6() {
        let first = |own: &[&str]| {
            let own = own.iter().map(|address| address.parse().unwrap());
            first_reachable(own).map(|address: IpAddr| address.to_string())
        };
        let both = ["127.0.0.1", "::1", "fe80::1", "2001:db8::1", "192.0.2.1"];
        assert_eq!(first(&both).as_deref(), Some("192.0.2.1"));
        assert_eq!(first(&both[..4]).as_deref(), Some("2001:db8::1"));
        assert_eq!(first(&["127.0.0.1", "::1", "fe80::1", "169.254.0.1"]), None);
    }

    #[test]
    fn what_is_said_to_start_a_node_reads_the_configuration_that_was_written() {
        assert_eq!(place(None).start(), "vipd run --config /nowhere/vipd.toml");
    }
}
