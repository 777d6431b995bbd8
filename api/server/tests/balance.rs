//! What a node's kernel balances, over the real HTTP API.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;

use common::reason;
use common::site::Site;
use serde_json::json;
use vipd_api::ConnectionsOf;
use vipd_api_types::{
    LbBackend, LbConnections, LbEnd, LbMaglev, LbService, LbShare, LbTraffic, LbVerdict, Mode,
    Protocol,
};
use vipd_client::ConnectionFilter;

fn end(address: &str, port: u16) -> LbEnd {
    let address = address.parse().unwrap();
    LbEnd { address, port }
}

fn service(address: &str, port: u16) -> LbService {
    LbService {
        vip: None,
        address: address.parse().unwrap(),
        port,
        protocol: Protocol::Tcp,
        mode: Mode::Nat,
        dispatch: None,
        client_address: None,
        held: false,
        traffic: LbTraffic::default(),
        backends: vec![LbBackend {
            address: "10.9.0.1".parse().unwrap(),
            port: 8080,
            slots: 8171,
            share: 10_000,
            local: false,
            left_out: None,
            traffic: LbTraffic::default(),
        }],
    }
}

#[tokio::test]
async fn services_are_told_with_their_vip_and_whether_this_node_holds_them() {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.64/28"], json!({})).await;
    let spec = |port: u16| {
        json!({
            "families": "ipv4", "mode": "nat", "sharing_key": "k",
            "ports": [{ "port": port }], "backends": [{ "address": "10.9.0.1" }],
        })
    };
    site.vip("a", spec(80)).await;
    site.vip("b", spec(443)).await;
    let held = site.memory().kernel.clone();
    let services = ["10.0.0.64", "10.0.0.64", "10.0.0.99"];
    let services = services.into_iter().zip([80, 443, 80]);
    *held.services.lock().unwrap() = services.map(|(at, port)| service(at, port)).collect();
    let seen = site.client.lb_services().await.unwrap();
    assert_eq!(seen.node, "n1");
    let told: Vec<_> = seen
        .items
        .iter()
        .map(|it| (it.vip.as_deref(), it.port, it.held))
        .collect();
    assert_eq!(
        told,
        [
            (Some("a"), 80, true),
            (Some("b"), 443, true),
            (None, 80, false)
        ]
    );
    assert_eq!(seen.items[0].backends, service("10.0.0.64", 80).backends);
}

#[tokio::test]
async fn connections_are_asked_for_as_they_are_narrowed_and_bounded() {
    let site = Site::new().await;
    let kernel = site.memory().kernel.clone();
    *kernel.connections.lock().unwrap() = LbConnections {
        matching: 2,
        known: 9,
        ..LbConnections::default()
    };
    let filter = ConnectionFilter {
        client: Some("192.0.2.1".parse().unwrap()),
        port: Some(80),
        limit: Some(5),
        ..ConnectionFilter::default()
    };
    let seen = site.client.lb_connections(&filter).await.unwrap();
    assert_eq!(
        (seen.node.as_str(), seen.matching, seen.known),
        ("n1", 2, 9)
    );
    let wanted = ConnectionsOf {
        client: filter.client,
        port: Some(80),
        limit: 5,
        ..ConnectionsOf::default()
    };
    assert_eq!(*kernel.asked.lock().unwrap(), Some(wanted));
    site.client
        .lb_connections(&ConnectionFilter::default())
        .await
        .unwrap();
    assert_eq!(kernel.asked.lock().unwrap().unwrap().limit, 1000);
    let too_many = ConnectionFilter {
        limit: Some(10_001),
        ..ConnectionFilter::default()
    };
    let refused = site.client.lb_connections(&too_many).await;
    assert_eq!(reason(refused), "bad_query");
}

#[tokio::test]
async fn tables_that_choose_alike_have_one_digest_whatever_their_backends_are_numbered() {
    let site = Site::new().await;
    let kernel = site.memory().kernel.clone();
    let at = "10.0.0.64".parse().unwrap();
    let port = "tcp/80".parse().unwrap();
    assert_eq!(reason(site.client.lb_maglev(at, &port).await), "not_found");
    let (a, b) = (end("10.9.0.1", 80), end("10.9.0.2", 80));
    let table = |backends: [LbEnd; 2], slots: &[Option<u16>]| LbMaglev {
        backends: backends.map(|backend| LbShare { backend, slots: 1 }).into(),
        slots: slots.into(),
        ..LbMaglev::default()
    };
    let mut digests = Vec::new();
    for table in [
        table([a, b], &[Some(0), Some(1), None]),
        table([b, a], &[Some(1), Some(0), None]),
        table([a, b], &[Some(1), Some(0), None]),
        table([a, b], &[Some(0), Some(1), Some(1)]),
    ] {
        *kernel.table.lock().unwrap() = Some(table);
        digests.push(site.client.lb_maglev(at, &port).await.unwrap().digest);
    }
    assert_eq!(digests[0], digests[1]);
    assert!(digests[0] != digests[2] && digests[0] != digests[3]);
    assert_eq!(digests[0].len(), 64);
}

#[tokio::test]
async fn a_packet_is_traced_as_it_was_described_and_families_do_not_mix() {
    let site = Site::new().await;
    let kernel = site.memory().kernel.clone();
    let client: SocketAddr = "198.51.100.7:40000".parse().unwrap();
    let to: SocketAddr = "10.0.0.64:80".parse().unwrap();
    let ask = async |to, established| {
        let protocol = vipd_api_types::Protocol::Tcp;
        site.client
            .lb_trace(client, to, protocol, established)
            .await
    };
    let traced = ask(to, false).await.unwrap();
    assert_eq!(
        (traced.node.as_str(), traced.verdict),
        ("n1", LbVerdict::Passed)
    );
    assert_eq!(traced.source, end("198.51.100.7", 40000));
    let packet = kernel.traced.lock().unwrap().unwrap();
    assert!(packet.opens && packet.to.port == 80);
    ask(to, true).await.unwrap();
    assert!(!kernel.traced.lock().unwrap().unwrap().opens);
    let mixed = ask("[fd00::40]:80".parse().unwrap(), false).await;
    assert_eq!(reason(mixed), "bad_query");
}
