//! How long the largest entries take. Bounds are generous, for debug builds on busy machines; the figures are
//! printed: `cargo test --release -p vipd-core speed -- --nocapture`.

use std::eprintln;
use std::time::{Duration, Instant};

use super::*;

const MANY: u32 = 10_000;

/// A cluster where node 1 holds all of [`MANY`] VIPs, without the checks after every entry.
fn laden(nodes: u64, spec: impl Fn(u32) -> VipSpec) -> State {
    let mut c = Cluster::of(nodes);
    c.pool("web", &["10.0.0.0/18"]).unwrap();
    for i in 2..=nodes {
        c.weigh(&format!("n{i}"), 0);
    }
    for i in 0..MANY {
        let put = Command::PutVip {
            name: name(&format!("v{i}")),
            labels: Labels::new(),
            spec: spec(i),
            expect: Expect::Any,
        };
        let (index, at) = (c.state.applied() + 1, Millis(1));
        let entry = Proposal {
            at,
            command: put,
            by: None,
        };
        c.state.apply(index, &entry).unwrap();
    }
    assert_eq!(c.state.held_by(NodeId(1)).count(), MANY as usize);
    for i in 2..=nodes {
        c.weigh(&format!("n{i}"), 100);
    }
    c.state
}

/// How long the entry takes: the best of a few, since others use the machine too.
fn apply(state: &mut State, command: Command) -> Duration {
    let index = state.applied() + 1;
    let at = Millis(index * 10);
    let entry = Proposal {
        at,
        command,
        by: None,
    };
    let before = state.clone();
    best(|| {
        *state = before.clone();
        let began = Instant::now();
        state.apply(index, &entry).unwrap();
        began.elapsed()
    })
}

fn best(mut run: impl FnMut() -> Duration) -> Duration {
    let runs = if cfg!(debug_assertions) { 1 } else { 10 };
    (0..runs).map(|_| run()).min().unwrap()
}

fn down(state: &mut State) -> Duration {
    let (node, epoch) = (NodeId(1), state.node(NodeId(1)).unwrap().epoch);
    apply(
        state,
        Command::NodeDown {
            node,
            epoch,
            membership: 0,
        },
    )
}

fn quick(what: &str, took: Duration) {
    eprintln!("{what}: {took:?}");
    let bound = if cfg!(debug_assertions) { 5000 } else { 250 };
    assert!(took < Duration::from_millis(bound), "{what}: {took:?}");
}

#[test]
fn the_loss_of_10_000_addresses_and_their_rebalance_take_milliseconds() {
    for nodes in [3, 100] {
        let mut state = laden(nodes, |_| v4());
        let took = best(|| {
            let began = Instant::now();
            assert_eq!(state.loss(NodeId(1)).len(), MANY as usize);
            began.elapsed()
        });
        quick(
            &format!("runners-up of 10,000 addresses, {nodes} nodes"),
            took,
        );
        let mut other = state.clone();
        let took = apply(&mut other, Command::Rebalance);
        quick(
            &format!("rebalance of 10,000 addresses, {nodes} nodes"),
            took,
        );
        let took = apply(
            &mut other,
            Command::NodeReport {
                node: NodeId(1),
                interfaces: subnets(true),
                membership: 0,
            },
        );
        quick(
            &format!("a report with 10,000 addresses, {nodes} nodes"),
            took,
        );
        let took = down(&mut state);
        quick(&format!("loss of 10,000 addresses, {nodes} nodes"), took);
        state.check().unwrap();
        let most = state
            .nodes()
            .keys()
            .map(|id| state.held_by(*id).count())
            .max();
        assert_eq!(most, Some((MANY as usize).div_ceil(nodes as usize - 1)));
    }
}

#[test]
fn one_group_of_10_000_and_one_key_for_10_000_are_no_slower() {
    let one = VipSpec {
        group: Some(name("one")),
        ..v4()
    };
    let mut state = laden(3, |i| if i == 0 { one.clone() } else { v4() });
    // Joining one by one is the operator's time, not a failover's: put them into the group at once.
    for (i, vip) in state.vips.values_mut().enumerate() {
        let vip = alloc::sync::Arc::make_mut(vip);
        alloc::sync::Arc::make_mut(&mut vip.spec).group = Some(name("one"));
        alloc::sync::Arc::make_mut(&mut vip.spec).apart = (i % 2 == 0).then(|| name("key"));
    }
    let mut state = State::from_bytes(&state.to_bytes()).unwrap();
    quick("loss of one group of 10,000", down(&mut state));
    state.check().unwrap();
    for vip in state.vips.values_mut() {
        let vip = alloc::sync::Arc::make_mut(vip);
        alloc::sync::Arc::make_mut(&mut vip.spec).group = None;
        alloc::sync::Arc::make_mut(&mut vip.spec).apart = Some(name("key"));
    }
    let mut state = State::from_bytes(&state.to_bytes()).unwrap();
    let now = *state
        .nodes()
        .keys()
        .find(|id| state.held_by(**id).next().is_some())
        .unwrap();
    let (epoch, membership) = (state.node(now).unwrap().epoch, 0);
    apply(
        &mut state,
        Command::NodeUp {
            node: NodeId(1),
            version: String::new(),
            interfaces: subnets(true),
            labels: Labels::new(),
        },
    );
    let took = apply(
        &mut state,
        Command::NodeDown {
            node: now,
            epoch,
            membership,
        },
    );
    quick("loss of 10,000 that want to be apart", took);
}
