//! The node that would hold a VIP next asks its backends, too, so that it knows them when it has to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;
use vipd_integration::cluster::{PATIENCE, wait};
use vipd_integration::lab::{Host, Lab};
use vipd_integration::{GRACE, Stamp};

use crate::patient::{ASKED, PAGES, Patient};
use crate::{Pace, Site, backends, both, name, own, page_by, page_from, vips};

/// Slow enough that who begins to ask with a takeover serves hundreds of pages before he knows.
const PACE: Pace = Pace {
    interval: Duration::from_millis(500),
    fall: 3,
    rise: 3,
};
/// The port of the VIP that keeps clients with their backends, and serves those of some ranges alone.
const STICKY: u16 = 8001;
/// So many clients: that one backend has all of them at both addresses happens once in 10^18 runs.
const CLIENTS: u8 = 20;
/// Pages after the takeover, at each address.
const AFTER: usize = 200;
/// Ports that a client takes again: the new holder has been told of the connections that it has had by them, and not yet that
/// these are over. That none has led to one of three backends happens once in 10^14 runs.
const AGAIN: u16 = 40;
/// The first of them.
const PORTS: u16 = 20_000;
/// What a SYN may wait for an answer where the holder is lost.
const SYN: Duration = Duration::from_millis(200);

/// Whom backends see ask, by family: the holder as the VIP, and who would hold next as itself.
fn asks(site: &Site, next: &str, vip: IpAddr) -> [IpAddr; 2] {
    [vip, own(site.lab().host(next), vip)]
}

/// Waits until these alone ask each backend, and sees that this stays so.
fn asked_by(site: &Site, next: &str) {
    let wanted: BTreeSet<IpAddr> = vips(0)
        .into_iter()
        .flat_map(|vip| asks(site, next, vip))
        .collect();
    let span = PACE.interval * 4;
    let long = |span: Duration| {
        let then = Stamp::now() - span;
        let all = site.lab().backends();
        all.map(|host| Patient(host).asked_since(then))
            .collect::<Vec<_>>()
    };
    let what = format!("the holder and {next} alone ask");
    wait(&what, PATIENCE, || {
        let so = long(span).iter().all(|by| *by == wanted);
        Ok(so.then_some(()))
    })
    .unwrap();
    sleep(span);
    for by in long(span) {
        assert_eq!(by, wanted, "{next} is next");
    }
}

/// Who would hold both addresses next.
fn runner_up(site: &Site) -> String {
    wait("one node would hold both next", PATIENCE, || {
        let vip = site.cluster.ask("/v1/vips/www")?;
        let all = vip["status"]["addresses"].as_array().unwrap();
        let mut all: Vec<_> = all.iter().map(|it| it["runner_up"].as_str()).collect();
        all.dedup();
        Ok(match all[..] {
            [Some(one)] => Some(one.to_owned()),
            _ => None,
        })
    })
    .unwrap()
}

/// The addresses of one more client, which uses the first [`AGAIN`] ports before the takeover and after it.
fn newcomer() -> [IpAddr; 2] {
    [IpAddr::from([10, 77, 2, 1]), "fd77::2:1".parse().unwrap()]
}

/// The addresses of many clients.
fn clients() -> Vec<[IpAddr; 2]> {
    let of = |n: u8| {
        [
            IpAddr::from([10, 77, 1, n]),
            format!("fd77::1:{n:x}").parse().unwrap(),
        ]
    };
    (1..=CLIENTS).map(of).collect()
}

fn make_clients(host: &Host) {
    let mut lines = String::new();
    // The last one is that of who has no preference, in IPv6.
    for [v4, v6] in [newcomer()].into_iter().chain(clients()) {
        writeln!(lines, "addr add {v4}/16 dev eth0").unwrap();
        writeln!(lines, "addr add {v6}/64 dev eth0 nodad").unwrap();
    }
    host.ip(&lines).unwrap();
}

/// Who serves the newcomer on each of the ports that it takes again.
fn again(site: &Site) -> Vec<String> {
    let inside = site.lab().client().netns().unwrap();
    let served = inside.enter(|| {
        let both = vips(0).into_iter().zip(newcomer());
        let all = both.flat_map(|both| (PORTS..PORTS + AGAIN).map(move |port| (both, port)));
        all.map(|((vip, from), port)| {
            let from = Some((from, port).into());
            let page = page_by(from, (vip, PAGES).into(), crate::PAGE)?;
            Ok(name(&page).to_owned())
        })
        .collect()
    });
    served.unwrap()
}

/// Which backend each client is served by, on two connections; a client from elsewhere gets no answer.
fn sticky(site: &Site) -> BTreeMap<IpAddr, String> {
    let inside = site.lab().client().netns().unwrap();
    let served = inside.enter(|| {
        let mut served = BTreeMap::new();
        for (family, vip) in vips(0).into_iter().enumerate() {
            for client in clients().into_iter().map(|both| both[family]) {
                let page = || page_from(Some(client), (vip, STICKY).into(), crate::PAGE);
                let (first, second) = (page()?, page()?);
                assert_eq!(first, second, "{client}");
                served.insert(client, name(&first).to_owned());
            }
            let stranger = own(site.lab().client(), vip);
            let page = page_from(Some(stranger), (vip, STICKY).into(), SYN);
            assert!(page.is_err(), "{stranger} is served: {page:?}");
        }
        Ok(served)
    });
    served.unwrap()
}

