use alloc::vec;
use core::net::SocketAddr;

use crate::block::Block;
use crate::command::{Command, Expect, Proposal};
use crate::lease::Profile;
use crate::name::{Labels, Name};
use crate::policy::{Pattern, PolicySpec};
use crate::pool::PoolSpec;
use crate::proof::Found;
use crate::time::Millis;
use crate::token::TokenHash;
use crate::vip::{Failback, VipSpec};

use super::gates::{gates, vacating, view};
use super::*;
use crate::node::{Interface, Mac, Prefix};

mod asking;
mod cooling;
mod election;
mod failback;
mod follow;
mod handing;
mod lead;
mod start;
mod turns;

const TOKEN: TokenHash = [3; 32];

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Applies a command, and what holders find who ask the link about new addresses: nobody else is there.
fn apply(state: &mut State, command: Command) {
    apply_alone(state, command);
    let unproven = state.unproven();
    let questions = unproven.filter_map(|(address, of)| Some((of.holder?, address, of.epoch)));
    for (node, address, epoch) in questions.collect::<Vec<_>>() {
        let (claim, rule) = (None, Rule::Refuse);
        let found = vec![Found {
            address,
            epoch,
            claim,
            rule,
        }];
        apply_alone(state, Command::Probed { node, found });
    }
}

fn apply_alone(state: &mut State, command: Command) {
    let (at, by, index) = (Millis(1), None, state.applied() + 1);
    state.apply(index, &Proposal { at, command, by }).unwrap();
}

fn mac(node: NodeId) -> Mac {
    Mac([2, 0, 0, 0, 0, node.0 as u8])
}

/// Two nodes on 10.0.0.0/16 and one VIP, 10.0.0.50; and who holds it, and who does not.
fn two_nodes() -> (State, NodeId, NodeId) {
    let mut state = State::default();
    let peer = |i: u8| SocketAddr::from(([192, 0, 2, i], 7400));
    apply(
        &mut state,
        Command::Bootstrap {
            cluster: [1; 16],
            name: name("n1"),
            peer: peer(1),
            beat_key: [1; 32],
        },
    );
    let role = crate::node::Role::Voter;
    apply(
        &mut state,
        Command::PutJoinToken {
            token: TOKEN,
            role,
            expires: Millis(9),
            uses: 1,
        },
    );
    apply(
        &mut state,
        Command::Join {
            token: TOKEN,
            name: name("n2"),
            peer: peer(2),
            beat_key: [2; 32],
        },
    );
    let ids: Vec<NodeId> = state.nodes().keys().copied().collect();
    for node in &ids {
        let prefixes = vec![Prefix {
            address: "10.0.0.1".parse().unwrap(),
            len: 16,
        }];
        let interfaces = vec![Interface {
            name: "eth0".into(),
            up: true,
            prefixes,
            mac: mac(*node),
        }];
        apply(
            &mut state,
            Command::NodeUp {
                node: *node,
                version: String::new(),
                interfaces,
                labels: Labels::new(),
            },
        );
    }
    let spec = PoolSpec {
        blocks: vec![Block::parse("10.0.0.50").unwrap()],
        ..PoolSpec::default()
    };
    apply(
        &mut state,
        Command::PutPool {
            name: name("p"),
            labels: Labels::new(),
            spec,
            expect: Expect::Any,
            care: crate::pool::Care::default(),
        },
    );
    let spec = VipSpec::default();
    apply(
        &mut state,
        Command::PutVip {
            name: name("v"),
            labels: Labels::new(),
            spec,
            expect: Expect::Any,
        },
    );
    let holder = state.allocations().values().next().unwrap().holder.unwrap();
    let other = *ids.iter().find(|id| **id != holder).unwrap();
    (state, holder, other)
}

fn address() -> IpAddr {
    "10.0.0.50".parse().unwrap()
}

fn open(state: &State, me: NodeId, supported: bool) -> bool {
    gates(state, me, supported, &Moves::default())[&address()].is_open()
}

#[test]
fn an_address_is_open_on_its_holder_alone_and_only_while_that_is_supported() {
    let (state, holder, other) = two_nodes();
    assert!(open(&state, holder, true));
    assert!(!open(&state, holder, false));
    assert!(
        !open(&state, other, true),
        "an entry, so that nothing there speaks as it"
    );
}

