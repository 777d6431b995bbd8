//! Ports and backends over the real HTTP API.
#![allow(clippy::unwrap_used)]

mod common;

use common::site::{Site, but, nat, refused};
use serde_json::{Value, json};
use vipd_api_types::{Mode, Vip};

async fn site() -> Site {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.64/28", "fd00::40/124"], json!({}))
        .await;
    site
}

/// Whether it says that connections to it are dropped, and of which families.
fn unserved(vip: &Vip) -> Option<String> {
    let mut conditions = vip.status.conditions.iter();
    let found = conditions.find(|it| it.kind == "served")?;
    assert_eq!((found.status, found.reason.as_str()), (false, "no_backend"));
    Some(found.message.clone())
}

#[tokio::test]
async fn ports_and_backends_are_read_back_as_they_were_written() {
    let site = site().await;
    let spec = json!({
        "mode": "nat",
        "traffic_policy": "local",
        "affinity": "client",
        "affinity_timeout": "90m",
        "source_ranges": ["10.0.0.0/8", "fd00::/8"],
        "ports": [
            { "name": "web", "port": 80, "protocol": "tcp", "target_port": 8080 },
            { "port": 53, "protocol": "udp" },
        ],
        "backends": [
            { "address": "10.9.0.1", "weight": 1 },
            { "address": "10.9.0.2", "port": 9090, "weight": 2, "node": "n1" },
            { "address": "fd00:9::1", "weight": 0 },
        ],
    });
    site.vip("www", spec.clone()).await;
    let vip = site.client.get::<Vip>("www").await.unwrap();
    assert_eq!(vip.spec.mode, Mode::Nat);
    let read = serde_json::to_value(&vip.spec).unwrap();
    assert_eq!(read["ports"], spec["ports"]);
    assert_eq!(read["backends"], spec["backends"]);
    for key in [
        "traffic_policy",
        "affinity",
        "affinity_timeout",
        "source_ranges",
    ] {
        assert_eq!(read[key], spec[key]);
    }
    // Written back as it was read it is no change.
    let again = site.vip("www", read).await;
    assert_eq!(
        (again.generation, again.revision),
        (vip.generation, vip.revision)
    );
}

#[tokio::test]
async fn how_packets_travel_to_backends_of_mode_dsr_is_read_back_and_is_by_mac_unless_said() {
    let site = site().await;
    let dsr = json!({ "mode": "dsr", "ports": [{ "port": 80 }], "backends": [{ "address": "10.8.0.1" }] });
    for (asked, read) in [(json!({}), "l2"), (json!({ "dispatch": "gue" }), "gue")] {
        let vip = site.vip("www", but(dsr.clone(), asked)).await;
        assert_eq!(vip.spec.dispatch.to_string(), read);
    }
    let (reason, _) = refused(&site, but(dsr, json!({ "dispatch": "geneve" }))).await;
    assert_eq!(reason, "bad_body");
}

#[tokio::test]
async fn what_no_datapath_can_serve_is_invalid_and_says_why() {
    let site = site().await;
    site.vip("other", json!({ "addresses": ["10.0.0.70"] }))
        .await;
    let port = |more: Value| json!({ "ports": [but(json!({ "port": 80 }), more)] });
    let backend =
        |more: Value| json!({ "backends": [but(json!({ "address": "10.9.0.1" }), more)] });
    let one = json!([{ "address": "10.9.0.1" }]);
    let table = [
        (json!({ "mode": "nat", "backends": one }), "names no port"),
        (json!({ "backends": one }), "its mode is local"),
        (
            but(nat(), json!({ "source_ranges": ["10.0.0.0"] })),
            "\"10.0.0.0\" is no network such as",
        ),
        (
            but(nat(), json!({ "source_ranges": ["10.0.0.9/8"] })),
            "source range 10.0.0.9/8, which is no network",
        ),
        (
            but(nat(), json!({ "affinity_timeout": "1h" })),
            "has an affinity_timeout and no affinity",
        ),
        (
            but(
                nat(),
                json!({ "affinity": "client", "affinity_timeout": "25h" }),
            ),
            "an affinity_timeout of 90000000 ms: 1 s to 24 h can be",
        ),
        (
            but(nat(), port(json!({ "target_port": 0 }))),
            "target_port of tcp/80=0 is 0",
        ),
        (
            but(
                nat(),
                json!({ "ports": [{ "port": 80 }, { "port": 80, "target_port": 81 }] }),
            ),
            "port tcp/80 is named twice",
        ),
        (
            but(nat(), port(json!({ "name": "Web Site" }))),
            "name \"Web Site\" is not",
        ),
        (
            but(nat(), backend(json!({ "port": 0 }))),
            "the port of 10.9.0.1:0 is 0",
        ),
        (
            but(nat(), backend(json!({ "address": "web1" }))),
            "\"web1\" is not an IP address",
        ),
        (
            but(nat(), backend(json!({ "weight": 300 }))),
            "weight 300: 0 to 256 can be",
        ),
        (
            but(nat(), backend(json!({ "address": "10.0.0.70" }))),
            "which is an address of VIP other",
        ),
        (
            but(
                nat(),
                json!({ "backends": [{ "address": "10.9.0.1" }, { "address": "10.9.0.1" }] }),
            ),
            "backend 10.9.0.1 is named twice",
        ),
        (
            but(
                nat(),
                json!({ "mode": "dsr", "ports": [{ "port": 80, "target_port": 81 }] }),
            ),
            "its mode is dsr",
        ),
        (
            but(nat(), json!({ "dispatch": "ipip" })),
            "has dispatch ipip, but its mode is nat",
        ),
    ];
    for (spec, wanted) in table {
        let (reason, told) = refused(&site, spec.clone()).await;
        assert_eq!(reason, "invalid", "{spec}");
        assert!(told.contains(wanted), "{told}, not {wanted}: {spec}");
    }
    let (reason, _) = refused(&site, but(nat(), backend(json!({ "colour": "red" })))).await;
    assert_eq!(reason, "unknown_field");
}

#[tokio::test]
async fn a_family_without_a_backend_is_told_and_not_refused() {
    let site = site().await;
    let both = but(nat(), json!({ "families": "require_dual" }));
    let vip = site.vip("www", both.clone()).await;
    let told = unserved(&vip).unwrap();
    assert!(
        told.contains("no ipv6 backend") && !told.contains("ipv4"),
        "{told}"
    );
    let more = json!({ "backends": [{ "address": "10.9.0.1" }, { "address": "fd00:9::1" }] });
    assert_eq!(
        unserved(&site.vip("www", but(both.clone(), more)).await),
        None
    );
    let drained = json!({ "backends": [{ "address": "10.9.0.1", "weight": 0 }] });
    let told = unserved(&site.vip("www", but(both, drained)).await).unwrap();
    assert!(
        told.contains("no ipv4 and no ipv6 backend that takes connections"),
        "{told}"
    );
    let local = site.vip("www", json!({ "ports": [{ "port": 80 }] })).await;
    assert_eq!(unserved(&local), None);
}
