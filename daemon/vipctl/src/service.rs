//! How a VIP is served, in words: mode, ports and backends.

use std::net::IpAddr;

use clap::ValueEnum;
use vipd_api_types::{
    Affinity, Backend, BackendStatus, ClientAddress, Dispatch, Duration, Mode, TrafficPolicy,
    VipSpec,
};
use vipd_core::block::Family;

use crate::render;

/// `--mode`.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum ModeArg {
    /// Programs on the holder serve it
    Local,
    /// The holder spreads connections over backends, and answers come back through it
    Nat,
    /// The holder spreads connections over backends, which answer clients by themselves
    Dsr,
}

impl From<ModeArg> for Mode {
    fn from(arg: ModeArg) -> Self {
        match arg {
            ModeArg::Local => Self::Local,
            ModeArg::Nat => Self::Nat,
            ModeArg::Dsr => Self::Dsr,
        }
    }
}

/// `--dispatch`.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum DispatchArg {
    /// To their MACs: they are on a link of the holder
    L2,
    /// Inside IP in IP: they may be behind routers
    Ipip,
    /// The same inside UDP, by GUE to port 6080
    Gue,
}

impl From<DispatchArg> for Dispatch {
    fn from(arg: DispatchArg) -> Self {
        match arg {
            DispatchArg::L2 => Self::L2,
            DispatchArg::Ipip => Self::Ipip,
            DispatchArg::Gue => Self::Gue,
        }
    }
}

/// `--traffic-policy`.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum TrafficArg {
    /// Any node; all backends
    Cluster,
    /// Nodes that have a backend of their own; that one alone, which sees the clients' addresses
    Local,
}

impl From<TrafficArg> for TrafficPolicy {
    fn from(arg: TrafficArg) -> Self {
        match arg {
            TrafficArg::Cluster => Self::Cluster,
            TrafficArg::Local => Self::Local,
        }
    }
}

/// How long a client is kept where nothing is said.
const KEPT: Duration = Duration(vipd_core::service::Affinity::TIMEOUT.0);

/// Titles of the columns of `-o wide`.
pub(crate) const COLUMNS: [&str; 3] = ["MODE", "PORTS", "BACKENDS"];

/// What stands in them.
pub(crate) fn cells(spec: &VipSpec) -> [String; 3] {
    [way_of(spec), or_dash(ports(spec)), or_dash(backends(spec))]
}

/// The same as one sentence; none for a VIP of which nothing is said.
pub(crate) fn sentence(spec: &VipSpec) -> Option<String> {
    if spec.mode == Mode::Local && spec.ports.is_empty() && spec.health.is_none() {
        return None;
    }
    let mut words = vec![format!(
        "mode {}",
        way(spec.mode, Some(spec.dispatch), None)
    )];
    words.push(format!("ports {}", or_dash(ports(spec))));
    if spec.mode != Mode::Local {
        words.push(format!("backends {}", or_dash(backends(spec))));
    }
    if spec.client_address == ClientAddress::Keep {
        words.push("which see clients' addresses".to_owned());
    }
    if spec.traffic_policy == TrafficPolicy::Local {
        words.push("each on its own node".to_owned());
    }
    if let Some(health) = &spec.health {
        words.push(format!("asked for {health}"));
    }
    if spec.affinity == Affinity::Client {
        let time = spec.affinity_timeout.unwrap_or(KEPT);
        words.push(format!(
            "a client stays with its backend for {time} from its last connection on"
        ));
    }
    if !spec.source_ranges.is_empty() {
        words.push(format!("only from {}", spec.source_ranges.join(" ")));
    }
    Some(words.join(", "))
}

/// Whether connections to an address of this family are dropped for lack of a backend.
pub(crate) fn lacks(spec: &VipSpec, family: Family) -> bool {
    let serves = |backend: &Backend| {
        let address = backend.address.parse::<IpAddr>();
        backend.weight > 0 && address.is_ok_and(|address| Family::of(address) == family)
    };
    spec.mode != Mode::Local && !spec.backends.iter().any(serves)
}

