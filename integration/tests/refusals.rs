//! Bad input: one clear line, the next step, and nothing changed.
#![allow(clippy::unwrap_used)]

mod common;

use common::refused;
use vipd_integration::cluster::{Binaries, Cluster, Node, PATIENCE, Ticket, wait};
use vipd_integration::lab::Lab;

fn single_node() -> Cluster {
    Cluster::start(Lab::new(&["n1"]).unwrap(), Binaries::built().unwrap(), 1).unwrap()
}

#[test]
fn a_bad_request_is_refused_with_its_reason_and_changes_nothing() {
    let cluster = single_node();
    let node = cluster.node("n1");
    let vipctl = |line: &str| {
        node.try_vipctl(&line.split(' ').collect::<Vec<_>>())
            .unwrap()
    };
    node.vipctl(&[
        "pool",
        "create",
        "web",
        "--block",
        "10.77.0.100-10.77.0.101",
    ])
    .unwrap();
    node.vipctl(&[
        "vip",
        "create",
        "www",
        "--pool",
        "web",
        "--address",
        "10.77.0.100",
    ])
    .unwrap();
    let state = || {
        let list = |noun| node.vipctl(&[noun, "list", "-o", "json"]).unwrap();
        let spec = |text: String| {
            let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
            let items = answer["items"].as_array().unwrap();
            items
                .iter()
                .map(|i| format!("{} {} {}", i["name"], i["spec"], i["revision"]))
                .collect::<Vec<_>>()
        };
        (spec(list("pool")), spec(list("vip")))
    };
    let before = state();

    for (command, words) in [
        ("pool create bad --block 10.0.0.0/33", &["10.0.0.0/33"][..]),
        ("pool create bad --block 10.0.0.1/24", &["10.0.0.1/24"]),
        ("pool create bad --block fd00::/129", &["fd00::/129"]),
        ("pool create bad --block lots", &["lots"]),
        (
            "pool create bad --block 10.0.0.9-10.0.0.1",
            &["10.0.0.9", "10.0.0.1"],
        ),
        (
            "pool create bad --block 10.0.0.1-fd00::1",
            &["10.0.0.1", "fd00::1"],
        ),
        (
            "pool create bad --strict --block 10.0.0.0/24 --block 10.0.0.7-10.0.0.9",
            &["10.0.0.0", "10.0.0.7", "overlap"],
        ),
        (
            "pool create bad --strict --block 10.77.0.101-10.77.0.120",
            &["10.77.0.101", "web", "overlap"],
        ),
        ("pool create web --block 10.0.0.0/24", &["web", "exist"]),
        ("vip create www --pool web", &["www", "exist"]),
        ("vip get nobody", &["nobody"]),
        ("vip delete nobody", &["nobody"]),
        ("vip move www --to n9", &["n9"]),
        ("vip move nobody --to n1", &["nobody"]),
        ("node drain n9", &["n9"]),
        ("pool delete web", &["web", "10.77.0.100"]),
        ("pool delete nowhere", &["nowhere"]),
    ] {
        refused(&format!("vipctl {command}"), &vipctl(command), words);
        assert_eq!(state(), before, "{command} changed something");
    }
    let empty = node
        .try_vipctl(&["pool", "create", "bad", "--block", ""])
        .unwrap();
    refused("a pool with an empty block", &empty, &["block"]);
    assert_eq!(state(), before);
}

#[test]
fn what_cannot_be_given_yet_waits_says_why_and_is_given_in_order_of_age() {
    let cluster = single_node();
    let node = cluster.node("n1");
    let vipctl = |line: &str| node.vipctl(&line.split(' ').collect::<Vec<_>>()).unwrap();
    vipctl("pool create tiny --block 10.77.0.100-10.77.0.100");
    vipctl("vip create first --pool tiny --families ipv4");
    for (request, words) in [
        ("zoe --pool tiny --families ipv4", &["tiny"][..]),
        ("amy --pool tiny --families ipv4", &["tiny"]),
        ("far --pool tiny --address 192.0.2.1", &["192.0.2.1"]),
        ("taken --address 10.77.0.100", &["10.77.0.100", "first"]),
        ("nowhere --pool nobody --families ipv4", &["nobody"]),
        ("six --pool tiny --families ipv6", &["ipv6"]),
    ] {
        let said = vipctl(&format!("vip create {request}")).to_lowercase();
        for word in words {
            assert!(
                said.contains(word),
                "{request}: {word:?} is missing in {said:?}"
            );
        }
    }
    let addresses = |name: &str| {
        let vip = node.api().get(&format!("/v1/vips/{name}")).unwrap();
        vip["status"]["addresses"].as_array().unwrap().len()
    };
    let waiting = ["zoe", "amy", "far", "taken", "nowhere", "six"];
    assert_eq!(waiting.map(addresses), [0; 6]);
    vipctl("vip delete first");
    // Free when its holder has let it go.
    wait("the one that waits longest has it", PATIENCE, || {
        Ok((waiting.map(addresses) == [1, 0, 0, 0, 0, 0]).then_some(()))
    })
    .unwrap();
    vipctl("pool create nobody --block 10.77.0.110-10.77.0.119");
    assert_eq!(waiting.map(addresses), [1, 0, 0, 0, 1, 0]);
}

