//! `vipctl lb`: what the asked node's kernel balances.

use std::net::{IpAddr, SocketAddr};

use clap::{Args, Subcommand};
use vipd_api_types::{
    Dispatch, LbAffinity, LbBackend, LbConnection, LbConnections, LbEnd, LbMaglev, LbOuter,
    LbService, LbServices, LbTrace, LbTraffic, LbVerdict, Port, Protocol,
};
use vipd_client::ConnectionFilter;

use crate::cli::Global;
use crate::connect;
use crate::failure::Failure;
use crate::output::{self, Mood};
use crate::service::way;

/// What to look at.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Services: the ports of VIPs, and what was counted
    Services,
    /// Backends of each service, their shares, and what was counted
    Backends,
    /// Connections that the node knows
    Connections(ConnectionArgs),
    /// What addresses and ports the connections of mode nat have on either side
    Nat(ConnectionArgs),
    /// Which backend VIPs with affinity (--sticky) keep a client with
    Affinity {
        /// The client's address
        client: IpAddr,
    },
    /// The look-up table of a service: who gets how much, and a digest to compare nodes by
    Maglev {
        /// The VIP's address
        address: IpAddr,
        /// Its port, tcp/443 or udp/53 (udp/0: the service of all ports)
        port: Port,
    },
    /// What the asked node does with a packet, and why: its programs do it
    Trace(TraceArgs),
}

/// Which packet.
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// The client's address and port, 198.51.100.7:40000 or `[2001:db8::7]:40000`
    #[arg(long, value_name = "ADDRESS:PORT")]
    src: SocketAddr,
    /// The VIP's address and port
    #[arg(long, value_name = "ADDRESS:PORT")]
    dst: SocketAddr,
    /// A datagram, not TCP
    #[arg(long)]
    udp: bool,
    /// Of a TCP connection that is open already, not one that opens it
    #[arg(long, conflicts_with = "udp")]
    established: bool,
}

/// Which connections.
#[derive(Debug, Args)]
pub(crate) struct ConnectionArgs {
    /// Only those of this client
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    /// Only those to this address
    #[arg(long, value_name = "ADDRESS")]
    vip: Option<IpAddr>,
    /// Only those to this port
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Only those that go to this backend
    #[arg(long, value_name = "ADDRESS")]
    backend: Option<IpAddr>,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: Option<u16>,
}

impl ConnectionArgs {
    fn filter(&self, nat: bool) -> ConnectionFilter {
        ConnectionFilter {
            client: self.client,
            vip: self.vip,
            port: self.port,
            backend: self.backend,
            nat,
            limit: self.limit.map(usize::from),
        }
    }
}

pub(crate) async fn run(verb: Verb, global: &Global) -> Result<(), Failure> {
    let client = connect::client(global)?;
    match verb {
        Verb::Services => {
            let found = client.lb_services().await?;
            output::show(&found, global.output, || services(&found))
        }
        Verb::Backends => {
            let found = client.lb_services().await?;
            output::show(&found, global.output, || backends(&found))
        }
        Verb::Connections(args) => {
            let found = client.lb_connections(&args.filter(false)).await?;
            output::show(&found, global.output, || connections(&found))
        }
        Verb::Nat(args) => {
            let found = client.lb_connections(&args.filter(true)).await?;
            output::show(&found, global.output, || nat(&found))
        }
        Verb::Affinity { client: of } => {
            let found = client.lb_affinity(of).await?;
            output::show(&found, global.output, || affinity(&found))
        }
        Verb::Maglev { address, port } => {
            let found = client.lb_maglev(address, &port).await?;
            output::show(&found, global.output, || maglev(&found))
        }
        Verb::Trace(args) => {
            let protocol = if args.udp {
                Protocol::Udp
            } else {
                Protocol::Tcp
            };
            let asked = client.lb_trace(args.src, args.dst, protocol, args.established);
            let found = asked.await?;
            output::show(&found, global.output, || {
                trace(&found, [args.src, args.dst])
            })
        }
    }
}

