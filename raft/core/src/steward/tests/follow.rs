//! Gates that follow the entries are those that would be made anew.

use super::*;
use crate::node::Weight;
use crate::proof::Claim;
use crate::vip::Families;
use alloc::format;

/// Numbers that look like chance (Knuth's generator), the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Something that somebody may do, sensible or not.
fn command(dice: &mut Dice, state: &State) -> Command {
    let vip = name(&format!("v{}", dice.below(12)));
    let expect = Expect::Any;
    let node = name(["n1", "n2"][dice.below(2) as usize]);
    match dice.below(32) {
        0..=7 => Command::PutVip {
            name: vip,
            labels: [("app".into(), ["a", "b"][dice.below(2) as usize].into())].into(),
            spec: VipSpec {
                families: Families::Ipv4,
                interface: (dice.below(6) == 0).then(|| "eth1".into()),
                ..VipSpec::default()
            },
            expect,
        },
        8..=11 => Command::DeleteVip { name: vip, expect },
        12 | 13 => Command::MoveVip {
            name: vip,
            to: node,
        },
        14 => Command::SetDrained {
            node,
            drained: dice.below(2) == 0,
        },
        15 => Command::SetNode {
            node,
            weight: Weight::new(50 * dice.below(3) as u8).ok(),
            labels: [].into(),
            drained: None,
            expect,
        },
        16 => Command::PutPolicy {
            name: name("only"),
            labels: Labels::new(),
            spec: PolicySpec {
                interfaces: vec![
                    Pattern::new(["^eth0$", "^none$"][dice.below(2) as usize]).unwrap(),
                ],
                ..PolicySpec::default()
            },
            expect,
        },
        17 => Command::DeletePolicy {
            name: name("only"),
            expect,
        },
        18..=21 => {
            // Whoever asked the link tells what he found.
            let nodes: Vec<NodeId> = state.nodes().keys().copied().collect();
            let node = nodes[dice.below(2) as usize];
            let held = state.unproven().filter(|(_, of)| of.holder == Some(node));
            let found = held.map(|(address, of)| Found {
                address,
                epoch: of.epoch,
                claim: (dice.below(3) == 0).then(|| Claim {
                    mac: mac(NodeId(9)),
                    interface: "eth0".into(),
                }),
                rule: [Rule::Refuse, Rule::Warn][dice.below(2) as usize],
            });
            let found = found.collect();
            Command::Probed { node, found }
        }
        _ => {
            // Whoever is asked to let go does so.
            let nodes: Vec<NodeId> = state.nodes().keys().copied().collect();
            let node = nodes[dice.below(2) as usize];
            let addresses = vacating(state, node).collect();
            Command::Released { node, addresses }
        }
    }
}

#[test]
fn gates_that_follow_the_entries_are_those_that_would_be_made_anew() {
    let (mut state, one, other) = two_nodes();
    let spec = PoolSpec {
        blocks: vec![Block::parse("10.0.0.50-10.0.0.60").unwrap()],
        ..PoolSpec::default()
    };
    let care = crate::pool::Care::default();
    apply(
        &mut state,
        Command::PutPool {
            name: name("p"),
            labels: Labels::new(),
            spec,
            expect: Expect::Any,
            care,
        },
    );
    let mut stewards = [one, other].map(|me| {
        let mut it = steward(me);
        it.caught_up();
        Scene::of(&state, me).tell(&mut it, 0, None, Event::Support { held: true });
        it
    });
    let (mut dice, mut ms, mut followed) = (Dice(1), 5000, 0);
    for _ in 0..4000 {
        let entry = Proposal {
            at: Millis(ms),
            command: command(&mut dice, &state),
            by: None,
        };
        // Refused or not.
        drop(state.apply(state.applied() + 1, &entry));
        ms += [1, 10, 400, 3000][dice.below(4) as usize];
        for it in &mut stewards {
            let before = it.told.clone();
            let decision = Scene::of(&state, it.me).look(it, ms, None);
            let mut wanted = gates(&state, it.me, true, &it.moves);
            for address in it.given_back.keys() {
                if let Some(stance) = wanted.get_mut(address).filter(|stance| stance.is_open()) {
                    stance.duty = Duty::Shut;
                }
            }
            assert_eq!(it.told.as_ref(), Some(&wanted), "{:?}", entry.command);
            assert_eq!(
                decision.gates.is_some(),
                before != it.told,
                "{:?}",
                entry.command
            );
            followed += u32::from(it.basis.is_some_and(|basis| basis.followed()));
        }
    }
    assert!(followed > 1000, "only {followed} looks followed");
}
