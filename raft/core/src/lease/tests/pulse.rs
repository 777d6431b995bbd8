//! Three nodes' beats, joined without loss or delay: what is said when.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use crate::id::{Epoch, NodeId};
use crate::lease::{Datagram, Effect, Event, OnQuorumLoss, Profile, Pulse, Timing, Verdict, View};
use crate::node::VoterSets;
use crate::time::{Instant, Span};

const LAN: Timing = Profile::Lan.timing();
const EPOCH: Epoch = Epoch(10);

type Lying = Vec<(NodeId, u64, Datagram)>;

/// Nodes 1 to 3, all voters, each with the lease [`EPOCH`]; time in milliseconds.
struct Trio {
    ms: u64,
    view: View,
    /// What waits for a node that need not take it yet: from whom, since when, what. `None` where all is taken as it comes.
    lying: Option<BTreeMap<NodeId, Lying>>,
    /// How often each node woke.
    wakes: BTreeMap<NodeId, u64>,
    pulses: BTreeMap<NodeId, Pulse>,
    cut: BTreeSet<NodeId>,
    told: Vec<(NodeId, Event)>,
    sent: Vec<(NodeId, NodeId, Datagram)>,
}

impl Trio {
    fn new(on_loss: OnQuorumLoss) -> Self {
        let ids: BTreeSet<NodeId> = (1..=3).map(NodeId).collect();
        let view = View {
            epoch: Some(EPOCH),
            membership: 4,
            voters: Some(VoterSets {
                sets: vec![ids.clone()],
            }),
            votes: true,
            leases: ids.iter().map(|id| (*id, EPOCH)).collect(),
        };
        let start = |id: NodeId| {
            let mut pulse = Pulse::new(id, LAN, on_loss, at(0), []);
            pulse.set_view(at(0), &view, &mut Vec::new());
            (id, pulse)
        };
        Self {
            ms: 0,
            view: view.clone(),
            lying: None,
            wakes: BTreeMap::new(),
            pulses: ids.into_iter().map(start).collect(),
            cut: BTreeSet::new(),
            told: Vec::new(),
            sent: Vec::new(),
        }
    }

    fn run_until(&mut self, ms: u64) {
        while self.ms < ms {
            self.ms += 1;
            for id in (1..=3).map(NodeId) {
                let mut out = Vec::new();
                let pulse = self.pulses.get_mut(&id).unwrap();
                let due = pulse.next_tick() <= at(self.ms) || pulse.deadline() <= at(self.ms);
                let read = !pulse.calm(at(self.ms));
                let lying = self.lying.as_mut().and_then(|all| all.get_mut(&id));
                let lying = lying.filter(|lying| due || read && !lying.is_empty());
                if due || lying.is_some() {
                    *self.wakes.entry(id).or_default() += 1;
                }
                for (from, ms, datagram) in lying.into_iter().flat_map(core::mem::take) {
                    pulse.on_datagram(at(ms), from, datagram, &mut out);
                }
                if due {
                    pulse.tick(at(self.ms), &mut out);
                }
                self.carry_out(id, out);
            }
        }
    }

    fn carry_out(&mut self, from: NodeId, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Tell(event) => self.told.push((from, event)),
                Effect::Send { to, datagram } => {
                    self.sent.push((from, to, datagram.clone()));
                    if self.cut.contains(&from) || self.cut.contains(&to) {
                        continue;
                    }
                    if let Some(lying) = &mut self.lying {
                        lying.entry(to).or_default().push((from, self.ms, datagram));
                        continue;
                    }
                    let mut out = Vec::new();
                    let receiver = self.pulses.get_mut(&to).unwrap();
                    receiver.on_datagram(at(self.ms), from, datagram, &mut out);
                    self.carry_out(to, out);
                }
            }
        }
    }

    fn one(&mut self) -> &mut Pulse {
        self.pulses.get_mut(&NodeId(1)).unwrap()
    }

    fn announces(&self, id: u64) -> bool {
        at(self.ms) < self.pulses[&NodeId(id)].deadline()
    }

    fn told_by_one(&self) -> Vec<Event> {
        let by_one = self.told.iter().filter(|(id, _)| *id == NodeId(1));
        by_one.map(|(_, event)| *event).collect()
    }
}

fn at(ms: u64) -> Instant {
    Instant(0).after(Span::millis(ms))
}

