//! `traffic_policy: local`: VIPs are on nodes whose own backend is well, and on no others.

use std::time::Duration;

use serde_json::json;
use vipd_integration::GRACE;
use vipd_integration::cluster::{History, PATIENCE};
use vipd_integration::lab::Lab;

use crate::patient::{ASKED, PAGES, Patient};
use crate::{Pace, SLACK, Site, backends, own, vips};

const PACE: Pace = Pace {
    interval: Duration::from_secs(1),
    fall: 2,
    rise: 1,
};

/// Makes or changes the VIP: with the own backends of these nodes, and their weights.
fn put(site: &Site, nodes: &[(&str, u16)]) {
    let hosts = nodes
        .iter()
        .map(|(name, weight)| (site.lab().host(name), *weight));
    let spec = json!({
        "addresses": vips(0),
        "mode": "nat",
        "ports": [{ "port": PAGES }],
        "traffic_policy": "local",
        "backends": backends(hosts),
        "health": PACE.of(json!({ "kind": "http", "port": ASKED, "all_down": "withdraw" })),
    });
    site.put("www", &spec);
}

/// Waits until a node holds both addresses, and sees that it serves them itself, and knows who asks.
fn on(site: &Site, node: &str, bound: Duration) {
    site.rests_on(node, bound);
    let (host, client) = (site.lab().host(node), site.lab().client());
    for page in site.pages(vips(0)).unwrap() {
        let said = [vips(0)[0], vips(0)[1]].map(|vip| {
            format!(
                "{node} answered at {} for {}",
                own(host, vip),
                own(client, vip)
            )
        });
        assert!(said.contains(&page), "{page}");
    }
}

#[test]
fn a_vip_of_traffic_policy_local_is_where_a_backend_of_the_nodes_own_is_well_and_shows_it_clients()
{
    let lab = Lab::new(&["n1", "n2", "n3"]).unwrap();
    lab.servers().for_each(|host| Patient(host).start());
    let site = Site::start(lab, |_| Ok(()));
    let history = History::start(&site.cluster).unwrap();
    put(&site, &[("n1", 1), ("n2", 1)]);
    let first = site.held(vips(0), "a holder", |_| true).name();
    let other = if first == "n1" { "n2" } else { "n1" };
    assert!(["n1", "n2"].contains(&first), "{first} has no backend");
    std::thread::sleep(GRACE);
    on(&site, first, PATIENCE);
    let line = ["vip", "move", "www", "--to", "n3"];
    let refused = site.cluster.vipctl(&line).unwrap_err().to_string();
    assert!(
        refused.contains("none of its backends is there"),
        "{refused}"
    );

    // The other one's is well, so it goes there; when that one's is not either, it stays.
    site.patient(first).falls_ill();
    on(&site, other, PACE.falls() + SLACK);
    site.told(
        "www",
        &[&format!("{first} -> {other}"), "all backends down"],
    );
    site.told("www", &["is down: ", "status 503"]);
    site.patient(other).falls_ill();
    let both = [first, other].map(|name| (name, "status 503"));
    site.sees_down(other, "www", &both, PACE.falls());
    std::thread::sleep(PACE.interval);
    on(&site, other, PATIENCE);
    site.patient(first).gets_well();
    site.patient(other).gets_well();
    // Else it would leave one that is still seen down as soon as it can.
    for node in [first, other] {
        site.sees_down(node, "www", &[], PACE.rises());
    }

    // A backend that drains is none, nor is one that is taken out; n3 has one in the end.
    put(&site, &[(first, 1), (other, 0)]);
    on(&site, first, PACE.falls());
    put(&site, &[(other, 1)]);
    on(&site, other, PACE.falls());
    let seen = history.elections(vips(0)[0]);
    assert!(seen.iter().all(|(name, _)| name != "n3"), "{seen:?}");
    put(&site, &[("n3", 1), (other, 1)]);
    on(&site, other, PATIENCE);

    site.lab().host(other).power_off().unwrap();
    on(&site, "n3", PACE.falls());
}