#[test]
fn a_command_that_makes_no_sense_is_a_usage_error() {
    let binaries = Binaries::built().unwrap();
    for (program, args) in [
        (&binaries.vipctl, &["pool", "dance"][..]),
        (&binaries.vipctl, &["vip", "create"]),
        (&binaries.vipd, &["fly"]),
        (&binaries.vipd, &["run", "--no-such-option"]),
    ] {
        let done = std::process::Command::new(program)
            .args(args)
            .output()
            .unwrap();
        assert_eq!(
            done.status.code(),
            Some(2),
            "{args:?}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
}

#[test]
fn no_daemon_is_said_plainly() {
    let binaries = Binaries::built().unwrap();
    let done = std::process::Command::new(&binaries.vipctl)
        .args(["--server", "unix:/nonexistent/api.sock", "vip", "list"])
        .output()
        .unwrap();
    refused("vipctl without a daemon", &done, &["/nonexistent/api.sock"]);
}

#[test]
fn a_join_with_a_bad_token_is_refused_and_leaves_no_member() {
    let lab = Lab::new(&["n1", "n2", "n3", "n4"]).unwrap();
    let binaries = Binaries::built().unwrap();
    let node = |name| Node::new(lab.host(name), &binaries);
    let (n1, n2, n3) = (node("n1"), node("n2"), node("n3"));
    let good = n1.init().unwrap();
    n1.run().unwrap();
    let foreign = n2.init().unwrap();
    n2.run().unwrap();
    let with = |token: &str| {
        let ticket = Ticket {
            address: n1.peer(),
            token: token.to_owned(),
        };
        n3.try_join(&ticket).unwrap()
    };

    refused("join with no token at all", &with("nonsense"), &["token"]);
    let cut = &good.token[..good.token.len() - 4];
    refused("join with a token cut short", &with(cut), &["token"]);
    refused(
        "join with another cluster's token",
        &with(&foreign.token),
        &["CA"],
    );
    let nobody = Ticket {
        address: "10.77.0.99:7400".into(),
        token: good.token.clone(),
    };
    refused(
        "join at an address where nobody is",
        &n3.try_join(&nobody).unwrap(),
        &["10.77.0.99:7400"],
    );

    let members = || {
        n1.api().get("/v1/cluster").unwrap()["members"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(members(), 1);

    // A token for one node is for one node.
    let once = n1.join_ticket("voter").unwrap();
    n3.join(&once).unwrap();
    n3.run().unwrap();
    assert_eq!(members(), 2);
    refused(
        "join with a token used up",
        &node("n4").try_join(&once).unwrap(),
        &["token"],
    );
    assert_eq!(members(), 2);
}

#[test]
fn an_expired_token_is_refused() {
    let lab = Lab::new(&["n1", "n2"]).unwrap();
    let binaries = Binaries::built().unwrap();
    let node = |name| Node::new(lab.host(name), &binaries);
    node("n1").init().unwrap();
    node("n1").run().unwrap();
    // The API takes seconds where the command takes minutes.
    let made = node("n1")
        .api()
        .post(
            "/v1/cluster/tokens",
            &serde_json::json!({ "ttl_seconds": 1 }),
        )
        .unwrap();
    let ticket = Ticket {
        address: node("n1").peer(),
        token: made["token"].as_str().unwrap().to_owned(),
    };
    std::thread::sleep(std::time::Duration::from_millis(1500));
    refused(
        "join with an expired token",
        &node("n2").try_join(&ticket).unwrap(),
        &["expired"],
    );
}
