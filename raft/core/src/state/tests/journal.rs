//! The journal of changes. That none is missing from it is checked after every command of every test.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use super::*;
use crate::pool::Pool;
use crate::state::{Topic, journal};
use crate::vip::Vip;

/// The keys of what differs.
fn differing<'a, K: Ord + 'a, V: 'a>(
    was: &'a BTreeMap<K, V>,
    is: &'a BTreeMap<K, V>,
    same: impl Fn(&V, &V) -> bool,
) -> Vec<&'a K> {
    let gone = was.keys().filter(|key| !is.contains_key(key));
    let changed = is.iter().filter(move |(key, now)| {
        let then = was.get(key);
        then.is_none_or(|then| !same(then, now))
    });
    gone.chain(changed.map(|(key, _)| key)).collect()
}

impl Cluster {
    /// Whatever differs from before is in the journal.
    pub(super) fn all_changes_are_noted(&self, before: &State, command: &Command) {
        let (was, is, since) = (before, &self.state, before.applied());
        let Some(changes) = is.journal().since(since) else {
            // Whoever watches has to read everything anew.
            assert!(matches!(command, Command::Restore { .. }), "{command:?}");
            assert!(is.journal().addresses_since(since).is_none());
            assert!(is.journal().served_since(since).is_none());
            return;
        };
        let noted: BTreeSet<(Topic, &Name)> =
            changes.map(|change| (change.topic, &change.name)).collect();
        let usage = |state: &State, pool: &Pool| {
            let families = Family::ALL.map(|family| state.usage(pool, family));
            (families, state.clash(&pool.name).cloned())
        };
        let pools = differing(was.pools(), is.pools(), |then, now| {
            then == now && usage(was, then) == usage(is, now)
        });
        let vips = differing(was.vips(), is.vips(), |then, now| {
            let mut addresses = now.addresses.iter();
            then == now && addresses.all(|a| was.allocations().get(a) == is.allocations().get(a))
        });
        let served: BTreeSet<&Name> = is.journal().served_since(since).unwrap().collect();
        let as_before = |then: &Arc<Vip>, now: &Arc<Vip>| {
            then.spec == now.spec && then.addresses == now.addresses
        };
        for name in differing(was.vips(), is.vips(), as_before) {
            assert!(
                served.contains(name),
                "{command:?} has VIP {name} served in another way unnoticed"
            );
        }
        let policies = differing(was.policies(), is.policies(), |then, now| then == now);
        let nodes = differing(was.nodes(), is.nodes(), |then, now| {
            let held = |state: &State| state.held_by(now.id).map(|(a, _)| a).collect::<Vec<_>>();
            then == now && held(was) == held(is)
        });
        let name_of = |id: &&NodeId| &is.node(**id).or(was.node(**id)).unwrap().name;
        let nodes: Vec<&Name> = nodes.iter().map(name_of).collect();
        for (topic, names) in [
            (Topic::Pool, pools),
            (Topic::Vip, vips),
            (Topic::Policy, policies),
            (Topic::Node, nodes),
        ] {
            for name in names {
                assert!(
                    noted.contains(&(topic, name)),
                    "{command:?} changed {topic:?} {name} unnoticed"
                );
            }
        }
        let noted: BTreeSet<IpAddr> = is.journal().addresses_since(since).unwrap().collect();
        let all = |state: &State| -> BTreeMap<IpAddr, _> {
            let all = state.allocations().iter();
            all.map(|(address, of)| (address, of.clone())).collect()
        };
        for address in differing(&all(was), &all(is), |then, now| then == now) {
            assert!(
                noted.contains(address),
                "{command:?} changed {address} unnoticed"
            );
        }
    }
}

#[test]
fn who_was_made_is_told_from_who_was_changed() {
    let mut c = Cluster::of(1);
    let from = c.state.applied();
    let put = |drained| Command::SetDrained {
        node: name("n1"),
        drained,
    };
    c.apply(put(true)).unwrap();
    c.apply(Command::PutPolicy {
        name: name("y"),
        labels: Labels::new(),
        spec: Default::default(),
        expect: Expect::Any,
    })
    .unwrap();
    let told: Vec<(u64, Topic, bool)> = c
        .state
        .journal()
        .since(from)
        .unwrap()
        .map(|change| (change.revision - from, change.topic, change.made))
        .collect();
    assert!(told.contains(&(1, Topic::Node, false)), "{told:?}");
    assert!(told.contains(&(2, Topic::Policy, true)), "{told:?}");
    assert!(c.state.journal().since(from + 2).unwrap().next().is_none());
}

#[test]
fn what_is_forgotten_and_what_a_copy_never_knew_is_not_told_as_nothing() {
    let mut c = Cluster::of(1);
    let (first, mut last) = (c.state.applied(), 0);
    for i in 0..=journal::KEPT {
        last = c.state.applied() + 1;
        let command = Command::SetDrained {
            node: name("n1"),
            drained: i % 2 == 0,
        };
        c.state
            .apply(
                last,
                &Proposal {
                    at: Millis(0),
                    by: None,
                    command,
                },
            )
            .unwrap();
    }
    let journal = c.state.journal();
    assert!(journal.since(first).is_none() && !journal.reaches(first));
    assert_eq!(journal.since(last - 1).unwrap().count(), 1);
    let copy = c.state.clone();
    assert!(copy.journal().since(last - 1).is_none());
    assert!(copy.journal().since(last).is_some());
    let decoded = State::from_bytes(&c.state.to_bytes()).unwrap();
    assert!(decoded.journal().since(last - 1).is_none());
    assert!(decoded.journal().since(last).is_some());
}
