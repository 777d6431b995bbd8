//! Addresses that a host outside the cluster has: asked for before they are announced for the first time, and never again.
//!
//! Real daemons, real kernels; the judge is the sniffer on the switch. Needs root and
//! `cargo build -p vipd -p vipctl`.
#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use vipd_integration::Stamp;
use vipd_integration::cluster::{Binaries, Cluster, Node, PATIENCE, wait};
use vipd_integration::lab::{Host, Lab};
use vipd_integration::wire::Tap;

/// How long an address stays silent after it was let go of: it is asked about every 30 s.
const ASKED_AGAIN: Duration = Duration::from_secs(45);

const V4: &str = "10.77.0.100";
const V6: &str = "fd77::100";

fn vips() -> [IpAddr; 2] {
    [V4.parse().unwrap(), V6.parse().unwrap()]
}

/// Listens to the switch for both.
fn tap(cluster: &Cluster) -> Tap {
    let tap = Tap::start(cluster.lab().switch()).unwrap();
    vips().into_iter().for_each(|vip| tap.watch(vip));
    tap
}

fn take(host: &Host) {
    host.ip(&format!(
        "addr add {V4}/16 dev eth0\naddr add {V6}/64 dev eth0 nodad\n"
    ))
    .unwrap();
}

fn let_go(host: &Host) {
    host.ip(&format!(
        "addr del {V4}/16 dev eth0\naddr del {V6}/64 dev eth0\n"
    ))
    .unwrap();
}

/// A VIP that asks for these very addresses.
fn named_vip(cluster: &Cluster) {
    let pool = ["10.77.0.100-10.77.0.119", "fd77::100-fd77::11f"];
    let mut args = vec!["pool", "create", "web"];
    args.extend(pool.iter().flat_map(|block| ["--block", *block]));
    cluster.vipctl(&args).unwrap();
    let args = ["vip", "create", "v", "--pool", "web"];
    let named = ["--address", V4, "--address", V6];
    cluster.vipctl(&[&args[..], &named[..]].concat()).unwrap();
}