#[test]
fn a_drained_holder_shuts_the_address_and_is_told_to_give_it_back() {
    let (mut state, holder, _) = two_nodes();
    let node = state.node(holder).unwrap().name.clone();
    assert_eq!(vacating(&state, holder).count(), 0);
    apply(
        &mut state,
        Command::SetDrained {
            node,
            drained: true,
        },
    );
    assert!(!open(&state, holder, true));
    assert_eq!(vacating(&state, holder).count(), 1);
}

#[test]
fn a_node_that_has_not_caught_up_with_its_log_beats_without_a_lease() {
    let (state, holder, _) = two_nodes();
    assert_eq!(view(&state, holder, false).epoch, None);
    assert!(view(&state, holder, true).epoch.is_some());
}

const LAN: Timing = Profile::Lan.timing();

fn steward(me: NodeId) -> Steward {
    steward_after(me, 0)
}

/// A steward whose earlier life left a deadline in the kernel, `ms` after the start of this one.
fn steward_after(me: NodeId, ms: u64) -> Steward {
    let about = About {
        version: String::new(),
        labels: Labels::new(),
    };
    let inherited = Instant(0).after(Span::millis(ms));
    Steward::new(me, LAN, about, Instant(0), inherited)
}

/// What a node sees whose record in `state` is up to date, at `ms`, while `leader` leads.
struct Scene<'a> {
    state: &'a State,
    interfaces: Vec<Interface>,
}

impl<'a> Scene<'a> {
    fn of(state: &'a State, me: NodeId) -> Self {
        Self {
            state,
            interfaces: state.node(me).unwrap().interfaces.clone(),
        }
    }

    fn facts(&self, ms: u64, leader: Option<NodeId>) -> Facts<'_> {
        Facts {
            now: Instant(0).after(Span::millis(ms)),
            wall: Millis(1 + ms),
            leader,
            vote: VoteMark::default(),
            answered: true,
            counted: 0,
            interfaces: &self.interfaces,
        }
    }

    fn look(&self, steward: &mut Steward, ms: u64, leader: Option<NodeId>) -> Decision {
        steward.look(&self.facts(ms, leader), self.state)
    }

    fn tell(&self, steward: &mut Steward, ms: u64, leader: Option<NodeId>, event: Event) {
        steward.on_event(&self.facts(ms, leader), self.state, event);
    }
}

fn purposes(decision: &Decision) -> Vec<Purpose> {
    decision
        .proposals
        .iter()
        .map(|(purpose, _)| *purpose)
        .collect()
}

#[test]
fn an_address_is_given_back_only_once_it_is_shut_and_never_opened_again_under_the_same_token() {
    let (mut state, holder, _) = two_nodes();
    let mut it = steward(holder);
    it.caught_up();
    let scene = Scene::of(&state, holder);
    scene.tell(&mut it, 1, None, Event::Support { held: true });
    scene.look(&mut it, 1, None);

    let node = state.node(holder).unwrap().name.clone();
    let drain = |drained| Command::SetDrained {
        node: node.clone(),
        drained,
    };
    apply(&mut state, drain(true));
    let decision = Scene::of(&state, holder).look(&mut it, 2, None);
    assert_eq!(decision.gates, None, "served until the next one is ready");
    assert_eq!(purposes(&decision), []);
    let decision = Scene::of(&state, holder).look(&mut it, 40, None);
    assert!(
        decision
            .gates
            .as_ref()
            .unwrap()
            .values()
            .all(|stance| !stance.is_open())
    );
    assert_eq!(
        purposes(&decision),
        [Purpose::Release],
        "after the gates, in this order"
    );

    // The operator changes his mind, but the release is on its way.
    apply(&mut state, drain(false));
    let decision = Scene::of(&state, holder).look(&mut it, 41, None);
    assert_eq!(decision.gates, None, "still shut");

    let (address, allocation) = state.allocations().iter().next().unwrap();
    let release = Command::Released {
        node: holder,
        addresses: vec![(address, allocation.epoch)],
    };
    apply(&mut state, release);
    let revision = Revision(state.applied());
    it.finished(Instant(4), Purpose::Release, Came::Done { revision });
    assert_eq!(state.held_by(holder).count(), 0);
    let decision = Scene::of(&state, holder).look(&mut it, 5, None);
    assert!(
        decision
            .gates
            .unwrap()
            .values()
            .all(|stance| !stance.is_open())
    );
}