#[test]
fn the_first_answer_to_a_lease_comes_at_once_and_later_ones_with_the_next_beat() {
    let mut trio = Trio::new(OnQuorumLoss::Stop);
    trio.run_until(1);
    assert!(
        (1..=3).all(|id| trio.announces(id)),
        "within one round trip"
    );
    trio.run_until(100);
    trio.sent.clear();
    trio.run_until(200);
    let beats = trio.sent.len();
    assert_eq!(
        beats,
        4 * 6,
        "four beats of three nodes to two others, and no answers beside"
    );
    for (_, _, datagram) in &trio.sent {
        match datagram {
            Datagram::Beat { beat } => assert!(beat.ack.is_some()),
            Datagram::Ack { .. } => panic!("{datagram:?}"),
        }
    }
    let left = trio.one().deadline().since(at(200));
    assert!(
        left >= Span::millis(LAN.lease.as_millis() - 2 * 25),
        "{left:?}"
    );
}

/// Three nodes that beat at different moments and read only what they must.
fn lazy(on_loss: OnQuorumLoss) -> Trio {
    let mut trio = Trio::new(on_loss);
    trio.lying = Some(BTreeMap::new());
    for (id, ms) in [(2, 8), (3, 17)] {
        let pulse = trio.pulses.get_mut(&NodeId(id)).unwrap();
        *pulse = Pulse::new(NodeId(id), LAN, on_loss, at(ms), []);
        pulse.set_view(at(ms), &trio.view, &mut Vec::new());
    }
    trio
}

#[test]
fn while_all_is_well_a_node_wakes_for_its_own_beats_only_and_is_as_well_supported() {
    let mut trio = lazy(OnQuorumLoss::Stop);
    trio.run_until(3_000);
    trio.wakes.clear();
    for _ in 0..1_000 {
        trio.run_until(trio.ms + 1);
        for pulse in trio.pulses.values() {
            let left = pulse.deadline().since(at(trio.ms));
            assert!(
                left >= Span::millis(LAN.lease.as_millis() - 2 * 25),
                "{left:?}"
            );
        }
    }
    assert!(
        trio.wakes.values().all(|wakes| *wakes == 40),
        "{:?}",
        trio.wakes
    );
}

#[test]
fn a_holder_that_dies_is_fenced_as_early_as_if_all_was_taken_as_it_comes() {
    for cut in 3_000..3_025 {
        let mut trio = lazy(OnQuorumLoss::Stop);
        trio.run_until(cut - 26);
        let mut last = 0;
        while trio.ms < cut {
            trio.sent.clear();
            trio.run_until(trio.ms + 1);
            if trio.sent.iter().any(|(from, ..)| *from == NodeId(1)) {
                last = trio.ms;
            }
        }
        trio.cut.insert(NodeId(1));
        let mut fenced = BTreeMap::new();
        while trio.ms < cut + 200 {
            trio.told.clear();
            trio.run_until(trio.ms + 1);
            for (voter, event) in &trio.told {
                if matches!(event, Event::Fencing { node, .. } if *node == NodeId(1)) {
                    fenced.insert(*voter, trio.ms);
                }
            }
        }
        let ends = last + LAN.promise().0.div_ceil(1_000_000);
        let both = BTreeMap::from([(NodeId(2), ends), (NodeId(3), ends)]);
        assert_eq!(fenced, both, "cut at {cut}");
    }
}

#[test]
fn a_node_that_misses_another_takes_everything_as_it_comes() {
    let mut trio = lazy(OnQuorumLoss::Stop);
    trio.run_until(3_000);
    assert!(trio.one().calm(at(3_000)));
    trio.cut.insert(NodeId(3));
    trio.run_until(3_000 + 3 * 25);
    let now = at(trio.ms);
    assert!(!trio.one().calm(now), "two beats of node 3 are missing");
}

#[test]
fn a_refusal_is_said_at_once() {
    let mut trio = Trio::new(OnQuorumLoss::Stop);
    // Past the wait after the start, so that the others judge.
    trio.run_until(2_500);
    trio.cut.insert(NodeId(1));
    trio.run_until(2_800);
    trio.cut.clear();
    trio.sent.clear();
    trio.run_until(2_826);
    let refused = |(_, to, datagram): &(NodeId, NodeId, Datagram)| {
        *to == NodeId(1)
            && matches!(datagram, Datagram::Ack { ack } if ack.verdict == Verdict::Fenced)
    };
    assert_eq!(trio.sent.iter().filter(|sent| refused(sent)).count(), 2);
}

