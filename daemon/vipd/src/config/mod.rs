//! The configuration: plain structs, every key with a default where one can serve, unknown keys refused.

mod address;
mod balance;
mod datapath;
mod load;
mod template;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::time::Duration;

use regex::Regex;
use serde::Deserialize;
use vipd_core::lease::{OnQuorumLoss, Profile, Timing};
use vipd_core::name::Name;
use vipd_core::node::Role;
use vipd_core::proof::Rule;
use vipd_core::time::Span;
use vipd_datapath::{Bounds, Xdp};

pub use address::{PEER_PORT, peer, socket};
pub use balance::BalanceSection;
pub use datapath::DatapathSection;
pub use load::ConfigError;
pub use template::template;

/// Where the configuration is, unless said otherwise.
pub const DEFAULT_PATH: &str = "/etc/vipd/vipd.toml";

/// All of `vipd.toml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This node.
    pub node: NodeSection,
    /// Its peers.
    pub cluster: ClusterSection,
    /// Where the REST API answers.
    pub api: ApiSection,
    /// Where VIPs are announced.
    pub announce: AnnounceSection,
    /// The lengths of the lease protocol; best the same on all nodes.
    pub lease: LeaseSection,
    /// The eBPF programs.
    pub datapath: DatapathSection,
    /// Bounds of load balancing.
    pub balance: BalanceSection,
    /// Looking after backends.
    pub health: HealthSection,
    /// What is logged.
    pub log: LogSection,
    /// Prometheus metrics without a token.
    pub metrics: MetricsSection,
}

/// `[node]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeSection {
    /// This node's name. Default: the host name.
    pub name: Option<String>,
    /// Where everything durable is kept.
    pub data_dir: PathBuf,
    /// Labels, shown with the node.
    pub labels: BTreeMap<String, String>,
    /// `voter`, `agent` or `witness`: given by the join token; if stated here it must be the same.
    pub role: Option<String>,
}

impl Default for NodeSection {
    fn default() -> Self {
        Self {
            name: None,
            data_dir: "/var/lib/vipd".into(),
            labels: BTreeMap::new(),
            role: None,
        }
    }
}

/// `[cluster]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterSection {
    /// Where peers reach this node: TCP for Raft, UDP on the same port for beats. Default: the address given to
    /// `init` or `join`.
    pub listen: Option<String>,
    /// Members to turn to first. Checked, and not used yet: a node knows the members since it joined.
    pub join: Vec<String>,
}

/// `[api]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiSection {
    /// `unix:PATH` (by file permission) or `IP:PORT` (TLS and tokens).
    pub listen: Vec<String>,
}

impl Default for ApiSection {
    fn default() -> Self {
        Self {
            listen: vec!["unix:/run/vipd/api.sock".into()],
        }
    }
}

/// `[announce]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnnounceSection {
    /// Regular expressions of interface names. Default: every Ethernet interface that is up and has a subnet.
    pub interfaces: Vec<String>,
    /// Between the announcements of an address once its first burst is over, in seconds.
    pub refresh_s: u64,
    /// `refuse` or `warn`: what becomes of a VIP's address that a host outside the cluster has when it is to be announced for
    /// the first time.
    pub in_use: String,
}

impl Default for AnnounceSection {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            refresh_s: vipd_datapath::DEFAULT_REFRESH.as_secs(),
            in_use: "refuse".into(),
        }
    }
}

/// `[lease]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeaseSection {
    /// `fast`, `lan` or `safe`.
    pub profile: String,
    /// Between beats, ms; with `lease_ms` instead of a profile.
    pub beat_ms: Option<u64>,
    /// How long support lasts, ms; with `beat_ms`.
    pub lease_ms: Option<u64>,
    /// `stop` or `freeze`: what a holder does when no majority supports it.
    pub on_quorum_loss: String,
}

impl Default for LeaseSection {
    fn default() -> Self {
        Self {
            profile: Profile::default().to_string(),
            beat_ms: None,
            lease_ms: None,
            on_quorum_loss: "stop".into(),
        }
    }
}

/// `[health]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthSection {
    /// The folder of programs that health checks of kind `exec` may run, by their names in it. Default: none are run.
    pub exec_dir: Option<PathBuf>,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSection {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,vipd_raft=debug`.
    pub level: String,
    /// `text`, `json` or `journald`.
    pub format: String,
}

impl Default for LogSection {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: "text".into(),
        }
    }
}

/// `[metrics]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsSection {
    /// Where `/metrics` answers in plain HTTP. Default: nowhere but on the API.
    pub listen: Option<String>,
}

/// Where the API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiListen {
    /// A unix socket.
    Unix(PathBuf),
    /// TLS.
    Tcp(SocketAddr),
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// To the journal, with fields.
    Journald,
}