fn services(found: &LbServices) -> String {
    let titles = [
        "VIP", "ADDRESS", "PORT", "MODE", "HERE", "BACKENDS", "CONNS", "IN", "OUT", "DROPS",
    ];
    let mut table = output::table(&titles);
    for service in &found.items {
        let used = service.backends.iter().filter(|it| it.slots > 0).count();
        let mood = if used == 0 { Mood::Bad } else { Mood::Good };
        let mut row = of_service(service);
        row.extend([
            way(service.mode, service.dispatch, service.client_address).into(),
            if service.held { "held" } else { "standby" }.into(),
            output::mood(format!("{used}/{}", service.backends.len()), mood),
        ]);
        row.extend(counted(&service.traffic));
        table.add_row(row);
    }
    output::draw(table)
}

fn backends(found: &LbServices) -> String {
    let titles = [
        "VIP", "ADDRESS", "PORT", "BACKEND", "SHARE", "CONNS", "IN", "OUT", "DROPS", "STATE",
    ];
    let mut table = output::table(&titles);
    for service in &found.items {
        for backend in &service.backends {
            let at = LbEnd {
                address: backend.address,
                port: backend.port,
            };
            let (mut state, mood) = state(backend);
            if let Some(by @ (Dispatch::Ipip | Dispatch::Gue)) = service.dispatch
                && backend.left_out.is_none()
                && !backend.local
            {
                state = format!("{state}, by {by}");
            }
            let mut row = of_service(service);
            row.extend([
                end(&at).into(),
                format!("{}.{:02}%", backend.share / 100, backend.share % 100).into(),
            ]);
            row.extend(counted(&backend.traffic));
            row.push(output::mood(state, mood));
            table.add_row(row);
        }
    }
    output::draw(table)
}

fn of_service(service: &LbService) -> Vec<comfy_table::Cell> {
    vec![
        service.vip.as_deref().unwrap_or("-").into(),
        service.address.to_string().into(),
        format!("{}/{}", service.protocol, service.port).into(),
    ]
}

fn counted(traffic: &LbTraffic) -> [comfy_table::Cell; 4] {
    let drops = traffic.drops.iter().map(|(why, n)| format!("{why} {n}"));
    let drops = drops.collect::<Vec<_>>().join(", ");
    [
        traffic.connections.into(),
        bytes(traffic.bytes_in).into(),
        bytes(traffic.bytes_out).into(),
        if drops.is_empty() {
            "-".into()
        } else {
            drops.into()
        },
    ]
}

fn state(backend: &LbBackend) -> (String, Mood) {
    match &backend.left_out {
        Some(why) => (format!("left out: {why}"), Mood::Bad),
        None if backend.slots == 0 => ("gets nothing new".into(), Mood::Odd),
        None if backend.local => ("here".into(), Mood::Good),
        None => ("used".into(), Mood::Good),
    }
}

fn connections(found: &LbConnections) -> String {
    let titles = [
        "PROTO", "CLIENT", "VIP", "BACKEND", "SEEN AS", "STATE", "IDLE", "LEFT", "IN", "OUT",
    ];
    let mut table = output::table(&titles);
    for one in &found.items {
        table.add_row(connection(one));
    }
    with_count(&output::draw(table), found)
}

fn with_count(table: &str, found: &LbConnections) -> String {
    let (shown, matching, known) = (found.items.len(), found.matching, found.known);
    format!(
        "{table}\n\n{shown} shown of {matching} that match; {} knows {known}",
        found.node
    )
}

/// Each connection as the client has it, and as the backend has it.
fn nat(found: &LbConnections) -> String {
    let titles = [
        "PROTO", "CLIENT", "TO", "BECOMES", "TO", "STATE", "IDLE", "LEFT",
    ];
    let mut table = output::table(&titles);
    for one in &found.items {
        table.add_row([
            one.protocol.to_string(),
            end(&one.client),
            end(&one.vip),
            end(one.source.as_ref().unwrap_or(&one.client)),
            end(&one.backend),
            one.state.clone(),
            seconds(one.idle_ms),
            seconds(one.left_ms),
        ]);
    }
    with_count(&output::draw(table), found)
}

