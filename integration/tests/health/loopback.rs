//! Backends at loopback addresses: programs that listen there alone serve the VIP from whichever node holds it, if that lets them.

use std::time::Duration;

use serde_json::json;
use vipd_integration::GRACE;
use vipd_integration::cluster::{PATIENCE, wait};
use vipd_integration::lab::Lab;

use crate::patient::{ASKED, PAGES, Patient};
use crate::{Pace, SLACK, Site, own, vips};

const PACE: Pace = Pace {
    interval: Duration::from_secs(1),
    fall: 2,
    rise: 1,
};

/// Waits until a node holds both addresses and serves them; its program knows who asks. (nginx says where it listens.)
fn on(site: &Site, node: &str, bound: Duration) {
    site.held(vips(0), &format!("{node} holds"), |name| name == node);
    site.served_by(vips(0), &[node], bound);
    let client = site.lab().client();
    let said = ["127.0.0.1", "::1"].map(|at| {
        let asker = own(client, at.parse().unwrap());
        format!("{node} answered at {at} for {asker}")
    });
    for page in site.pages(vips(0)).unwrap() {
        assert!(said.contains(&page), "{page}");
    }
}

#[test]
fn programs_that_listen_at_loopback_addresses_serve_the_vip_where_their_nodes_allow_it() {
    let lab = Lab::new(&["n1", "n2", "n3"]).unwrap();
    lab.servers()
        .for_each(|host| Patient(host).start_on_loopback());
    let site = Site::start(lab, |node| {
        if node.host().name() == "n3" {
            return Ok(());
        }
        let ports = [PAGES, ASKED].map(|port| toml::Value::from(i64::from(port)));
        node.configure("balance", "loopback_ports", ports.to_vec())
    });
    let backends = ["127.0.0.1", "::1"].map(|at| json!({ "address": at }));
    let spec = json!({
        "addresses": vips(0),
        "mode": "nat",
        "ports": [{ "port": PAGES }],
        "backends": backends,
        "health": PACE.of(json!({ "kind": "http", "port": ASKED, "all_down": "withdraw" })),
    });
    site.put("www", &spec);
    site.held(vips(0), "a holder", |_| true);
    std::thread::sleep(GRACE);
    // n3 sees nobody whom it may ask, and so gives the VIP up.
    site.cluster
        .vipctl(&["vip", "move", "www", "--to", "n3"])
        .ok();
    let refused = "does not name port 8090 in loopback_ports under [balance]";
    wait("n3 says why it has no backend", PATIENCE, || {
        let seen = site.seen("n3", "www")?;
        let so = !seen.is_empty() && seen.iter().all(|it| it.reason.contains(refused));
        Ok(so.then_some(()))
    })
    .unwrap();
    let first = site
        .held(vips(0), "one that lets clients in holds", |name| {
            name != "n3"
        })
        .name();
    let other = if first == "n1" { "n2" } else { "n1" };
    on(&site, first, PATIENCE);

    site.patient(first).falls_ill();
    on(&site, other, PACE.falls() + SLACK);
    site.patient(first).gets_well();
    wait(&format!("{first} sees it well"), PACE.rises(), || {
        let seen = site.seen(first, "www")?;
        Ok(seen.iter().all(|it| it.healthy).then_some(()))
    })
    .unwrap();
    site.lab().host(other).power_off().unwrap();
    on(&site, first, PATIENCE);
}
