//! `vipctl lb`, against the real HTTP API.
#![allow(clippy::unwrap_used)]

mod common;

use common::Node;
use vipd_api_types::{
    Dispatch, LbAffine, LbBackend, LbConnection, LbConnections, LbEnd, LbMaglev, LbService,
    LbShare, LbTraffic, MapDump, MapElement, Mode, Protocol,
};

fn end(address: &str, port: u16) -> LbEnd {
    let address = address.parse().unwrap();
    LbEnd { address, port }
}

fn backend(address: &str, share: u32, left_out: Option<&str>) -> LbBackend {
    LbBackend {
        address: address.parse().unwrap(),
        port: 8080,
        slots: share,
        share,
        local: false,
        left_out: left_out.map(str::to_owned),
        traffic: LbTraffic {
            connections: 7,
            bytes_in: 1500,
            drops: [("no_backend".to_owned(), 2)].into(),
            ..LbTraffic::default()
        },
    }
}

#[tokio::test]
async fn what_a_node_balances_is_shown_as_tables() {
    let node = Node::start().await;
    node.vipctl("pool create web --block 10.0.0.10")
        .await
        .good();
    let create = "vip create www --families ipv4 --mode nat --port tcp/80 --backend 10.9.0.1";
    node.vipctl(&format!("{create} --sticky --affinity-timeout 90m"))
        .await
        .good();
    let shown = node.vipctl("vip get www").await.good();
    assert!(shown.contains("stays with its backend for 90m"), "{shown}");
    let kernel = node.memory.kernel.clone();
    *kernel.services.lock().unwrap() = vec![LbService {
        vip: None,
        address: "10.0.0.10".parse().unwrap(),
        port: 80,
        protocol: Protocol::Tcp,
        mode: Mode::Nat,
        dispatch: None,
        client_address: None,
        held: false,
        traffic: LbTraffic::default(),
        backends: vec![
            backend("10.9.0.1", 10_000, None),
            backend("10.9.0.2", 0, Some("no route")),
        ],
    }];
    let row = |text: &str, part: &str| {
        let line = text.lines().find(|line| line.contains(part)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let shown = node.vipctl("lb services").await.good();
    assert_eq!(
        row(&shown, "www"),
        "www 10.0.0.10 tcp/80 nat held 1/2 0 0 0 -"
    );
    let shown = node.vipctl("lb backends").await.good();
    let all = "www 10.0.0.10 tcp/80 10.9.0.1:8080 100.00% 7 1.5k 0 no_backend 2 used";
    assert_eq!(row(&shown, "10.9.0.1"), all);
    assert!(
        row(&shown, "10.9.0.2").ends_with("left out: no route"),
        "{shown}"
    );

    let mut routed = kernel.services.lock().unwrap().clone();
    (routed[0].mode, routed[0].dispatch) = (Mode::Dsr, Some(Dispatch::Ipip));
    *kernel.services.lock().unwrap() = routed;
    let shown = node.vipctl("lb services").await.good();
    assert!(row(&shown, "www").contains(" dsr by ipip held "), "{shown}");
    let shown = node.vipctl("lb backends").await.good();
    assert!(
        row(&shown, "10.9.0.1").ends_with(" used, by ipip"),
        "{shown}"
    );

    *kernel.connections.lock().unwrap() = LbConnections {
        node: String::new(),
        items: vec![LbConnection {
            client: end("192.0.2.7", 40_000),
            vip: end("10.0.0.10", 80),
            protocol: Protocol::Tcp,
            backend: end("10.9.0.1", 8080),
            source: Some(end("10.0.0.10", 40_000)),
            mode: Mode::Nat,
            state: "open".to_owned(),
            idle_ms: 1200,
            left_ms: 9_000_000,
            packets_in: 3,
            bytes_in: 300,
            packets_out: 4,
            bytes_out: 4000,
        }],
        matching: 1,
        known: 5,
    };
    let shown = node
        .vipctl("lb connections --client 192.0.2.7")
        .await
        .good();
    let one =
        "tcp 192.0.2.7:40000 10.0.0.10:80 10.9.0.1:8080 10.0.0.10:40000 open 1.2s 150m 300 4.0k";
    assert_eq!(row(&shown, "192.0.2.7"), one);
    assert!(
        shown.contains("1 shown of 1 that match; n1 knows 5"),
        "{shown}"
    );

    let flows = node.vipctl("flow list --client 192.0.2.7").await.good();
    assert_eq!(flows, shown, "another name of it");

    let shown = node.vipctl("lb nat --client 192.0.2.7").await.good();
    let one = "tcp 192.0.2.7:40000 10.0.0.10:80 10.0.0.10:40000 10.9.0.1:8080 open 1.2s 150m";
    assert_eq!(row(&shown, "192.0.2.7"), one);
    let asked = kernel.asked.lock().unwrap().unwrap();
    assert!(asked.nat && asked.client.is_some(), "{asked:?}");

    *kernel.affine.lock().unwrap() = vec![LbAffine {
        vip: None,
        address: "10.0.0.10".parse().unwrap(),
        port: 80,
        protocol: Protocol::Tcp,
        backend: Some(end("10.9.0.1", 8080)),
        left_ms: Some(59_900),
    }];
    let shown = node.vipctl("lb affinity 192.0.2.7").await.good();
    assert_eq!(row(&shown, "www"), "www 10.0.0.10 tcp/80 10.9.0.1:8080 59s");
    kernel.affine.lock().unwrap()[0].left_ms = None;
    let shown = node.vipctl("lb affinity 192.0.2.7").await.good();
    assert_eq!(row(&shown, "www"), "www 10.0.0.10 tcp/80 10.9.0.1:8080 -");

    let element = |key: &str| MapElement {
        key: key.to_owned(),
        value: [("id", "7"), ("flags", "nat")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    };
    let services = MapDump {
        map: "services".to_owned(),
        items: vec![element("10.0.0.10 tcp/80"), element("10.0.0.11 tcp/80")],
        ..MapDump::default()
    };
    let name = services.map.clone();
    kernel.maps.lock().unwrap().insert(name, services);
    let shown = node.vipctl("map list").await.good();
    assert_eq!(row(&shown, "services"), "services hash 16 B 40 B 65536");
    let shown = node.vipctl("map get services 10.0.0.11").await.good();
    assert_eq!(row(&shown, "tcp/80"), "10.0.0.11 tcp/80 flags=nat id=7");
    assert!(shown.contains("1 shown of map services of n1"), "{shown}");
    let shown = node.vipctl("map get services --limit 1").await.good();
    assert!(shown.contains("there are more"), "{shown}");
    let (why, _) = node.vipctl("map get nothing").await.refused();
    assert!(why.contains("nothing"), "{why}");

    let (why, _) = node.vipctl("lb maglev 10.0.0.10 tcp/81").await.refused();
    assert!(why.contains("10.0.0.10 tcp/81"), "{why}");
    *kernel.table.lock().unwrap() = Some(LbMaglev {
        backends: vec![LbShare {
            backend: end("10.9.0.1", 8080),
            slots: 3,
        }],
        slots: vec![Some(0), Some(0), Some(0), None],
        ..LbMaglev::default()
    });
    let shown = node.vipctl("lb maglev 10.0.0.10 tcp/80").await.good();
    assert_eq!(row(&shown, "10.9.0.1"), "10.9.0.1:8080 3 75.00%");
    assert!(
        shown.contains("4 slots, 1 of them lead nowhere; digest "),
        "{shown}"
    );
    let shown = node
        .vipctl("lb trace --src 198.51.100.7:40000 --dst 10.0.0.10:80")
        .await
        .good();
    assert!(
        shown.starts_with("on n1: it goes up the node's own stack\nservice   no service\n"),
        "{shown}"
    );
    assert!(
        shown.contains("198.51.100.7:40000 -> 10.0.0.10:80"),
        "{shown}"
    );
}