/// The reasons and messages of what is amiss with each of the two addresses.
fn conditions(cluster: &Cluster) -> Vec<(String, String)> {
    let vip = cluster.ask("/v1/vips/v?consistency=local").unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let addresses = vip["status"]["addresses"].as_array().unwrap().iter();
    let all = addresses.flat_map(|address| {
        address["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    });
    all.map(|it| (text(&it["reason"]), text(&it["message"])))
        .collect()
}

/// Waits until both addresses are said to be in use; the messages.
fn in_use(cluster: &Cluster) -> Vec<String> {
    wait("both addresses are in use", PATIENCE, || {
        let found = conditions(cluster).into_iter();
        let found = found.filter(|(reason, _)| reason == "address_in_use");
        let messages: Vec<String> = found.map(|(_, message)| message).collect();
        Ok((messages.len() == 2).then_some(messages))
    })
    .unwrap()
}

fn events(cluster: &Cluster, words: &str) -> usize {
    let answer = cluster.ask("/v1/events?consistency=local").unwrap();
    let items = answer["items"].as_array().unwrap().iter();
    let says = |event: &&Value| event["message"].as_str().unwrap().contains(words);
    items.filter(says).count()
}

fn pings(client: &Host, address: IpAddr) -> bool {
    let mut ping = Command::new("ping");
    ping.args(["-n", "-c", "1", "-W", "1", &address.to_string()]);
    client.run(&mut ping).unwrap().status.success()
}

fn served(client: &Host, bound: Duration) {
    for vip in vips() {
        let what = format!("the client is served at {vip}");
        wait(&what, bound, || Ok(pings(client, vip).then_some(()))).unwrap();
    }
}

#[test]
fn an_address_that_another_host_has_is_announced_by_nobody_until_that_host_lets_go_of_it() {
    let lab = Lab::new(&["n1", "n2", "n3"]).unwrap();
    let cluster = Cluster::start(lab, Binaries::built().unwrap(), 3).unwrap();
    let (his, observer) = (cluster.lab().client(), cluster.lab().observer());
    take(his);
    let tap = tap(&cluster);
    named_vip(&cluster);
    let mac = his.mac().to_string();
    for message in in_use(&cluster) {
        for words in [mac.as_str(), "eth0 of n", "not announced", "take it off"] {
            assert!(message.contains(words), "{message}");
        }
    }
    assert_eq!(events(&cluster, "another host has"), 2);
    let shown = cluster.vipctl(&["vip", "get", "v"]).unwrap();
    assert!(shown.contains(&mac), "{shown}");
    println!("{shown}");
    // He goes on serving them, and nobody else has said a word.
    served(observer, PATIENCE);
    for vip in vips() {
        let said = tap.answers(vip).unwrap();
        assert!(said.iter().all(|it| it.mac == his.mac()), "{said:?}");
    }

    let start = Instant::now();
    let_go(his);
    served(his, ASKED_AGAIN);
    println!("served {:?} after it was let go of", start.elapsed());
    assert_eq!(events(&cluster, "no other host has"), 2);
    assert_eq!(conditions(&cluster), []);
}

#[test]
fn a_vip_whose_chosen_addresses_another_host_has_is_given_others_and_served_at_these_at_once() {
    let lab = Lab::new(&["n1", "n2", "n3"]).unwrap();
    let cluster = Cluster::start(lab, Binaries::built().unwrap(), 3).unwrap();
    let (his, observer) = (cluster.lab().client(), cluster.lab().observer());
    take(his);
    let tap = tap(&cluster);
    let start = Instant::now();
    cluster.dual_stack_vip("v").unwrap();
    let others: [IpAddr; 2] = ["10.77.0.101".parse().unwrap(), "fd77::101".parse().unwrap()];
    for other in others {
        let what = format!("the client is served at {other}");
        wait(&what, PATIENCE, || Ok(pings(observer, other).then_some(()))).unwrap();
    }
    println!(
        "served at other addresses {:?} after it was asked for",
        start.elapsed()
    );
    let shown = cluster.vipctl(&["pool", "get", "web"]).unwrap();
    println!("{shown}");
    for words in [V4, V6, "set aside", &his.mac().to_string()] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert_eq!(events(&cluster, "VIP v is given another"), 2);
    // He goes on serving his own, and nobody else has said a word.
    for vip in vips() {
        assert!(pings(observer, vip), "{vip}");
        let said = tap.answers(vip).unwrap();
        assert!(said.iter().all(|it| it.mac == his.mac()), "{said:?}");
    }
}

#[test]
fn a_new_address_is_asked_for_three_times_before_it_is_announced_and_a_failover_asks_nobody() {
    let lab = Lab::new(&["n1", "n2", "n3"]).unwrap();
    let cluster = Cluster::start(lab, Binaries::built().unwrap(), 3).unwrap();
    let client = cluster.lab().client();
    let tap = tap(&cluster);
    cluster.dual_stack_vip("v").unwrap();
    let old = cluster
        .wait_for_holder(&vips(), "a holder", |_| true)
        .unwrap();
    served(client, PATIENCE);
    for vip in vips() {
        let (asked, said) = (tap.probes(vip).unwrap(), tap.answers(vip).unwrap());
        assert_eq!(asked.len(), 3, "{asked:?}");
        assert!(asked.iter().all(|it| it.mac == old.mac()), "{asked:?}");
        let waited = said[0].at.since(asked[0].at);
        println!("{vip} was announced {waited:?} after the first question");
        assert!(waited >= Duration::from_millis(195), "{waited:?}");
        assert_eq!(said[0].mac, old.mac());
    }
    // Voters that have just started take nobody's lease away.
    std::thread::sleep(vipd_integration::GRACE);
    let cut = Stamp::now();
    old.power_off().unwrap();
    let new = cluster
        .wait_for_holder(&vips(), "another holder", |name| name != old.name())
        .unwrap();
    served(client, PATIENCE);
    for vip in vips() {
        assert_eq!(tap.probes(vip).unwrap().len(), 3, "nobody asked again");
        let said = tap.answers_after(vip, cut).unwrap();
        let first = said.iter().find(|it| it.mac == new.mac()).unwrap();
        println!("{vip}: announced {:?} after the cut", first.at.since(cut));
    }
}

#[test]
fn a_node_that_only_warns_announces_an_address_in_use_and_says_so_until_it_is_free() {
    let lab = Lab::new(&["n1"]).unwrap();
    let warns = |node: &Node<'_>| node.configure("announce", "in_use", "warn");
    let cluster = Cluster::start_with(lab, Binaries::built().unwrap(), 1, warns).unwrap();
    let his = cluster.lab().client();
    take(his);
    let tap = tap(&cluster);
    cluster.dual_stack_vip("v").unwrap();
    for message in in_use(&cluster) {
        for words in [his.mac().to_string().as_str(), "announced all the same"] {
            assert!(message.contains(words), "{message}");
        }
    }
    let ours = cluster.lab().host("n1").mac();
    for vip in vips() {
        wait("it is announced", PATIENCE, || {
            let said = tap.answers(vip)?;
            Ok(said.iter().any(|it| it.mac == ours).then_some(()))
        })
        .unwrap();
    }
    assert_eq!(events(&cluster, "announced all the same"), 2);
    let_go(his);
    wait("nothing is amiss any more", ASKED_AGAIN, || {
        let found = conditions(&cluster).into_iter();
        let mut found = found.filter(|(reason, _)| reason == "address_in_use");
        Ok(found.next().is_none().then_some(()))
    })
    .unwrap();
    served(his, PATIENCE);
}

#[test]
fn hundreds_of_new_vips_are_asked_about_side_by_side() {
    const MANY: usize = 400;
    let lab = Lab::new(&["n1"]).unwrap();
    let cluster = Cluster::start(lab, Binaries::built().unwrap(), 1).unwrap();
    let api = cluster.node("n1").api().within(Duration::from_secs(10));
    let block = serde_json::json!({ "start": "10.77.4.0", "stop": "10.77.7.255" });
    api.put(
        "/v1/pools/web",
        &serde_json::json!({ "spec": { "blocks": [block] } }),
    )
    .unwrap();
    let start = Instant::now();
    for number in 0..MANY {
        let vip = serde_json::json!({ "spec": { "families": "ipv4" } });
        api.put(&format!("/v1/vips/v{number}"), &vip).unwrap();
    }
    let made = start.elapsed();
    wait("all of them are announced", PATIENCE, || {
        let vips = api.get("/v1/vips?consistency=local")?;
        let all = vips["items"].as_array().unwrap().iter();
        let answering = |vip: &&Value| vip["status"]["addresses"][0]["answering"] == true;
        Ok((all.filter(answering).count() == MANY).then_some(()))
    })
    .unwrap();
    let took = start.elapsed();
    println!("{MANY} VIPs: made within {made:?}, announced within {took:?}");
    assert!(
        took < made + Duration::from_secs(15),
        "one after the other is {MANY} times 0.2 s"
    );
}
