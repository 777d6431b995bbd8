//! What a reload may not change. The new life of the daemon would refuse it too, but only after the old one has ended.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use vipd::config::{ApiListen, Checked};
use vipd_core::name::Name;
use vipd_core::node::Role;

/// The key of the address on which peers use both TCP and UDP.
const PEERS: &str = "cluster.listen";

/// What the running daemon is bound to.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    data_dir: PathBuf,
    pin_dir: PathBuf,
    name: Name,
    role: Role,
    ports: Vec<u16>,
}

impl Bound {
    /// What a daemon with this configuration is bound to, whose node joined as `name` and `role` and is reached at `peer`.
    pub(super) fn by(config: &Checked, name: Name, role: Role, peer: SocketAddr) -> Self {
        let others = addresses(config).map(|(_, address)| address);
        Self {
            data_dir: config.data_dir.clone(),
            pin_dir: config.pin_dir.clone(),
            name,
            role,
            ports: others.chain([peer]).map(|at| at.port()).collect(),
        }
    }

    /// Whether a daemon with the configuration `next` could go on where this one is.
    ///
    /// # Errors
    /// The first key that stands in the way, and what to do instead.
    pub(super) fn allows(&self, next: &Checked) -> anyhow::Result<()> {
        same("node.data_dir", &self.data_dir, &next.data_dir)?;
        same("datapath.pin_dir", &self.pin_dir, &next.pin_dir)?;
        next.is_named(&self.name)?;
        if let Some(role) = next.role {
            let joined = self.role;
            ensure!(
                role == joined,
                "node.role is {role}, but this node joined as {joined}: correct it, or join again with a token for {role}"
            );
        }
        for (key, address) in addresses(next) {
            // On a port of its own the daemon makes room for its next life.
            if !self.ports.contains(&address.port()) {
                free(key, address).with_context(|| format!("{key}: {address} cannot be used"))?;
            }
        }
        Ok(())
    }
}

fn same(key: &str, now: &Path, next: &Path) -> anyhow::Result<()> {
    let (now_at, next_at) = (now.display(), next.display());
    ensure!(
        now == next,
        "{key} is {next_at}, but the daemon runs with {now_at}, which a reload cannot change: put it back, or stop vipd first"
    );
    Ok(())
}

/// The addresses that a daemon listens on, with the keys that name them.
fn addresses(config: &Checked) -> impl Iterator<Item = (&'static str, SocketAddr)> {
    let api = config.api.iter().filter_map(|listen| match listen {
        ApiListen::Tcp(address) => Some(("api.listen", *address)),
        ApiListen::Unix(_) => None,
    });
    let peers = config.listen.map(|at| (PEERS, at));
    let metrics = config.metrics.map(|at| ("metrics.listen", at));
    api.chain(peers).chain(metrics)
}

fn free(key: &str, address: SocketAddr) -> std::io::Result<()> {
    TcpListener::bind(address)?;
    if key == PEERS {
        UdpSocket::bind(address)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use vipd::config::Config;

    const RUNNING: &str = "[node]\nname = \"n1\"\ndata_dir = \"/var/lib/a\"\n[cluster]\nlisten = \"127.0.0.1:7400\"\n";

    fn checked(text: &str) -> Checked {
        Config::parse(Path::new("test"), text).unwrap()
    }

    fn bound() -> Bound {
        Bound::by(
            &checked(RUNNING),
            "n1".parse().unwrap(),
            Role::Voter,
            "127.0.0.1:7400".parse().unwrap(),
        )
    }

    fn why(text: &str) -> String {
        format!("{:#}", bound().allows(&checked(text)).unwrap_err())
    }

    #[test]
    fn what_does_not_concern_the_place_of_the_daemon_may_change() {
        let text = format!("{RUNNING}[lease]\nprofile = \"safe\"\n[log]\nlevel = \"debug\"\n");
        bound().allows(&checked(&text)).unwrap();
    }

    #[test]
    fn another_data_directory_another_name_or_another_role_is_refused() {
        let moved = RUNNING.replace("/var/lib/a", "/var/lib/b");
        assert!(why(&moved).contains("node.data_dir is /var/lib/b"));
        let renamed = RUNNING.replace("\"n1\"", "\"n2\"");
        assert!(why(&renamed).contains("node.name is n2, but this node joined as n1"));
        let unsaid = RUNNING.replace("name = \"n1\"\n", "");
        bound().allows(&checked(&unsaid)).unwrap();
        let agent = RUNNING.replace("[cluster]", "role = \"agent\"\n[cluster]");
        assert!(why(&agent).contains("node.role is agent, but this node joined as voter"));
    }

    #[test]
    fn a_port_that_another_program_has_is_refused_and_the_daemon_s_own_is_not() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = other.local_addr().unwrap();
        let mut text = RUNNING.to_owned();
        writeln!(text, "[metrics]\nlisten = \"{taken}\"").unwrap();
        let why = why(&text);
        assert!(
            why.contains("metrics.listen") && why.contains(&taken.to_string()),
            "{why}"
        );
        drop(other);
        bound().allows(&checked(&text)).unwrap();
        let everywhere = RUNNING.replace("127.0.0.1", "0.0.0.0");
        let _running = TcpListener::bind("127.0.0.1:7400");
        bound().allows(&checked(&everywhere)).unwrap();
    }
}