/// A configuration that has been checked: what the daemon runs on.
#[derive(Clone, Debug)]
pub struct Checked {
    /// This node's name.
    pub name: Name,
    /// Whether that is stated, rather than the host's name.
    pub named: bool,
    /// Where everything durable is kept.
    pub data_dir: PathBuf,
    /// Labels of this node.
    pub labels: BTreeMap<String, String>,
    /// The role stated, if any.
    pub role: Option<Role>,
    /// Where peers reach this node, if stated.
    pub listen: Option<SocketAddr>,
    /// Where the API answers.
    pub api: Vec<ApiListen>,
    /// Interfaces that VIPs may be announced on; all when empty.
    pub interfaces: Vec<Regex>,
    /// Between the announcements of an address once its first burst is over.
    pub refresh: Duration,
    /// What becomes of an address that a host outside has.
    pub in_use: Rule,
    /// The lengths of the lease protocol.
    pub timing: Timing,
    /// What a holder does when no majority supports it.
    pub on_quorum_loss: OnQuorumLoss,
    /// Attach to the older clsact hook even where tcx is there.
    pub force_tc: bool,
    /// Where maps and links are pinned.
    pub pin_dir: PathBuf,
    /// Bounds of load balancing.
    pub bounds: Bounds,
    /// Ports at which backends may be at loopback addresses.
    pub loopback_ports: BTreeSet<u16>,
    /// Whether packets of open connections are sent on in drivers of network cards.
    pub xdp: Xdp,
    /// Where health checks may run programs from, if anywhere.
    pub exec_dir: Option<PathBuf>,
    /// The log filter.
    pub log_level: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Where plain metrics answer.
    pub metrics: Option<SocketAddr>,
}

impl Checked {
    /// Refuses a stated name that is not the one under which the node has joined: nobody would hear of it.
    ///
    /// # Errors
    /// What stands against what, and the next step.
    pub fn is_named(&self, joined: &Name) -> anyhow::Result<()> {
        let name = &self.name;
        anyhow::ensure!(
            !self.named || name == joined,
            "node.name is {name}, but this node joined as {joined}: correct it, or remove {joined} from the cluster and join again as {name}"
        );
        Ok(())
    }

    /// Whether VIPs may be announced on the interface of this name.
    #[must_use]
    pub fn announces_on(&self, interface: &str) -> bool {
        self.interfaces.is_empty()
            || self
                .interfaces
                .iter()
                .any(|regex| regex.is_match(interface))
    }
}

impl Config {
    /// Checks every value. On error: the key, as `section.key`, and what is wrong with it.
    ///
    /// # Errors
    /// The first value that is no good.
    pub fn check(&self) -> Result<Checked, (&'static str, String)> {
        let name = match &self.node.name {
            Some(name) => Name::new(name).map_err(|error| ("node.name", error.to_string()))?,
            None => host_name().map_err(|error| ("node.name", error))?,
        };
        let role = self
            .node
            .role
            .as_deref()
            .map(str::parse::<Role>)
            .transpose()
            .map_err(|e| ("node.role", e))?;
        let listen = self
            .cluster
            .listen
            .as_deref()
            .map(peer)
            .transpose()
            .map_err(|e| ("cluster.listen", e))?;
        for member in &self.cluster.join {
            peer(member).map_err(|error| ("cluster.join", error))?;
        }
        let api = self
            .api
            .listen
            .iter()
            .map(|text| api_listen(text))
            .collect::<Result<Vec<_>, _>>();
        let interfaces = self
            .announce
            .interfaces
            .iter()
            .map(|text| Regex::new(text))
            .collect::<Result<Vec<_>, _>>();
        let (force_tc, xdp) = self.datapath.attach()?;
        Ok(Checked {
            name,
            named: self.node.name.is_some(),
            data_dir: self.node.data_dir.clone(),
            labels: self.node.labels.clone(),
            role,
            listen,
            api: api.map_err(|error| ("api.listen", error))?,
            interfaces: interfaces
                .map_err(|error| ("announce.interfaces", one_line(&error.to_string())))?,
            refresh: self.announce.refresh()?,
            in_use: self
                .announce
                .in_use
                .parse()
                .map_err(|error| ("announce.in_use", error))?,
            timing: self.lease.timing()?,
            on_quorum_loss: self.lease.on_quorum_loss()?,
            force_tc,
            pin_dir: self.datapath.pin_dir.clone(),
            bounds: self.balance.bounds()?,
            loopback_ports: self.balance.loopback_ports()?,
            xdp: self.balance.xdp(xdp)?,
            exec_dir: self.health.exec_dir()?,
            log_level: log_level(&self.log.level).map_err(|error| ("log.level", error))?,
            log_format: match self.log.format.as_str() {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                "journald" => LogFormat::Journald,
                other => {
                    return Err((
                        "log.format",
                        format!("{other:?} is not one of text, json, journald"),
                    ));
                }
            },
            metrics: self
                .metrics
                .listen
                .as_deref()
                .map(socket)
                .transpose()
                .map_err(|e| ("metrics.listen", e))?,
        })
    }
}

