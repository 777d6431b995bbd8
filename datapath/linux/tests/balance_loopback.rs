//! Backends at loopback addresses of the holder: programs that listen for nobody beyond their host serve clients all the same, where
//! the node lets them.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;

use support::clients::{VIPS, at, by_backend, client_address};
use support::lan::{Answer, Connection, Lan, PATIENCE, balanced, frontend, nat_to};
use support::{Net, SECOND, VIP4, with_net};
use vipd_datapath::{
    Datapath, FlowFilter, Kernel, NodeGate, Options, Protocol, Services, Wanted, boottime_ns,
};

fn loopback(vip: &str) -> &'static str {
    if vip == VIP4 { "127.0.0.1" } else { "::1" }
}

fn remote(vip: &str) -> &'static str {
    if vip == VIP4 { "10.9.0.11" } else { "fd09::11" }
}

/// Port 80 of both virtual IPs to port 8080 of these.
fn to(backends: impl Fn(&'static str) -> Vec<&'static str>) -> Wanted {
    let each = VIPS.map(|vip| nat_to(vip, &backends(vip)));
    balanced(each.into_iter().flatten().collect::<Services>())
}

/// Holds both virtual IPs on a node that lets clients in to these ports of loopback addresses.
async fn hold(net: &Net, ports: &[u16], wanted: &Wanted) -> (Kernel, Box<dyn NodeGate>) {
    let options = Options {
        pin_dir: net.pins.clone(),
        loopback: ports.iter().copied().collect(),
        ..Options::default()
    };
    let mut kernel = Kernel::open_with(options).await.unwrap();
    kernel.apply(wanted).await.unwrap();
    let mut node = kernel.node_gate().unwrap();
    node.set_deadline(boottime_ns() + 300 * SECOND);
    (kernel, node)
}

/// Servers on the host that listen at its loopback addresses alone.
fn serve(lan: &Lan) -> [support::lan::Server; 2] {
    VIPS.map(|vip| lan.serve_at(0, loopback(vip), 8080))
}

fn ask(net: &'static Net, vip: &'static str, count: usize) -> Vec<Answer> {
    net.at_client(move || {
        let asked = (0..count).map(|n| {
            let mut connection = Connection::open(at(vip, 80)).unwrap();
            connection.ask(&format!("who {n}")).unwrap()
        });
        asked.collect()
    })
}

#[test]
fn a_program_that_listens_at_a_loopback_address_serves_clients_and_sees_who_they_are() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _servers = serve(&lan);
        let (mut kernel, _node) = hold(net, &[8080], &to(|vip| vec![loopback(vip)])).await;
        let lens = kernel.lens().unwrap();
        for vip in VIPS {
            let answers = ask(net, vip, 40);
            assert_eq!(by_backend(&answers), [(0, 40)].into(), "{vip}");
            let askers: BTreeSet<IpAddr> = answers.iter().map(|it| it.asker.ip()).collect();
            assert_eq!(askers, [client_address(vip)].into());
            let backend: IpAddr = loopback(vip).parse().unwrap();
            let of_backend = FlowFilter {
                backend: Some(backend),
                ..FlowFilter::default()
            };
            let flows = lens.flows(&of_backend, 100).unwrap();
            assert_eq!(flows.matching, 40, "people see where it went");
            assert!(
                flows
                    .flows
                    .iter()
                    .all(|it| it.backend == (backend, 8080) && it.local)
            );
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
fn nobody_is_let_in_to_a_port_of_a_loopback_address_that_the_node_does_not_name() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _servers = serve(&lan);
        let (mut kernel, _node) = hold(net, &[8081], &to(|vip| vec![loopback(vip)])).await;
        let lens = kernel.lens().unwrap();
        for vip in VIPS {
            let none = net.at_client(move || {
                TcpStream::connect_timeout(&at(vip, 80), std::time::Duration::from_millis(300))
            });
            assert_eq!(none.unwrap_err().kind(), ErrorKind::TimedOut, "{vip}");
            let of = frontend(vip, 80, Protocol::Tcp);
            let seen = lens.services(Some(of)).unwrap().remove(0);
            let why = seen.backends[0].left_out.unwrap().to_string();
            assert!(why.contains("loopback_ports under [balance]"), "{why}");
            assert!(seen.traffic.drops["no_backend"] > 0);
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
fn others_share_the_connections_and_those_that_a_loopback_address_has_it_keeps() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let (_servers, _other) = (serve(&lan), lan.serve(1, 8080));
        let both = to(|vip| vec![loopback(vip), remote(vip)]);
        let (mut kernel, _node) = hold(net, &[8080], &both).await;
        for vip in VIPS {
            let found = by_backend(&ask(net, vip, 60));
            assert_eq!(
                found.keys().collect::<Vec<_>>(),
                [&0, &1],
                "{vip} {found:?}"
            );
        }
        let mut kept = net.at_client(|| {
            let open = VIPS.map(|vip| {
                let mut open = (0..40).map(|_| Connection::open(at(vip, 80)).unwrap());
                let mine = |it: &mut Connection| it.ask("who").unwrap().backend == 0;
                open.find_map(|mut it| mine(&mut it).then_some(it)).unwrap()
            });
            Vec::from(open)
        });
        kernel.apply(&to(|vip| vec![remote(vip)])).await.unwrap();
        for vip in VIPS {
            assert_eq!(by_backend(&ask(net, vip, 20)), [(1, 20)].into(), "{vip}");
        }
        for connection in &mut kept {
            assert_eq!(connection.ask("still there?").unwrap().backend, 0);
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
fn where_nobody_listens_a_client_is_refused_at_once_and_a_listener_at_the_virtual_ip_comes_first() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let (kernel, _node) = hold(net, &[8080], &to(|vip| vec![loopback(vip)])).await;
        for vip in VIPS {
            let refused = net.at_client(move || TcpStream::connect_timeout(&at(vip, 80), PATIENCE));
            let refused = refused.unwrap_err().kind();
            assert_eq!(refused, ErrorKind::ConnectionRefused, "{vip}");
        }
        let _own = VIPS.map(|vip| lan.serve_at(0, vip, 8080));
        for vip in VIPS {
            assert_eq!(by_backend(&ask(net, vip, 4)), [(0, 4)].into(), "{vip}");
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
fn programs_on_the_holder_reach_it_too() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _servers = serve(&lan);
        let mut wanted = to(|vip| vec![loopback(vip)]);
        // Who asks is this host, whatever address it does so from.
        for service in Arc::make_mut(&mut wanted.services).values_mut() {
            let ranges = &mut Arc::make_mut(service).ranges;
            ranges.extend([
                ("10.9.0.0".parse().unwrap(), 24),
                ("fd09::".parse().unwrap(), 64),
            ]);
        }
        let (kernel, _node) = hold(net, &[8080], &wanted).await;
        for vip in VIPS {
            let mut connection = Connection::open(at(vip, 80)).unwrap();
            assert_eq!(connection.ask("who").unwrap().backend, 0, "{vip}");
        }
        kernel.remove().await.unwrap();
    });
}