#[test]
fn what_came_to_nothing_is_proposed_again_after_a_pause_and_only_one_of_a_kind_at_a_time() {
    let (state, holder, _) = two_nodes();
    let scene = Scene::of(&state, holder);
    let mut it = steward(holder);
    it.caught_up();
    it.stop(Instant(0));
    assert_eq!(purposes(&scene.look(&mut it, 0, None)), [Purpose::Retire]);
    assert_eq!(purposes(&scene.look(&mut it, 1, None)), [], "under way");
    it.finished(scene.facts(2, None).now, Purpose::Retire, Came::Nothing);
    assert_eq!(purposes(&scene.look(&mut it, 3, None)), []);
    assert_eq!(it.next_look(), Some(scene.facts(52, None).now));
    assert_eq!(purposes(&scene.look(&mut it, 52, None)), [Purpose::Retire]);
}

#[test]
fn what_was_carried_out_is_not_proposed_again_by_a_node_whose_replica_lags() {
    let (mut state, holder, _) = two_nodes();
    let epoch = state.node(holder).unwrap().epoch;
    let mut it = steward(holder);
    it.caught_up();
    let scene = Scene::of(&state, holder);
    let fenced = Event::OwnLeaseFenced { epoch };
    scene.tell(&mut it, 1, None, fenced);
    let decision = scene.look(&mut it, 1, None);
    assert_eq!(purposes(&decision), [Purpose::Up]);
    let revision = Revision(state.applied() + 1);
    it.finished(
        scene.facts(2, None).now,
        Purpose::Up,
        Came::Done { revision },
    );
    let again = scene.look(&mut it, 90, None);
    assert_eq!(purposes(&again), [], "it will see it");
    let (_, up) = decision.proposals.into_iter().next().unwrap();
    apply(&mut state, up);
    let seen = Scene::of(&state, holder).look(&mut it, 91, None);
    assert_eq!(purposes(&seen), []);
    assert!(state.node(holder).unwrap().epoch > epoch);
}

#[test]
fn only_the_leader_withdraws_a_lease_that_a_majority_certifies_to_be_over() {
    let (mut state, lost, me) = two_nodes();
    state.apply_membership(state.applied() + 1, &[[NodeId(70), me, lost].into()]);
    let epoch = state.node(lost).unwrap().epoch;
    let scene = Scene::of(&state, me);
    let mut it = steward(me);
    let certified = |voter| Event::Certified {
        voter,
        node: lost,
        epoch,
    };
    scene.tell(&mut it, 1, Some(me), certified(me));
    assert_eq!(
        purposes(&scene.look(&mut it, 1, Some(me))),
        [],
        "one of three"
    );
    scene.tell(&mut it, 2, Some(me), certified(NodeId(70)));
    assert_eq!(
        purposes(&scene.look(&mut it, 2, Some(lost))),
        [],
        "another leads"
    );
    let expected = [Purpose::Down(lost, epoch)];
    assert_eq!(purposes(&scene.look(&mut it, 3, Some(me))), expected);
}

#[test]
fn a_node_that_a_policy_forbids_an_address_keeps_it_shut() {
    let (mut state, holder, _) = two_nodes();
    let nowhere = PolicySpec {
        interfaces: vec![Pattern::new("^nowhere$").unwrap()],
        ..PolicySpec::default()
    };
    assert!(
        gates(&state, holder, true, &Moves::default())
            .values()
            .all(|stance| stance.is_open())
    );
    let put = Command::PutPolicy {
        name: name("p"),
        labels: Labels::new(),
        spec: nowhere,
        expect: Expect::Any,
    };
    apply(&mut state, put);
    let shut = gates(&state, holder, true, &Moves::default());
    assert!(shut.len() == 1 && shut.values().all(|stance| !stance.is_open()));
}

#[test]
fn a_stopping_node_may_go_when_it_holds_nothing_or_has_waited_and_sooner_when_nobody_leads() {
    let (state, holder, other) = two_nodes();
    let mut it = steward(other);
    it.caught_up();
    let scene = Scene::of(&state, other);
    it.stop(Instant(0));
    scene.look(&mut it, 1, Some(holder));
    assert!(it.may_go(&scene.facts(1, Some(holder))), "it holds nothing");

    let mut it = steward(holder);
    it.caught_up();
    let scene = Scene::of(&state, holder);
    it.stop(Instant(0));
    scene.look(&mut it, 1, Some(other));
    assert!(!it.may_go(&scene.facts(1_500, Some(other))));
    assert!(it.may_go(&scene.facts(1_500, None)), "nobody to tell");
    assert!(it.may_go(&scene.facts(5_000, Some(other))));
}
