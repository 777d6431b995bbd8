//! What clients of virtual IPs do, on a [`Lan`](super::lan::Lan).

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use vipd_datapath::{Datapath, Kernel, NodeGate, Wanted, boottime_ns};

use super::{
    Net, SECOND, VIP4, VIP6,
    lan::{Answer, Connection, ask_udp},
};

pub const VIPS: [&str; 2] = [VIP4, VIP6];

pub fn at(vip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(vip.parse().unwrap(), port)
}

pub fn client_address(vip: &str) -> IpAddr {
    let client = if vip == VIP4 { "10.9.0.2" } else { "fd09::2" };
    client.parse().unwrap()
}

/// That of the first backend.
pub fn backend_address(vip: &str) -> IpAddr {
    let backend = if vip == VIP4 { "10.9.0.11" } else { "fd09::11" };
    backend.parse().unwrap()
}

pub async fn hold(net: &Net, wanted: &Wanted) -> (Kernel, Box<dyn NodeGate>) {
    let mut kernel = Kernel::open(&net.pins).await.unwrap();
    kernel.apply(wanted).await.unwrap();
    let mut node = kernel.node_gate().unwrap();
    node.set_deadline(boottime_ns() + 300 * SECOND);
    (kernel, node)
}

/// Answers to one question on each of so many connections, and by as many sockets of UDP.
pub fn ask_all(net: &Net, vip: &'static str, port: u16, count: usize) -> [Vec<Answer>; 2] {
    net.at_client(move || {
        let tcp = (0..count).map(|n| {
            let mut connection = Connection::open(at(vip, port)).unwrap();
            let answer = connection.ask(&format!("tcp {n}")).unwrap();
            assert_eq!(answer.text, format!("tcp {n}"));
            answer
        });
        let tcp = tcp.collect();
        let ask = |n| ask_udp(at(vip, port), &format!("udp {n}")).unwrap();
        let (udp, _sockets): (Vec<_>, Vec<_>) = (0..count).map(ask).unzip();
        [tcp, udp]
    })
}

pub fn by_backend(answers: &[Answer]) -> BTreeMap<u8, usize> {
    let mut found = BTreeMap::new();
    for answer in answers {
        *found.entry(answer.backend).or_default() += 1;
    }
    found
}

/// Opens connections and asks once on each.
pub fn opened(net: &Net, vip: &'static str, count: usize) -> Vec<(u8, Connection)> {
    net.at_client(move || {
        let open = |_| {
            let mut connection = Connection::open(at(vip, 80)).unwrap();
            (connection.ask("hello").unwrap().backend, connection)
        };
        (0..count).map(open).collect()
    })
}