impl AnnounceSection {
    /// Hosts forget a neighbour after minutes; more than one announcement a second is noise.
    fn refresh(&self) -> Result<Duration, (&'static str, String)> {
        match self.refresh_s {
            seconds @ 1..=3600 => Ok(Duration::from_secs(seconds)),
            seconds => Err((
                "announce.refresh_s",
                format!("{seconds} is not between 1 and 3600"),
            )),
        }
    }
}

impl HealthSection {
    /// Whoever may write there has vipd run what he likes.
    fn exec_dir(&self) -> Result<Option<PathBuf>, (&'static str, String)> {
        let Some(dir) = &self.exec_dir else {
            return Ok(None);
        };
        let bad = |why: &str| Err(("health.exec_dir", format!("{}: {why}", dir.display())));
        if !dir.is_absolute() {
            return bad("name an absolute path, such as /etc/vipd/checks");
        }
        match dir.metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bad("there is no such folder: mkdir -m 755 it")
            }
            Err(error) => bad(&error.to_string()),
            Ok(found) if !found.is_dir() => bad("it is no folder"),
            Ok(found) if found.permissions().mode() & 0o022 != 0 => {
                bad("others may write there: chmod go-w")
            }
            Ok(found) if found.uid() != 0 && found.uid() != nix::unistd::geteuid().as_raw() => bad(
                "it belongs to another user than root or vipd, who may put there what he likes: chown root",
            ),
            Ok(_) => Ok(Some(dir.clone())),
        }
    }
}

impl LeaseSection {
    fn on_quorum_loss(&self) -> Result<OnQuorumLoss, (&'static str, String)> {
        match self.on_quorum_loss.as_str() {
            "stop" => Ok(OnQuorumLoss::Stop),
            "freeze" => Ok(OnQuorumLoss::Freeze),
            other => Err((
                "lease.on_quorum_loss",
                format!("{other:?} is not one of stop, freeze"),
            )),
        }
    }

    fn timing(&self) -> Result<Timing, (&'static str, String)> {
        match (self.beat_ms, self.lease_ms) {
            (None, None) => {
                let profile: Profile = self
                    .profile
                    .parse()
                    .map_err(|error| ("lease.profile", error))?;
                Ok(profile.timing())
            }
            (Some(beat), Some(lease)) => Timing::custom(Span::millis(beat), Span::millis(lease))
                .map_err(|error| ("lease.beat_ms", error.to_string())),
            (Some(beat), None) => Err((
                "lease.beat_ms",
                format!("beat_ms = {beat} needs lease_ms beside it"),
            )),
            (None, Some(lease)) => Err((
                "lease.lease_ms",
                format!("lease_ms = {lease} needs beat_ms beside it"),
            )),
        }
    }
}

/// A level, or a filter of targets (`info,vipd_raft=debug`). A bare word that is no level would be a target of that
/// name, and silence everything.
fn log_level(text: &str) -> Result<String, String> {
    let plain = !text.contains(['=', ',']);
    if plain && text.parse::<tracing::Level>().is_err() {
        return Err(format!(
            "{text:?} is not one of error, warn, info, debug, trace, nor a filter such as info,vipd_raft=debug"
        ));
    }
    text.parse::<tracing_subscriber::EnvFilter>()
        .map(|_| text.to_owned())
        .map_err(|error| format!("{text:?} is no filter: {error}"))
}

fn api_listen(text: &str) -> Result<ApiListen, String> {
    match text.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') => Ok(ApiListen::Unix(path.into())),
        Some(path) => Err(format!(
            "unix:{path} is not an absolute path, such as unix:/run/vipd/api.sock"
        )),
        None => socket(text).map(ApiListen::Tcp),
    }
}

fn host_name() -> Result<Name, String> {
    let host = nix::unistd::gethostname()
        .map_err(|error| format!("the host name cannot be read ({error}): set it"))?;
    let host = host.to_string_lossy().to_ascii_lowercase();
    Name::new(&host)
        .map_err(|error| format!("the host name is no good as a node name ({error}): set it"))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
