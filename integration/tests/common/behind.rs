//! Backends behind a router, which take packets apart in user space: a kernel without ipip and fou will do.

use std::net::{IpAddr, Ipv6Addr};

use vipd_integration::lab::{Host, Lab};
use vipd_integration::probe::Unpacker;

/// The host of the lab that becomes the router.
pub(crate) const ROUTER: &str = "router";

/// The addresses of the backend with this number (from 1), on the link that it shares with the router alone.
pub(crate) fn addresses(number: u8) -> [IpAddr; 2] {
    let v6 = Ipv6Addr::new(0xfd78, 0, 0, number.into(), 0, 0, 0, 2);
    [IpAddr::from([10, 78, number, 2]), IpAddr::from(v6)]
}

/// Makes the router, puts the backends behind it in this order, and lets them take packets to the VIPs apart. `carries`:
/// the MTU of the way to them, as the servers' routes say.
pub(crate) fn put(lab: &Lab, backends: &[&str], vips: &[IpAddr], carries: usize) -> Vec<Unpacker> {
    let router = lab.host(ROUTER);
    let forwards = [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        ("net/ipv4/conf/eth0/rp_filter", "0"),
    ];
    router.netns().unwrap().sysctl(&forwards).unwrap();
    let (v4, v6) = (router.v4(), router.v6());
    for server in lab.servers() {
        let routes = format!(
            "route add 10.78.0.0/16 via {v4} mtu {carries}\nroute add fd78::/32 via {v6} mtu {carries}\n"
        );
        server.ip(&routes).unwrap();
    }
    let backends = backends.iter().map(|name| lab.host(name)).zip(1..);
    let behind = backends.map(|(backend, number)| {
        plug(router, backend, number, vips, carries);
        let inside = backend.netns().unwrap();
        let anybody = [
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/lo/rp_filter", "0"),
        ];
        inside.sysctl(&anybody).unwrap();
        Unpacker::start(&inside).unwrap()
    });
    behind.collect()
}

/// Plugs a backend out of the switch and into the router.
fn plug(router: &Host, backend: &Host, number: u8, vips: &[IpAddr], carries: usize) {
    let ns = backend.namespace();
    let longest = carries + 14 + 1;
    // What is put together of many packets comes out of the router one by one, as from a card.
    let links = format!(
        "link add to{number} type veth peer name wire netns {ns}\n\
         link set to{number} gso_max_size {longest}\nlink set to{number} up\n\
         addr add 10.78.{number}.1/24 dev to{number}\naddr add fd78:0:0:{number}::1/64 dev to{number} nodad\n"
    );
    router.ip(&links).unwrap();
    let vips: String = vips
        .iter()
        .map(|vip| format!("addr add {vip} dev lo\n"))
        .collect();
    let mine = format!(
        "link set eth0 down\nlink set wire up\n\
         addr add 10.78.{number}.2/24 dev wire\naddr add fd78:0:0:{number}::2/64 dev wire nodad\n\
         route add 0.0.0.0/0 via 10.78.{number}.1\nroute add ::/0 via fd78:0:0:{number}::1\n{vips}"
    );
    backend.ip(&mine).unwrap();
}
