//! The lab proves itself: hosts, faults, tap and probe, without any vipd.
#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use vipd_integration::Stamp;
use vipd_integration::lab::{Host, Lab};
use vipd_integration::probe::Probe;
use vipd_integration::wire::{Asker, How, Tap, announce, judge};

const VIP4: &str = "10.77.0.100";
const VIP6: &str = "fd77::100";
const SOON: Duration = Duration::from_secs(5);

fn vips() -> [IpAddr; 2] {
    [VIP4.parse().unwrap(), VIP6.parse().unwrap()]
}

fn take(host: &Host) {
    host.ip(&format!(
        "addr add {VIP4}/32 dev eth0\naddr add {VIP6}/128 dev eth0 nodad\n"
    ))
    .unwrap();
}

fn give_up(host: &Host) {
    host.ip(&format!(
        "addr del {VIP4}/32 dev eth0\naddr del {VIP6}/128 dev eth0\n"
    ))
    .unwrap();
}

/// Serves on all servers, and lets everybody ask for both VIPs.
struct Watch {
    lab: Lab,
    tap: Tap,
    probes: [Probe; 2],
    _asker: Asker,
}

fn watch(servers: &[&str]) -> Watch {
    let lab = Lab::new(servers).unwrap();
    let tap = Tap::start(lab.switch()).unwrap();
    for server in lab.servers() {
        server.serve().unwrap();
    }
    for vip in vips() {
        tap.watch(vip);
    }
    let probes = vips().map(|vip| Probe::start(lab.client(), vip).unwrap());
    let asker = Asker::start(lab.observer(), &vips(), Duration::from_millis(5)).unwrap();
    Watch {
        lab,
        tap,
        probes,
        _asker: asker,
    }
}

#[test]
fn an_address_moved_by_hand_is_seen_by_tap_and_probe() {
    let w = watch(&["n1", "n2"]);
    let (n1, n2) = (w.lab.host("n1"), w.lab.host("n2"));
    take(n1);
    for probe in &w.probes {
        probe.wait_for("n1", Stamp::default(), SOON).unwrap();
    }
    let before = Stamp::now();
    give_up(n1);
    take(n2);
    let moved = Stamp::now();
    // The client's neighbour table is an ordinary one: it must be told, or it would ask n1 for long.
    sleep(Duration::from_millis(300));
    for (vip, probe) in vips().into_iter().zip(&w.probes) {
        assert_ne!(probe.latest().map(|r| r.at > moved), Some(true), "{vip}");
        announce(n2, vip).unwrap();
        probe.wait_for("n2", moved, SOON).unwrap();
    }
    sleep(Duration::from_millis(100));
    for (vip, probe) in vips().into_iter().zip(&w.probes) {
        let answers = w.tap.answers(vip).unwrap();
        let verdict = judge(&answers, &[]);
        assert!(verdict.is_clean(), "{vip}: {verdict:?}");
        assert_eq!(verdict.handovers, 1, "{vip}");
        assert!(
            answers
                .iter()
                .any(|a| a.mac == n1.mac() && a.how.is_reply() && &*a.port == "n1")
        );
        assert!(
            answers
                .iter()
                .any(|a| a.mac == n2.mac() && a.how.is_reply() && &*a.port == "n2")
        );
        assert!(answers.iter().any(|a| a.how == How::Packet));
        let gap = probe.outage_since(before);
        eprintln!(
            "{vip}: client without an answer for {:?}, {} claims heard",
            gap.length(),
            answers.len()
        );
        assert!(
            gap.length() > Duration::from_millis(300) && gap.length() < SOON,
            "{gap:?}"
        );
        assert_eq!(
            (gap.before.as_deref(), gap.after.as_deref()),
            (Some("n1"), Some("n2"))
        );
    }
}

#[test]
fn two_hosts_with_the_same_address_are_caught() {
    let w = watch(&["n1", "n2"]);
    take(w.lab.host("n1"));
    w.probes[0].wait_for("n1", Stamp::default(), SOON).unwrap();
    w.probes[1].wait_for("n1", Stamp::default(), SOON).unwrap();
    take(w.lab.host("n2"));
    sleep(Duration::from_millis(300));
    for vip in vips() {
        let verdict = judge(&w.tap.answers(vip).unwrap(), &[]);
        assert!(
            verdict.strays.len() > 10,
            "{vip}: only {} strays",
            verdict.strays.len()
        );
        assert!(
            verdict.overlap > Duration::from_millis(200),
            "{vip}: {:?}",
            verdict.overlap
        );
    }
}