fn affinity(found: &LbAffinity) -> String {
    let mut table = output::table(&["VIP", "ADDRESS", "PORT", "BACKEND", "KEPT FOR"]);
    for one in &found.items {
        table.add_row([
            one.vip.clone().unwrap_or_else(|| "-".into()),
            one.address.to_string(),
            format!("{}/{}", one.protocol, one.port),
            one.backend.as_ref().map_or_else(|| "-".into(), end),
            one.left_ms.map_or_else(|| "-".into(), seconds),
        ]);
    }
    output::draw(table)
}

fn connection(one: &LbConnection) -> Vec<String> {
    vec![
        one.protocol.to_string(),
        end(&one.client),
        end(&one.vip),
        end(&one.backend),
        one.source.as_ref().map_or_else(|| "-".into(), end),
        one.state.clone(),
        seconds(one.idle_ms),
        seconds(one.left_ms),
        bytes(one.bytes_in),
        bytes(one.bytes_out),
    ]
}

fn maglev(found: &LbMaglev) -> String {
    let mut table = output::table(&["BACKEND", "SLOTS", "SHARE"]);
    let all = found.slots.len();
    for share in &found.backends {
        let hundredths = share.slots as usize * 10_000 / all.max(1);
        table.add_row([
            end(&share.backend),
            share.slots.to_string(),
            format!("{}.{:02}%", hundredths / 100, hundredths % 100),
        ]);
    }
    let nowhere = found.slots.iter().filter(|slot| slot.is_none()).count();
    let empty = match nowhere {
        0 => String::new(),
        n => format!(", {n} of them lead nowhere"),
    };
    format!(
        "{}\n\n{all} slots{empty}; digest {:.16}, table {} of {}",
        output::draw(table),
        found.digest,
        found.table,
        found.node
    )
}

/// One line for each thing that is known of the packet's way.
fn trace(found: &LbTrace, [src, dst]: [SocketAddr; 2]) -> String {
    let why = || found.reason.as_deref().unwrap_or("not counted why");
    let verdict = match found.verdict {
        LbVerdict::Passed => "goes up the node's own stack".to_owned(),
        LbVerdict::Dropped => format!("is dropped: {}", why()),
        LbVerdict::Sent => "is sent to a backend".to_owned(),
        LbVerdict::HandedOn => "is handed on to the next holder".to_owned(),
    };
    let of = match (&found.service, found.known) {
        (None, _) => "no service".to_owned(),
        (Some(service), true) => format!("{service}, a connection that is known"),
        (Some(service), false) => format!("{service}, a new connection"),
    };
    let mut lines = vec![
        format!("on {}: it {verdict}", found.node),
        format!("service   {of}"),
    ];
    let why = if found.affinity {
        ", where its client was before (affinity)"
    } else {
        ""
    };
    let backend = found.backend.as_ref();
    lines.extend(backend.map(|at| format!("backend   {}{why}", end(at))));
    lines.push(format!(
        "goes as   {} -> {}",
        end(&found.source),
        end(&found.destination)
    ));
    lines.extend(found.outer.map(|outer| {
        let LbOuter {
            dispatch,
            source,
            destination,
        } = outer;
        format!("inside    {dispatch} {source} -> {destination}")
    }));
    // client_address: keep, or a backend on the node itself, of which it is true anyway. dsr leaves the destination as it is.
    let kept = found.source.address == src.ip() && found.destination.address != dst.ip();
    if found.verdict == LbVerdict::Sent && kept {
        let (client, node) = (src.ip(), &found.node);
        lines.push(format!(
            "answers   are to {client}: the backend's way there must lead through {node} (see client_address)"
        ));
    }
    lines.join("\n")
}

