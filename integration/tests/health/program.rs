//! Health checks of VIPs of mode `local`: where a node's own program is not well, the VIP is not.

use std::time::Duration;

use serde_json::json;
use vipd_core::health::Sight;
use vipd_integration::cluster::{History, PATIENCE};
use vipd_integration::lab::Lab;

use crate::patient::{ASKED, PAGES, Patient};
use crate::{Pace, SLACK, Site, vips};

const PACE: Pace = Pace {
    interval: Duration::from_secs(1),
    fall: 2,
    rise: 1,
};

#[test]
fn a_vip_of_mode_local_is_where_the_nodes_own_program_is_well() {
    let lab = Lab::new(&["n1", "n2", "n3"]).unwrap();
    for name in ["n1", "n2"] {
        Patient(lab.host(name)).start();
    }
    let site = Site::start(lab, |_| Ok(()));
    let history = History::start(&site.cluster).unwrap();
    let spec = json!({
        "addresses": vips(0),
        "ports": [{ "port": PAGES }],
        "health": PACE.of(json!({ "kind": "http", "port": ASKED, "all_down": "withdraw" })),
    });
    site.put("www", &spec);
    // n3 has no such program: if the VIP begins there, it leaves.
    let first = site.held(vips(0), "n1 or n2", |name| name != "n3").name();
    let other = if first == "n1" { "n2" } else { "n1" };
    site.rests_on(first, PATIENCE);

    // Perhaps by way of n3, if nobody had time to ask there.
    site.patient(first).falls_ill();
    site.rests_on(other, PACE.falls() * 2);
    site.told("www", &[&format!("{first} -> "), "all backends down"]);
    // Where it is well nowhere, it stays: n3, which is next, has no such program.
    let none = [("n3", "refused")];
    site.sees_down("n3", "www", &none, PACE.falls());
    site.patient(other).falls_ill();
    let own = [(other, "status 503")];
    site.sees_down(other, "www", &own, PACE.falls());
    std::thread::sleep(PACE.interval);
    site.rests_on(other, PATIENCE);

    // Good news is believed when it has lasted.
    site.patient(first).gets_well();
    let lasting = Duration::from_nanos(Sight::FIRST.0);
    site.rests_on(first, PACE.rises() + lasting + SLACK);
    println!("{:?}", history.elections(vips(0)[0]));
}