#[test]
fn power_off_silences_a_host_at_once_and_power_on_brings_the_same_machine_back() {
    let w = watch(&["n1", "n2"]);
    let n1 = w.lab.host("n1");
    take(n1);
    for probe in &w.probes {
        probe.wait_for("n1", Stamp::default(), SOON).unwrap();
    }
    std::fs::write(n1.disk().join("kept"), "kept").unwrap();
    std::fs::write(n1.runtime().join("lost"), "lost").unwrap();
    n1.spawn("sleeper", std::process::Command::new("sleep").arg("600"))
        .unwrap();
    let pid = n1.process("sleeper", |p| Ok(p.pid())).unwrap();

    n1.power_off().unwrap();
    let off = Stamp::now();
    assert!(
        !std::path::Path::new(&format!("/proc/{pid}")).exists(),
        "a process survived the power cut"
    );
    assert!(n1.run(&mut std::process::Command::new("true")).is_err());
    sleep(Duration::from_millis(200));
    for vip in vips() {
        assert_eq!(w.tap.answers_after(vip, off).unwrap(), []);
    }

    n1.power_on().unwrap();
    assert!(n1.disk().join("kept").exists());
    assert!(!n1.runtime().join("lost").exists());
    sleep(Duration::from_millis(100));
    for vip in vips() {
        assert_eq!(
            w.tap.answers_after(vip, off).unwrap(),
            [],
            "its addresses must not come back by themselves"
        );
    }
    take(n1);
    for (vip, probe) in vips().into_iter().zip(&w.probes) {
        probe.wait_for("n1", off, Duration::from_secs(10)).unwrap();
        assert!(judge(&w.tap.answers(vip).unwrap(), &[]).is_clean());
    }
}

#[test]
fn a_host_cut_from_its_peers_still_reaches_the_client() {
    let w = watch(&["n1", "n2", "n3"]);
    let pings = |from: &str, to: &str| {
        let to = w.lab.host(to).v4().to_string();
        let ping = w.lab.host(from).netns().unwrap().enter(|| {
            // A connection to the responder's port: no ping program is needed.
            let address = format!("{to}:80").parse().unwrap();
            Ok(std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_ok())
        });
        ping.unwrap()
    };
    assert!(pings("n1", "n2") && pings("client", "n1"));

    w.lab.cut_from_peers("n1").unwrap();
    assert!(!pings("n1", "n2") && !pings("n3", "n1") && pings("n2", "n3") && pings("client", "n1"));
    w.lab.cut_from_all("n1").unwrap();
    assert!(!pings("client", "n1") && pings("client", "n2"));
    w.lab.heal().unwrap();
    assert!(pings("n1", "n2") && pings("client", "n1"));

    w.lab.host("n1").port_down().unwrap();
    assert!(!pings("client", "n1"));
    w.lab.host("n1").port_up().unwrap();
    assert!(pings("client", "n1"));

    // One way: what n1 says to n2 is lost, so no connection either way, but n2's words arrive.
    w.lab.cut_one_way("n1", "n2").unwrap();
    assert!(!pings("n2", "n1") && pings("n2", "n3"));
}

#[test]
fn a_dropped_lab_leaves_nothing_behind() {
    let lab = Lab::new(&["n1"]).unwrap();
    let (name, dir) = (lab.name().to_owned(), lab.dir().to_owned());
    let n1 = lab.host("n1");
    n1.serve().unwrap();
    n1.spawn("sleeper", std::process::Command::new("sleep").arg("600"))
        .unwrap();
    let pid = n1.process("sleeper", |p| Ok(p.pid())).unwrap();
    drop(lab);
    assert!(!dir.exists());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    let left = std::fs::read_dir("/run/netns").unwrap();
    assert!(
        left.flatten()
            .all(|ns| !ns.file_name().to_string_lossy().starts_with(&name))
    );
}
