//! Policies: where VIPs may be.

use super::*;
use crate::policy::{Pattern, PolicySpec};
use crate::selector::{Operator, Requirement, Selector};

fn selector(key: &str, value: &str) -> Selector {
    Selector {
        match_labels: [(key.into(), value.into())].into(),
        ..Selector::default()
    }
}

/// Three nodes in racks 1, 2 and 3.
fn cluster() -> Cluster {
    let mut c = Cluster::of(3);
    c.pool("web", &["10.0.0.0/24"]).unwrap();
    for i in 1..=3 {
        let label = [("rack".to_string(), Some(i.to_string()))].into();
        c.apply(Command::SetNode {
            node: name(&format!("n{i}")),
            weight: None,
            labels: label,
            drained: None,
            expect: Expect::Any,
        })
        .unwrap();
    }
    c
}

fn put(c: &mut Cluster, policy: &str, spec: PolicySpec) -> Outcome {
    c.apply(Command::PutPolicy {
        name: name(policy),
        labels: Labels::new(),
        spec,
        expect: Expect::Any,
    })
}

fn vip(c: &mut Cluster, vip: &str, app: &str) {
    c.apply(Command::PutVip {
        name: name(vip),
        labels: [("app".to_string(), app.to_string())].into(),
        spec: v4(),
        expect: Expect::Any,
    })
    .unwrap();
}

fn racks(app: &str, rack: &str) -> PolicySpec {
    PolicySpec {
        vips: selector("app", app),
        nodes: selector("rack", rack),
        interfaces: Vec::new(),
    }
}

#[test]
fn a_policy_keeps_its_vips_on_its_nodes_and_leaves_others_alone() {
    let mut c = cluster();
    put(&mut c, "web-in-3", racks("web", "3")).unwrap();
    for i in 0..4 {
        vip(&mut c, &format!("w{i}"), "web");
        assert_eq!(c.at(&format!("w{i}")).unwrap(), "n3");
        assert_eq!(c.state.runner_up(ip(&c.addresses("w0")[0])), None);
    }
    vip(&mut c, "other", "db");
    assert_eq!(c.at("other").unwrap(), "n1");
}

#[test]
fn vips_move_when_a_policy_comes_and_stay_when_it_goes() {
    let mut c = cluster();
    vip(&mut c, "w", "web");
    assert_eq!(c.at("w").unwrap(), "n1");
    put(&mut c, "p", racks("web", "2")).unwrap();
    c.release_all();
    assert_eq!(c.at("w").unwrap(), "n2");
    c.apply(Command::DeletePolicy {
        name: name("p"),
        expect: Expect::Any,
    })
    .unwrap();
    c.release_all();
    assert_eq!(c.at("w").unwrap(), "n2");
}

#[test]
fn where_several_policies_select_a_vip_one_that_allows_is_enough() {
    let mut c = cluster();
    put(&mut c, "p2", racks("web", "2")).unwrap();
    put(&mut c, "p3", racks("web", "3")).unwrap();
    vip(&mut c, "a", "web");
    vip(&mut c, "b", "web");
    let mut at = [c.at("a").unwrap(), c.at("b").unwrap()];
    at.sort();
    assert_eq!(at, ["n2", "n3"]);
}

#[test]
fn a_policy_chooses_among_interfaces_and_excludes_nodes_that_have_none() {
    let mut c = cluster();
    let n2 = c.id("n2");
    let mut interfaces = subnets(true);
    interfaces.push(Interface {
        name: "vlan7".into(),
        ..interfaces[0].clone()
    });
    c.apply(Command::NodeReport {
        node: n2,
        interfaces,
        membership: 0,
    })
    .unwrap();
    let spec = PolicySpec {
        vips: selector("app", "web"),
        nodes: Selector::default(),
        interfaces: vec![Pattern::new(r"^vlan\d+$").unwrap()],
    };
    put(&mut c, "p", spec).unwrap();
    vip(&mut c, "w", "web");
    assert_eq!(c.at("w").unwrap(), "n2");
    let node = c.state.node(n2).unwrap();
    let address = ip(&c.addresses("w")[0]);
    assert_eq!(c.state.interface_for(node, address), Some("vlan7"));
    assert_eq!(node.interface_for(address, None), Some("eth0"));
    let refused = c.move_to("w", "n1").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "node n1 cannot hold it: no policy that selects its VIP lets it announce 10.0.0.0"
    );
}

#[test]
fn a_label_set_on_a_node_moves_what_its_policy_says() {
    let mut c = cluster();
    put(&mut c, "p", racks("web", "2")).unwrap();
    vip(&mut c, "w", "web");
    for (node, rack) in [("n2", "9"), ("n3", "2")] {
        let label = [("rack".to_string(), Some(rack.to_string()))].into();
        c.apply(Command::SetNode {
            node: name(node),
            weight: None,
            labels: label,
            drained: None,
            expect: Expect::Any,
        })
        .unwrap();
    }
    c.release_all();
    assert_eq!(c.at("w").unwrap(), "n3");
}

#[test]
fn a_policy_that_no_node_meets_leaves_new_vips_without_a_holder() {
    let mut c = cluster();
    put(&mut c, "p", racks("web", "nowhere")).unwrap();
    vip(&mut c, "w", "web");
    assert_eq!(c.at("w"), None);
    put(&mut c, "p", racks("web", "2")).unwrap();
    assert_eq!(
        c.at("w").unwrap(),
        "n2",
        "and gives it one as soon as one does"
    );
}

#[test]
fn a_policy_is_made_once_replaced_by_revision_and_deleted_once() {
    let mut c = cluster();
    let made = put(&mut c, "p", racks("web", "2")).unwrap();
    assert!(matches!(made, Applied::Created { .. }));
    let same = put(&mut c, "p", racks("web", "2")).unwrap();
    assert!(matches!(same, Applied::Done { .. }));
    let delete = Command::DeletePolicy {
        name: name("p"),
        expect: Expect::Any,
    };
    c.apply(delete.clone()).unwrap();
    assert_eq!(Cluster::refusal(c.apply(delete)), "not_found");
    let many = PolicySpec {
        interfaces: vec![Pattern::new("a").unwrap(); 33],
        ..PolicySpec::default()
    };
    assert_eq!(Cluster::refusal(put(&mut c, "p", many)), "invalid");
    let condition = |n: usize| Requirement {
        key: format!("k{n}"),
        operator: Operator::DoesNotExist,
    };
    let values = (0..=64).map(|n| format!("v{n}")).collect();
    for match_expressions in [
        (0..33).map(condition).collect(),
        vec![Requirement {
            key: "k".into(),
            operator: Operator::In { values },
        }],
    ] {
        let selector = Selector {
            match_expressions,
            ..Selector::default()
        };
        let much = PolicySpec {
            nodes: selector,
            ..PolicySpec::default()
        };
        assert_eq!(Cluster::refusal(put(&mut c, "p", much)), "invalid");
    }
}
