//! What a node notices on its own wires: a lost carrier, another host with its address, programs that somebody took off.
//!
//! Real daemons, real kernels. Needs root and `cargo build -p vipd -p vipctl`.
#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use vipd_integration::cluster::{Binaries, Cluster, Node, PATIENCE, wait};
use vipd_integration::lab::{Host, Lab};
use vipd_integration::wire::announce;

/// A second network, `back0` on every server and on the client, for the VIPs alone: peers go on talking by the first.
fn second_network(lab: &Lab) {
    let switch = lab.switch().name();
    let ip = |arguments: &str| {
        let done = Command::new("ip")
            .args(["-n", switch])
            .args(arguments.split_whitespace())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "ip {arguments}: {said}");
    };
    ip("link add br1 type bridge stp_state 0 forward_delay 0 mcast_snooping 0");
    ip("link set br1 up");
    for host in lab.servers().chain([lab.client()]) {
        let port = port(host);
        let [.., number] = host.v4().octets();
        host.ip(&format!(
            "link add back0 type veth peer name {port} netns {switch}\n\
             addr add 10.78.0.{number}/24 dev back0\nlink set back0 up\n"
        ))
        .unwrap();
        ip(&format!("link set {port} master br1"));
        ip(&format!("link set {port} up"));
    }
}

fn port(host: &Host) -> String {
    format!("{}-back", host.name())
}

/// The messages of all events, from any daemon.
fn events(cluster: &Cluster) -> Vec<String> {
    let answer = cluster.ask("/v1/events?consistency=local").unwrap();
    let items = answer["items"].as_array().unwrap();
    let message = |event: &serde_json::Value| event["message"].as_str().unwrap().to_owned();
    items.iter().map(message).collect()
}

fn wait_for_event(cluster: &Cluster, words: &[&str]) -> String {
    let what = format!("an event says {words:?}");
    let found = wait(&what, PATIENCE, || {
        let says = |event: &String| words.iter().all(|word| event.contains(word));
        Ok(events(cluster).into_iter().find(says))
    });
    found.unwrap_or_else(|error| panic!("{error:#}; there are: {:#?}", events(cluster)))
}

fn pings(client: &Host, address: IpAddr) -> bool {
    let mut ping = Command::new("ping");
    ping.args(["-n", "-c", "1", "-W", "1", &address.to_string()]);
    client.run(&mut ping).unwrap().status.success()
}

#[test]
fn a_vip_whose_link_is_lost_moves_at_once_while_peers_are_reached_another_way() {
    let lab = Lab::new(&["n1", "n2", "n3"]).unwrap();
    second_network(&lab);
    let both =
        |node: &Node<'_>| node.configure("announce", "interfaces", vec!["^eth0$", "^back0$"]);
    let cluster = Cluster::start_with(lab, Binaries::built().unwrap(), 3, both).unwrap();
    cluster
        .vipctl(&[
            "pool",
            "create",
            "back",
            "--block",
            "10.78.0.100-10.78.0.119",
        ])
        .unwrap();
    cluster
        .vipctl(&["vip", "create", "v", "--pool", "back", "--families", "ipv4"])
        .unwrap();
    let vip: IpAddr = "10.78.0.100".parse().unwrap();
    let old = cluster
        .wait_for_holder(&[vip], "a holder", |_| true)
        .unwrap();
    let client = cluster.lab().client();
    wait("the client reaches it", PATIENCE, || {
        Ok(pings(client, vip).then_some(()))
    })
    .unwrap();

    let start = Instant::now();
    let switch = cluster.lab().switch().name();
    let down = ["-n", switch, "link", "set", &port(old), "down"];
    assert!(Command::new("ip").args(down).status().unwrap().success());
    let new = cluster
        .wait_for_holder(&[vip], "another holder", |name| name != old.name())
        .unwrap();
    println!(
        "{} -> {} after {:?}",
        old.name(),
        new.name(),
        start.elapsed()
    );
    wait("the client reaches it again", PATIENCE, || {
        Ok(pings(client, vip).then_some(()))
    })
    .unwrap();
    println!("the client is served again after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(3));

    wait_for_event(&cluster, &[old.name(), "interface back0 is down"]);
    wait_for_event(
        &cluster,
        &["10.78.0.100", "holder can no longer announce it"],
    );
    let withdrawn = |event: &String| event.contains("withdrawn");
    assert!(
        !events(&cluster).iter().any(withdrawn),
        "no lease had to end for it"
    );
    let has = |host: &Host| {
        let shown = host.run(Command::new("ip").args(["addr", "show", "dev", "back0"]));
        String::from_utf8(shown.unwrap().stdout)
            .unwrap()
            .contains("10.78.0.100/")
    };
    assert!(has(new) && !has(old));
}

#[test]
fn another_host_that_claims_a_vip_is_an_event_and_a_condition_and_is_answered() {
    let lab = Lab::new(&["n1"]).unwrap();
    let cluster = Cluster::start(lab, Binaries::built().unwrap(), 1).unwrap();
    let vips = cluster.dual_stack_vip("v").unwrap();
    let thief = cluster.lab().client();
    let mac = thief.mac().to_string();
    for vip in vips {
        // It is named as held a moment before its gate opens; a claim before that contradicts nobody.
        wait("it is answered for", PATIENCE, || {
            Ok(pings(thief, vip).then_some(()))
        })
        .unwrap();
        announce(thief, vip).unwrap();
        wait_for_event(
            &cluster,
            &[&vip.to_string(), "also claimed by", &mac, "heard on eth0"],
        );
        let condition = wait("the address says so", PATIENCE, || {
            let answer = cluster.ask("/v1/vips/v")?;
            let addresses = answer["status"]["addresses"].as_array().unwrap().clone();
            let of = |a: &&serde_json::Value| a["address"] == vip.to_string();
            let address = addresses.iter().find(of).unwrap();
            assert!(address["announced"].as_u64().unwrap() > 0);
            let condition = address["conditions"].as_array().unwrap().first().cloned();
            Ok(condition.filter(|it| it["type"] == "unique" || it["kind"] == "unique"))
        });
        assert!(
            condition.unwrap()["message"]
                .as_str()
                .unwrap()
                .contains(&mac)
        );
        // And the last word on the wire was the holder's.
        wait("the thief is corrected", PATIENCE, || {
            Ok(pings(thief, vip).then_some(()))
        })
        .unwrap();
    }
}

#[test]
fn programs_that_somebody_took_off_an_interface_are_put_back_within_seconds_and_that_is_an_event() {
    let lab = Lab::new(&["n1"]).unwrap();
    let older = |node: &Node<'_>| node.configure("datapath", "attach", "tc");
    let cluster = Cluster::start_with(lab, Binaries::built().unwrap(), 1, older).unwrap();
    let vips = cluster.dual_stack_vip("v").unwrap();
    let host = cluster.lab().host("n1");
    let mut gone = Command::new("tc");
    gone.args(["qdisc", "del", "dev", "eth0", "clsact"]);
    assert!(host.run(&mut gone).unwrap().status.success());
    wait_for_event(
        &cluster,
        &["n1", "took vipd's programs off eth0", "put back"],
    );
    let filters = host.run(Command::new("tc").args(["filter", "show", "dev", "eth0", "ingress"]));
    assert!(
        String::from_utf8(filters.unwrap().stdout)
            .unwrap()
            .contains("vipd_ingress")
    );
    let client = cluster.lab().client();
    wait("it answers", PATIENCE, || {
        Ok(pings(client, vips[0]).then_some(()))
    })
    .unwrap();
}