fn end(end: &LbEnd) -> String {
    match (end.address, end.port) {
        (address, 0) => address.to_string(),
        (IpAddr::V4(v4), port) => format!("{v4}:{port}"),
        (IpAddr::V6(v6), port) => format!("[{v6}]:{port}"),
    }
}

fn seconds(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        ms if ms < 600_000 => format!("{}s", ms / 1000),
        ms => format!("{}m", ms / 60_000),
    }
}

fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["k", "M", "G", "T"];
    let mut unit = None;
    let mut tenths = n.saturating_mul(10);
    for name in UNITS {
        if tenths < 10_000 {
            break;
        }
        (tenths, unit) = (tenths / 1000, Some(name));
    }
    match unit {
        None => n.to_string(),
        Some(name) => format!("{}.{}{name}", tenths / 10, tenths % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str, port: u16) -> LbEnd {
        LbEnd {
            address: address.parse().expect("an address"),
            port,
        }
    }

    /// What is shown of a packet of 198.51.100.7 to 192.0.2.100 that goes on so.
    fn shown(source: &str, destination: &str, outer: Option<LbOuter>, affinity: bool) -> String {
        let found = LbTrace {
            node: "n1".into(),
            verdict: LbVerdict::Sent,
            known: false,
            service: Some("tcp/80".into()),
            backend: Some(at("10.8.0.5", 80)),
            affinity,
            source: at(source, 40_000),
            destination: at(destination, 80),
            outer,
            reason: None,
        };
        let ends = ["198.51.100.7:40000", "192.0.2.100:80"];
        trace(&found, ends.map(|end| end.parse().expect("an end")))
    }

    fn last_line(source: &str, destination: &str, outer: Option<LbOuter>) -> String {
        let shown = shown(source, destination, outer, false);
        shown.lines().last().unwrap_or_default().to_owned()
    }

    #[test]
    fn a_packet_that_travels_inside_another_one_is_shown_with_that() {
        let outer = LbOuter {
            dispatch: Dispatch::Gue,
            source: at("192.0.2.1", 0).address,
            destination: at("10.8.0.5", 0).address,
        };
        let last = last_line("198.51.100.7", "192.0.2.100", Some(outer));
        assert_eq!(last, "inside    gue 192.0.2.1 -> 10.8.0.5");
    }

    #[test]
    fn where_the_backend_sees_the_client_its_way_back_is_spoken_of() {
        let last = last_line("198.51.100.7", "10.8.0.5", None);
        assert_eq!(
            last,
            "answers   are to 198.51.100.7: the backend's way there must lead through n1 (see client_address)"
        );
        for (source, destination) in [("192.0.2.100", "10.8.0.5"), ("198.51.100.7", "192.0.2.100")]
        {
            let last = last_line(source, destination, None);
            assert!(last.starts_with("goes as   "), "{last}");
        }
    }

    #[test]
    fn a_client_that_comes_back_is_said_to_go_where_it_was() {
        let line = |affinity| {
            let shown = shown("192.0.2.100", "10.8.0.5", None, affinity);
            let found = shown.lines().find(|line| line.starts_with("backend "));
            found.unwrap_or_default().to_owned()
        };
        assert_eq!(line(false), "backend   10.8.0.5:80");
        let why = "backend   10.8.0.5:80, where its client was before (affinity)";
        assert_eq!(line(true), why);
    }

    #[test]
    fn counts_and_times_are_short() {
        let shown: Vec<_> = [0, 999, 1000, 1549, 12_345_678, 3_000_000_000]
            .map(bytes)
            .into();
        assert_eq!(shown, ["0", "999", "1.0k", "1.5k", "12.3M", "3.0G"]);
        let shown: Vec<_> = [0, 1250, 59_000, 9_000_000].map(seconds).into();
        assert_eq!(shown, ["0.0s", "1.2s", "59s", "150m"]);
    }
}