/// Connections that a node has given to a backend, or dropped of those that may not come, since its programs are in place.
fn counted(site: &Site, node: &str, port: u16, what: Result<&Host, &str>) -> u64 {
    let api = site.cluster.node(node).api();
    let services = api.get("/v1/lb/services").unwrap();
    let services = services["items"].as_array().unwrap().iter();
    let services = services.filter(|it| it["port"] == port);
    let each = services.map(|service| match what {
        Err(reason) => service["traffic"]["drops"][reason].as_u64().unwrap_or(0),
        Ok(host) => {
            let address = |it: &&serde_json::Value| {
                let at = it["address"].as_str().unwrap_or_default().parse();
                at.is_ok_and(|at| both(host).contains(&at))
            };
            let mut backends = service["backends"].as_array().unwrap().iter();
            let of = backends.find(address);
            of.map_or(0, |it| it["traffic"]["connections"].as_u64().unwrap())
        }
    });
    each.sum()
}

#[test]
fn the_next_holder_asks_too_and_uses_who_is_well_from_its_first_connection_and_the_same_for_a_client()
 {
    let lab = Lab::with_backends(&["n1", "n2", "n3"], &["b1", "b2", "b3"]).unwrap();
    lab.backends().for_each(|host| Patient(host).start());
    make_clients(lab.client());
    let site = Site::start(lab, |_| Ok(()));
    let all = backends(site.lab().backends().map(|host| (host, 1)));
    let spec = json!({
        "addresses": vips(0),
        "mode": "nat",
        "sharing_key": "k",
        "ports": [{ "port": PAGES }],
        "backends": all,
        "health": PACE.of(json!({ "kind": "http", "port": ASKED })),
    });
    site.put("www", &spec);
    let spec = json!({
        "addresses": vips(0),
        "mode": "nat",
        "sharing_key": "k",
        "ports": [{ "port": STICKY, "target_port": PAGES }],
        "backends": all,
        "affinity": "client",
        "source_ranges": ["10.77.1.0/24", "fd77::1:0/112"],
    });
    site.put("sticky", &spec);
    let holder = site.held(vips(0), "a holder", |_| true);
    sleep(GRACE);
    site.served_by(vips(0), &["b1", "b2", "b3"], PATIENCE);
    let next = runner_up(&site);
    asked_by(&site, &next);
    let third = site.lab().servers().map(Host::name);
    let third = third.into_iter();
    let third = third.filter(|name| *name != holder.name() && *name != next);
    let third = third.collect::<Vec<_>>()[0];
    assert!(site.seen(third, "www").unwrap().is_empty(), "{third} asks");

    let of_old = again(&site);
    assert!(of_old.iter().any(|by| by == "b1"), "{of_old:?}");

    // It is ill, and would serve whoever came.
    let ill = Instant::now();
    site.patient("b1").falls_ill();
    for node in [holder.name(), &next] {
        let bound = PACE.falls().saturating_sub(ill.elapsed());
        site.sees_down(node, "www", &[("b1", "status 503")], bound);
    }
    site.served_by(vips(0), &["b2", "b3"], PATIENCE);
    let before = sticky(&site);
    let used: BTreeSet<_> = before.values().collect();
    assert!(used.len() > 1, "{used:?}");

    let well = Stamp::now();
    let cut = Instant::now();
    holder.power_off().unwrap();
    let after = site.lab().client().netns().unwrap().enter(|| {
        let mut pages = Vec::new();
        for (vip, from) in vips(0).into_iter().zip(newcomer()) {
            let page = |patience| page_from(Some(from), (vip, PAGES).into(), patience);
            let first = || page(SYN).map(Some);
            pages.push(wait("the first page", PATIENCE, first)?);
            println!("{vip}: the first page {:?} after the cut", cut.elapsed());
            for _ in 0..AFTER {
                pages.push(page(crate::PAGE)?);
            }
        }
        Ok(pages)
    });
    let took = cut.elapsed();
    println!("{} pages within {took:?} of the cut", 2 * AFTER + 2);
    let new = site.held(vips(0), "another holds", |name| name != holder.name());
    assert_eq!(new.name(), next);
    // Whoever has gone astray is named with the number of the connection.
    let after = after.unwrap();
    let all = after.iter().map(|page| name(page)).enumerate();
    let astray: Vec<_> = all.filter(|(_, by)| *by == "b1").collect();
    assert_eq!(astray, [], "{:#?}", site.seen(&next, "www"));
    let by: BTreeSet<&str> = after.iter().map(|page| name(page)).collect();
    assert!(by.iter().eq(&["b2", "b3"]), "{by:?}");
    let of_new = again(&site);
    assert!(of_new.iter().all(|by| by != "b1"), "{of_new:?}");
    let b1 = site.lab().host("b1");
    assert_eq!(counted(&site, &next, PAGES, Ok(b1)), 0);
    assert_eq!(Patient(b1).served_since(well), Vec::<IpAddr>::new());

    // The same for a client, and who may not come may not come.
    let forbidden = counted(&site, &next, STICKY, Err("forbidden"));
    assert_eq!(sticky(&site), before);
    assert!(counted(&site, &next, STICKY, Err("forbidden")) > forbidden);

    // The third one asks now, and everybody learns that it is well again.
    assert_eq!(runner_up(&site), third);
    asked_by(&site, third);
    let began = Instant::now();
    Patient(b1).gets_well();
    let bound = PACE.rises().saturating_sub(began.elapsed());
    for node in [next.as_str(), third] {
        site.sees_down(node, "www", &[], bound);
    }
    site.served_by(vips(0), &["b1", "b2", "b3"], PATIENCE);
}