/// Those that are down, a line each, and why: the condition has room for the first one's reason alone.
pub(crate) fn down(backends: &[BackendStatus]) -> String {
    let down = backends.iter().filter(|it| !it.healthy);
    let lines = down.map(|it| {
        let at = match (it.address.contains(':'), it.port) {
            (_, None) => it.address.clone(),
            (false, Some(port)) => format!("{}:{port}", it.address),
            (true, Some(port)) => format!("[{}]:{port}", it.address),
        };
        let since = render::age(Some(&it.since));
        format!("\n  {at} is down for {since}: {}", it.reason)
    });
    lines.collect()
}

fn way_of(spec: &VipSpec) -> String {
    way(spec.mode, Some(spec.dispatch), Some(spec.client_address))
}

/// A mode, and behind it how packets travel to backends where that is not by their MACs, and whether they see clients where they
/// need not.
pub(crate) fn way(mode: Mode, dispatch: Option<Dispatch>, client: Option<ClientAddress>) -> String {
    match (dispatch, client) {
        (Some(by @ (Dispatch::Ipip | Dispatch::Gue)), _) => format!("{mode} by {by}"),
        (Some(Dispatch::L2) | None, Some(ClientAddress::Keep)) => format!("{mode}, clients kept"),
        (Some(Dispatch::L2) | None, Some(ClientAddress::Vip) | None) => mode.to_string(),
    }
}

fn ports(spec: &VipSpec) -> String {
    let ports = spec.ports.iter().map(|port| match &port.name {
        Some(name) => format!("{port} ({name})"),
        None => port.to_string(),
    });
    ports.collect::<Vec<_>>().join(" ")
}

fn backends(spec: &VipSpec) -> String {
    let backends = spec.backends.iter().map(ToString::to_string);
    backends.collect::<Vec<_>>().join(" ")
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vip_is_described_as_it_is_made_on_the_command_line() {
        let spec = |mode, ports: &[&str], backends: &[&str]| VipSpec {
            mode,
            ports: ports
                .iter()
                .map(|text| text.parse().expect("short form"))
                .collect(),
            backends: backends
                .iter()
                .map(|text| text.parse().expect("short form"))
                .collect(),
            ..VipSpec::default()
        };
        assert_eq!(sentence(&VipSpec::default()), None);
        let claims = spec(Mode::Local, &["tcp/80"], &[]);
        assert_eq!(
            sentence(&claims).as_deref(),
            Some("mode local, ports tcp/80")
        );
        let spreads = spec(
            Mode::Nat,
            &["tcp/80=8080", "udp/53"],
            &["10.0.0.5", "10.0.0.6:81,weight=2"],
        );
        assert_eq!(
            sentence(&spreads).as_deref(),
            Some("mode nat, ports tcp/80=8080 udp/53, backends 10.0.0.5 10.0.0.6:81,weight=2")
        );
        let through_routers = VipSpec {
            dispatch: Dispatch::Gue,
            ..spec(Mode::Dsr, &["tcp/80"], &["10.1.0.5"])
        };
        assert_eq!(
            sentence(&through_routers).as_deref(),
            Some("mode dsr by gue, ports tcp/80, backends 10.1.0.5")
        );
        let mut sticky = VipSpec {
            affinity: Affinity::Client,
            ..spec(Mode::Nat, &["tcp/80"], &["10.0.0.5"])
        };
        let said = |spec: &VipSpec| sentence(spec).unwrap_or_default();
        assert!(
            said(&sticky)
                .ends_with(", a client stays with its backend for 3h from its last connection on")
        );
        sticky.affinity_timeout = "90m".parse().ok();
        assert!(said(&sticky).contains(" for 90m "), "{}", said(&sticky));
        assert_eq!(
            cells(&spec(Mode::Dsr, &["tcp/80"], &[])),
            ["dsr", "tcp/80", "-"]
        );
    }
}
