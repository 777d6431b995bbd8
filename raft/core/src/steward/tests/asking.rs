//! Addresses that are asked about before they are announced for the first time.

use super::*;
use crate::proof::Proof;

const HIS: Mac = Mac([2, 0, 0, 0, 0, 99]);

/// A holder that is supported and knows its log, and the state in which it holds one address that nobody has asked about.
fn unproven() -> (State, NodeId, Steward) {
    let (mut state, _, _) = two_nodes();
    let delete = Command::DeleteVip {
        name: name("v"),
        expect: Expect::Any,
    };
    apply(&mut state, delete);
    for node in state.nodes().keys().copied().collect::<Vec<_>>() {
        let addresses = vacating(&state, node).collect();
        apply(&mut state, Command::Released { node, addresses });
    }
    let put = Command::PutVip {
        name: name("w"),
        labels: Labels::new(),
        spec: VipSpec::default(),
        expect: Expect::Any,
    };
    apply_alone(&mut state, put);
    let holder = state.allocations()[&address()].holder.unwrap();
    let mut it = steward(holder);
    it.caught_up();
    Scene::of(&state, holder).tell(&mut it, 0, None, Event::Support { held: true });
    (state, holder, it)
}

fn look(it: &mut Steward, state: &State, ms: u64) -> Decision {
    Scene::of(state, it.me).look(it, ms, None)
}

fn at(ms: u64) -> Instant {
    Instant(0).after(Span::millis(ms))
}

/// Carries out what the node tells of what it found, if it tells anything.
fn told(it: &mut Steward, state: &mut State, decision: Decision) -> bool {
    let mut proposals = decision.proposals.into_iter();
    let Some((_, probed)) = proposals.find(|(purpose, _)| *purpose == Purpose::Probed) else {
        return false;
    };
    apply_alone(state, probed);
    let revision = Revision(state.applied());
    it.finished(at(0), Purpose::Probed, Came::Done { revision });
    true
}

fn is_open(decision: &Decision) -> Option<bool> {
    let gates = decision.gates.as_ref()?;
    Some(gates[&address()].is_open())
}

#[test]
fn an_address_is_shut_until_its_holder_has_asked_the_link_and_the_log_has_the_answer() {
    let (mut state, holder, mut it) = unproven();
    let first = look(&mut it, &state, 1);
    assert_eq!(is_open(&first), Some(false));
    let epoch = state.allocations()[&address()].epoch;
    let question = Question {
        address: address(),
        epoch,
        interface: "eth0".into(),
    };
    assert_eq!(first.questions, [question]);
    assert_eq!(look(&mut it, &state, 2).questions, [], "under way");
    it.answered(at(200), &[(address(), Answer::Free)]);
    let second = look(&mut it, &state, 200);
    assert_eq!(second.gates, None, "not before the log has it");
    assert!(told(&mut it, &mut state, second));
    let third = look(&mut it, &state, 201);
    assert_eq!(is_open(&third), Some(true));
    assert_eq!((third.questions, third.proposals), (Vec::new(), Vec::new()));
    assert_eq!(state.allocations()[&address()].holder, Some(holder));
}

#[test]
fn an_address_in_use_is_shut_and_asked_about_every_half_minute_until_it_is_free() {
    let (mut state, _, mut it) = unproven();
    look(&mut it, &state, 0);
    it.answered(at(200), &[(address(), Answer::Taken(HIS))]);
    let decision = look(&mut it, &state, 200);
    assert!(told(&mut it, &mut state, decision));
    let decision = look(&mut it, &state, 201);
    assert_eq!((decision.gates, decision.questions.len()), (None, 0));
    // When its lease is old enough for moves.
    assert_eq!(it.next_look(), Some(at(5_000)));
    look(&mut it, &state, 5_000);
    assert_eq!(it.next_look(), Some(at(30_200)));
    assert_eq!(look(&mut it, &state, 30_199).questions, []);
    assert_eq!(look(&mut it, &state, 30_200).questions.len(), 1);
    it.answered(at(30_400), &[(address(), Answer::Taken(HIS))]);
    let decision = look(&mut it, &state, 30_400);
    assert!(!told(&mut it, &mut state, decision), "the log knows him");
    assert_eq!(look(&mut it, &state, 60_400).questions.len(), 1);
    it.answered(at(60_600), &[(address(), Answer::Free)]);
    let decision = look(&mut it, &state, 60_600);
    assert!(told(&mut it, &mut state, decision));
    assert_eq!(is_open(&look(&mut it, &state, 60_601)), Some(true));
    assert_eq!(state.unproven().count(), 0);
}

#[test]
fn a_node_that_only_warns_announces_an_address_in_use() {
    let (mut state, _, mut it) = unproven();
    it.set_rule(Rule::Warn);
    look(&mut it, &state, 0);
    it.answered(at(200), &[(address(), Answer::Taken(HIS))]);
    let decision = look(&mut it, &state, 200);
    assert!(told(&mut it, &mut state, decision));
    let decision = look(&mut it, &state, 201);
    assert_eq!(is_open(&decision), Some(true));
    let proof = &state.allocations()[&address()].proof;
    assert!(matches!(proof, Proof::InUse { announced: true, claim, .. } if claim.mac == HIS));
    let again = look(&mut it, &state, 30_200);
    assert_eq!(
        again.questions.len(),
        1,
        "until it may be told that he is gone"
    );
}

