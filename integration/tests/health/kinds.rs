//! Backends that are asked by https, by datagrams and by programs.

use std::fs;
use std::net::{Ipv6Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vipd_integration::cluster::{PATIENCE, wait};
use vipd_integration::lab::{Host, Lab};

use crate::patient::{ASKED_BY_TLS, Authority, PAGES, Patient};
use crate::{Pace, Site, backends, both, name, page_from, vips};

/// An answer has as long as an interval: on a busy machine a shake of hands takes a while.
const PACE: Pace = Pace {
    interval: Duration::from_secs(1),
    fall: 2,
    rise: 3,
};
/// What certificates are for.
const HOST: &str = "www.lab";
/// Where backends take datagrams: what comes back does not matter, and does.
const SILENT: u16 = 8053;
const EXPECTED: u16 = 8054;
/// The VIPs.
const KINDS: [&str; 4] = ["https", "udp", "expect", "exec"];
/// The node that trusts nobody of the lab, and runs no programs.
const BARE: &str = "n3";

/// Takes datagrams on one port of a host, and answers with a word, if it has one; until dropped.
struct Datagrams {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Datagrams {
    fn start(host: &Host, port: u16, answer: Option<&'static str>) -> Self {
        let bind = || Ok(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?);
        let socket = host.netns().unwrap().enter(bind).unwrap();
        let tick = Duration::from_millis(20);
        socket.set_read_timeout(Some(tick)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let work = move || {
            while !told.load(Ordering::Relaxed) {
                if let (Ok((_, from)), Some(answer)) = (socket.recv_from(&mut [0; 64]), answer) {
                    socket.send_to(answer.as_bytes(), from).unwrap();
                }
            }
        };
        let thread = Some(std::thread::spawn(work));
        Self { stop, thread }
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was already printed.
            let _ = thread.join();
        }
    }
}

/// The program that nodes run: a backend is ill while there is a file of its address's name.
fn program(lab: &Lab, on: &Host) -> std::path::PathBuf {
    let dir = on.disk().join("checks");
    fs::create_dir(&dir).unwrap();
    let mark = lab.dir().join("ill").display().to_string();
    let script = format!(
        "#!/bin/sh\n[ -e \"{mark}-$1\" ] || exit 0\necho \"$VIPD_VIP: no room at $1, port $2\"\nexit 3\n"
    );
    fs::write(dir.join("room"), script).unwrap();
    for path in [&dir, &dir.join("room")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

fn mark(site: &Site, ill: bool) {
    for address in both(site.lab().host("b2")) {
        let path = site.lab().dir().join(format!("ill-{address}"));
        match ill {
            true => fs::write(path, "").unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }
}

fn number(kind: &str) -> u8 {
    KINDS.iter().position(|it| *it == kind).unwrap() as u8
}

/// Makes or changes the VIP of a kind.
fn put(site: &Site, kind: &str, question: Value) {
    let mut ports = json!([{ "port": PAGES }]);
    if let Some(port) = question["kind"].as_str().filter(|kind| *kind == "udp") {
        let of = if kind == "udp" { SILENT } else { EXPECTED };
        let udp = json!({ "port": of, "protocol": port });
        ports.as_array_mut().unwrap().push(udp);
    }
    let spec = json!({
        "addresses": vips(number(kind)),
        "mode": "nat",
        "ports": ports,
        "backends": backends(site.lab().backends().map(|host| (host, 1))),
        "health": PACE.of(question),
    });
    site.put(kind, &spec);
}

fn https(insecure: bool) -> Value {
    let mut question = json!({ "kind": "https", "port": ASKED_BY_TLS, "host": HOST });
    if insecure {
        question["insecure"] = json!(true);
    }
    question
}

fn holder<'a>(site: &'a Site, kind: &str) -> &'a str {
    site.cluster.holder(vips(number(kind))[0]).unwrap().name()
}

fn move_to(site: &Site, kind: &str, node: &str) {
    let vips = vips(number(kind));
    if holder(site, kind) != node {
        let line = ["vip", "move", kind, "--to", node];
        site.cluster.vipctl(&line).unwrap();
    }
    site.held(vips, &format!("{node} holds"), |name| name == node);
}

/// Waits until the holder sees these down, says so to whoever asks, has made an event of it, and uses the others alone.
fn falls(site: &Site, kind: &str, down: &[(&str, &str)], began: Instant) {
    let node = holder(site, kind);
    let left = || PACE.falls().saturating_sub(began.elapsed());
    site.sees_down(node, kind, down, left());
    println!("{kind}: seen down after {:?}", began.elapsed());
    let others = ["b1", "b2", "b3"];
    let others = others.into_iter();
    let up = others.filter(|name| down.iter().all(|(it, _)| it != name));
    // Two hundred pages take a while.
    site.served_by(vips(number(kind)), &up.collect::<Vec<_>>(), PATIENCE);
    let shown = site.cluster.node(node);
    let shown = shown.vipctl(&["vip", "get", kind]).unwrap();
    for (host, why) in down {
        let [v4, v6] = both(site.lab().host(host)).map(|address| address.to_string());
        for address in [v4, v6] {
            let mut lines = shown.lines();
            let line = lines.find(|it| it.contains(&format!("  {address} is down for ")));
            assert!(
                line.is_some_and(|it| it.contains(why)),
                "{address}: {shown}"
            );
            let down = format!("backend {address} is down: ");
            site.told(kind, &[&down, why]);
        }
    }
}

/// Waits until a backend that has been well since `began` gets connections, which it does not do before `rise` answers.
fn rises(site: &Site, kind: &str, host: &str, began: Instant) {
    let vips = vips(number(kind));
    site.lab()
        .client()
        .netns()
        .unwrap()
        .enter(|| {
            for vip in vips {
                let what = format!("{host} serves {vip} again");
                let bound = PACE.rises().saturating_sub(began.elapsed());
                let first = wait(&what, bound, || {
                    let page = page_from(None, (vip, PAGES).into(), crate::PAGE)?;
                    Ok((name(&page) == host).then(|| began.elapsed()))
                })?;
                println!("{kind}: {host} serves {vip} after {first:?}");
                assert!(first >= PACE.rises_not_before(), "{first:?}");
            }
            Ok(())
        })
        .unwrap();
    for address in both(site.lab().host(host)) {
        site.told(kind, &[&format!("backend {address} is up")]);
    }
}

#[test]
fn a_backend_that_fails_a_check_of_any_kind_gets_no_new_connections_until_it_passes() {
    let lab = Lab::with_backends(&["n1", "n2", BARE], &["b1", "b2", "b3"]).unwrap();
    let [ours, another] = ["lab", "other"].map(Authority::new);
    let trusted = lab.dir().join("trusted.pem");
    fs::write(&trusted, ours.pem()).unwrap();
    for host in lab.backends() {
        Patient(host).show(&ours.certify(HOST));
        Patient(host).start();
    }
    let dirs = ["n1", "n2"].map(|name| program(&lab, lab.host(name)).display().to_string());
    let site = Site::start(lab, |node| {
        let number = ["n1", "n2"].iter().position(|it| *it == node.host().name());
        let Some(number) = number else {
            return Ok(());
        };
        node.set_environment("SSL_CERT_FILE", trusted.to_str().unwrap())?;
        node.configure("health", "exec_dir", dirs[number].as_str())
    });
    let word = |name| Some(name).filter(|name| *name != "b1").map(|_| "pong");
    let mut datagrams: Vec<_> = ["b1", "b2", "b3"]
        .into_iter()
        .flat_map(|name| {
            let host = site.lab().host(name);
            // One of them says nothing, which is well unless a word is expected.
            let silent = Datagrams::start(host, SILENT, word(name));
            [silent, Datagrams::start(host, EXPECTED, Some("pong"))]
        })
        .collect();

    put(&site, "https", https(false));
    put(&site, "udp", json!({ "kind": "udp", "send": "ping" }));
    let expects = json!({ "kind": "udp", "send": "0x70696e67", "expect": "pong" });
    put(&site, "expect", expects);
    put(&site, "exec", json!({ "kind": "exec", "program": "room" }));
    for kind in KINDS {
        site.held(vips(number(kind)), "a holder", |_| true);
        move_to(&site, kind, "n1");
        site.sees_down("n1", kind, &[], PATIENCE);
        site.served_by(vips(number(kind)), &["b1", "b2", "b3"], PATIENCE);
    }

    // All at a time: a status, nobody there, another word, an exit code.
    let b2 = site.lab().host("b2");
    Patient(b2).falls_ill();
    datagrams.drain(2..4);
    datagrams.push(Datagrams::start(b2, EXPECTED, Some("pang")));
    mark(&site, true);
    let began = Instant::now();
    for (kind, why) in [
        ("https", "status 503"),
        ("udp", "refused"),
        ("expect", "did not answer as expected"),
        ("exec", "room: exit code 3: exec: no room at "),
    ] {
        falls(&site, kind, &[("b2", why)], began);
    }
    datagrams.pop();
    let began = Instant::now();
    datagrams.push(Datagrams::start(b2, SILENT, None));
    datagrams.push(Datagrams::start(b2, EXPECTED, Some("pong")));
    mark(&site, false);
    Patient(b2).gets_well();
    for kind in KINDS {
        rises(&site, kind, "b2", began);
    }

    // A certificate for another host, and one of an authority that nobody here trusts.
    Patient(b2).show(&ours.certify("other.lab"));
    site.patient("b3").show(&another.certify(HOST));
    let wrong = [
        ("b2", "not valid for name \"www.lab\""),
        ("b3", "by no authority that this node's system trusts"),
    ];
    falls(&site, "https", &wrong, Instant::now());
    let began = Instant::now();
    Patient(b2).show(&ours.certify(HOST));
    rises(&site, "https", "b2", began);
    site.sees_down("n1", "https", &wrong[1..], PATIENCE);
    put(&site, "https", https(true));
    site.sees_down("n1", "https", &[], PATIENCE);
    site.served_by(vips(number("https")), &["b1", "b2", "b3"], PATIENCE);

    // What a node trusts and runs is its own matter: this one sees all of them down, says why, and uses them all the same.
    put(&site, "https", https(false));
    for (kind, why) in [
        ("https", "authorit"),
        (
            "exec",
            "name a folder with exec_dir under [health] in its vipd.toml",
        ),
    ] {
        move_to(&site, kind, BARE);
        let all = ["b1", "b2", "b3"].map(|host| (host, why));
        site.sees_down(BARE, kind, &all, PATIENCE);
        site.served_by(vips(number(kind)), &["b1", "b2", "b3"], PATIENCE);
    }
}