#[test]
fn a_node_is_answered_while_a_majority_answers_its_beats_even_if_all_refuse() {
    let mut trio = Trio::new(OnQuorumLoss::Stop);
    trio.run_until(2_500);
    let answered = |trio: &Trio| trio.pulses[&NodeId(1)].answered(at(trio.ms));
    assert!(answered(&trio));
    trio.cut.extend([NodeId(2), NodeId(3)]);
    trio.run_until(2_500 + LAN.lease.as_millis());
    assert!(!answered(&trio), "by itself alone");
    trio.run_until(2_800);
    // Node 2 is back, and says that it has fenced the lease.
    trio.cut.remove(&NodeId(2));
    trio.run_until(2_830);
    assert!(answered(&trio) && !trio.announces(1));
}

#[test]
fn without_a_majority_a_holder_stops_at_the_end_of_its_lease() {
    let mut trio = Trio::new(OnQuorumLoss::Stop);
    trio.run_until(200);
    trio.cut.insert(NodeId(1));
    trio.run_until(200 + LAN.lease.as_millis());
    assert!(!trio.announces(1));
    assert_eq!(
        trio.told_by_one().last(),
        Some(&Event::Support { held: false })
    );
    assert!(trio.announces(2) && trio.announces(3));
}

#[test]
fn a_holder_told_to_freeze_goes_on_until_a_majority_says_to_have_fenced_it() {
    let mut trio = Trio::new(OnQuorumLoss::Freeze);
    trio.run_until(2_500);
    assert!(!trio.told_by_one().contains(&Event::Frozen { frozen: true }));
    trio.cut.insert(NodeId(1));
    trio.run_until(10_000);
    assert!(trio.announces(1));
    assert!(trio.told_by_one().contains(&Event::Frozen { frozen: true }));
    // It is the daemon that goes on: once it stands still, the kernel's deadline passes.
    assert!(trio.one().deadline() <= at(10_000 + LAN.lease.as_millis()));

    trio.cut.clear();
    trio.run_until(10_030);
    assert!(!trio.announces(1), "two of three have fenced it");
    assert!(
        trio.told_by_one()
            .contains(&Event::Frozen { frozen: false })
    );
}

#[test]
fn a_frozen_holder_thaws_when_support_is_back() {
    let mut trio = Trio::new(OnQuorumLoss::Freeze);
    trio.run_until(500);
    // Within the others' wait after the start nobody is fenced.
    trio.cut.insert(NodeId(1));
    trio.run_until(1_000);
    assert!(trio.announces(1));
    trio.cut.clear();
    trio.run_until(1_200);
    assert!(trio.announces(1));
    assert_eq!(
        trio.told_by_one().last(),
        Some(&Event::Frozen { frozen: false })
    );
}

#[test]
fn after_a_jump_of_the_clock_a_node_is_silent_until_it_is_supported_anew_and_fences_nobody() {
    let mut trio = Trio::new(OnQuorumLoss::Freeze);
    trio.run_until(3_000);
    let mut out = Vec::new();
    let now = at(trio.ms);
    trio.one().clock_jumped(now, &mut out);
    assert!(!trio.announces(1));
    trio.carry_out(NodeId(1), out);
    trio.run_until(3_030);
    assert!(trio.announces(1));
    let fencing = |event: &Event| matches!(event, Event::Fencing { .. });
    assert!(!trio.told_by_one().iter().any(fencing));
}

#[test]
fn a_stretched_lease_outlives_its_daemon_for_two_seconds_and_is_not_taken_meanwhile() {
    let mut trio = Trio::new(OnQuorumLoss::Stop);
    trio.run_until(3_000);
    let now = at(trio.ms);
    let before = trio.one().deadline();
    trio.one().stretch(now);
    assert_eq!(
        trio.one().deadline(),
        before,
        "nobody has promised more yet"
    );
    trio.run_until(3_060);
    let deadline = trio.one().deadline();
    assert!(deadline >= at(4_950), "{deadline:?}");

    // Its daemon is gone; its kernel goes on.
    trio.cut.insert(NodeId(1));
    trio.told.clear();
    trio.run_until(deadline.0 / 1_000_000);
    let fenced = |(_, event): &(NodeId, Event)| {
        matches!(
            event,
            Event::Fencing {
                node: NodeId(1),
                ..
            }
        )
    };
    assert!(!trio.told.iter().any(fenced));
    trio.run_until(5_200);
    assert_eq!(trio.told.iter().filter(|told| fenced(told)).count(), 2);
}