#[test]
fn what_could_not_be_asked_stays_shut_and_is_asked_again_soon() {
    let (state, _, mut it) = unproven();
    look(&mut it, &state, 0);
    it.answered(at(200), &[(address(), Answer::Unasked)]);
    let decision = look(&mut it, &state, 200);
    assert_eq!(purposes(&decision), []);
    assert_eq!(it.next_look(), Some(at(1200)));
    assert_eq!(look(&mut it, &state, 1200).questions.len(), 1);
    assert_eq!(look(&mut it, &state, 6199).questions.len(), 0);
    assert_eq!(
        look(&mut it, &state, 6200).questions.len(),
        1,
        "never answered"
    );
}

#[test]
fn a_new_allocation_of_an_address_that_was_in_use_is_asked_about_at_once() {
    let (mut state, holder, mut it) = unproven();
    look(&mut it, &state, 0);
    it.answered(at(200), &[(address(), Answer::Taken(HIS))]);
    let decision = look(&mut it, &state, 200);
    assert!(told(&mut it, &mut state, decision));
    let node = state.node(holder).unwrap().name.clone();
    let (epoch, membership) = (state.node(holder).unwrap().epoch, 0);
    apply_alone(
        &mut state,
        Command::NodeDown {
            node: holder,
            epoch,
            membership,
        },
    );
    let (name, to) = (name("w"), node);
    let interfaces = Scene::of(&state, holder).interfaces;
    let up = Command::NodeUp {
        node: holder,
        version: String::new(),
        interfaces,
        labels: Labels::new(),
    };
    apply_alone(&mut state, up);
    apply_alone(&mut state, Command::MoveVip { name, to });
    for other in state.nodes().keys().copied().collect::<Vec<_>>() {
        let addresses = vacating(&state, other).collect();
        apply_alone(
            &mut state,
            Command::Released {
                node: other,
                addresses,
            },
        );
    }
    assert_eq!(state.allocations()[&address()].holder, Some(holder));
    assert_eq!(
        look(&mut it, &state, 300).questions.len(),
        1,
        "under a new token"
    );
}

#[test]
fn a_node_without_support_asks_nothing_and_forgets_what_it_found() {
    let (state, holder, mut it) = unproven();
    look(&mut it, &state, 0);
    it.answered(at(200), &[(address(), Answer::Free)]);
    let scene = Scene::of(&state, holder);
    scene.tell(&mut it, 200, None, Event::Support { held: false });
    let decision = look(&mut it, &state, 300);
    assert_eq!((purposes(&decision), decision.questions.len()), (vec![], 0));
    scene.tell(&mut it, 400, None, Event::Support { held: true });
    assert_eq!(look(&mut it, &state, 400).questions.len(), 1);
}

#[test]
fn a_thousand_new_addresses_are_asked_about_together_and_no_more_at_a_time() {
    let (mut state, _, mut it) = unproven();
    let spec = PoolSpec {
        blocks: vec![
            Block::parse("10.0.0.100-10.0.0.250").unwrap(),
            Block::parse("10.0.8.0/21").unwrap(),
        ],
        ..PoolSpec::default()
    };
    let put = Command::PutPool {
        name: name("many"),
        labels: Labels::new(),
        spec,
        expect: Expect::Any,
        care: crate::pool::Care::default(),
    };
    apply_alone(&mut state, put);
    let nodes: Vec<NodeId> = state.nodes().keys().copied().collect();
    for node in nodes {
        let mut interfaces = state.node(node).unwrap().interfaces.clone();
        interfaces[0].prefixes[0].len = 16;
        let membership = 0;
        apply_alone(
            &mut state,
            Command::NodeReport {
                node,
                interfaces,
                membership,
            },
        );
    }
    for i in 0..2100 {
        let put = Command::PutVip {
            name: name(&alloc::format!("m{i}")),
            labels: Labels::new(),
            spec: VipSpec {
                pool: Some(name("many")),
                ..VipSpec::default()
            },
            expect: Expect::Any,
        };
        apply_alone(&mut state, put);
    }
    let mine = state
        .unproven()
        .filter(|(_, of)| of.holder == Some(it.me))
        .count();
    assert!(mine > 1024, "{mine}");
    let asked = look(&mut it, &state, 0).questions;
    assert_eq!(asked.len(), 1024);
    assert_eq!(look(&mut it, &state, 1).questions, []);
    let answers: Vec<_> = asked.iter().map(|it| (it.address, Answer::Free)).collect();
    it.answered(at(200), &answers[..24]);
    let decision = look(&mut it, &state, 200);
    assert_eq!(decision.questions, [], "the log has yet to have those");
    assert!(told(&mut it, &mut state, decision));
    assert_eq!(
        look(&mut it, &state, 201).questions.len(),
        mine.min(1024 + 24) - 1024
    );
}
