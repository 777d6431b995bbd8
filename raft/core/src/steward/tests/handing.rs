//! Planned moves: who serves, hands on and takes, entry by entry.

use super::*;
use crate::id::Revision;

/// Milliseconds after which a lease is old enough to take what is handed on.
pub(super) const SETTLED: u64 = 5000;

/// A node that is supported and has caught up; what it does about the address.
struct Seat {
    me: NodeId,
    it: Steward,
    ms: u64,
    duty: Duty,
    released: Vec<(IpAddr, Epoch)>,
}

impl Seat {
    fn of(state: &State, me: NodeId) -> Self {
        let mut it = steward(me);
        it.caught_up();
        let mut seat = Self {
            me,
            it,
            ms: 0,
            duty: Duty::Shut,
            released: Vec::new(),
        };
        seat.support(state, true);
        seat
    }

    fn support(&mut self, state: &State, held: bool) {
        let scene = Scene::of(state, self.me);
        scene.tell(&mut self.it, self.ms, None, Event::Support { held });
        self.look(state, self.ms);
    }

    /// Looks when its lease is old enough to take.
    fn settled(state: &State, me: NodeId) -> Self {
        let mut seat = Self::of(state, me);
        seat.look(state, SETTLED);
        seat
    }

    fn look(&mut self, state: &State, ms: u64) -> Duty {
        self.ms = ms;
        let decision = Scene::of(state, self.me).look(&mut self.it, ms, None);
        if let Some(gates) = decision.gates {
            self.duty = gates[&address()].duty;
        }
        for (purpose, command) in decision.proposals {
            if let Command::Released { addresses, .. } = command {
                self.released.extend(addresses);
            }
            let now = Instant(0).after(Span::millis(ms));
            let done = Came::Done {
                revision: Revision(state.applied()),
            };
            self.it.finished(now, purpose, done);
        }
        self.duty
    }

    fn hands_to(&self, to: NodeId) -> bool {
        matches!(self.duty, Duty::Hand { to: found, .. } if found == mac(to))
    }
}

pub(super) fn drain(state: &mut State, node: NodeId, drained: bool) {
    let node = state.node(node).unwrap().name.clone();
    apply(state, Command::SetDrained { node, drained });
}

fn release(state: &mut State, from: &Seat) {
    let addresses = from.released.clone();
    let node = from.me;
    apply(state, Command::Released { node, addresses });
}

fn token(state: &State) -> Epoch {
    state.allocations()[&address()].epoch
}

#[test]
fn a_move_is_served_by_the_holder_then_handed_then_held_by_the_next_one() {
    let (mut state, holder, next) = two_nodes();
    let (mut old, mut new) = (Seat::settled(&state, holder), Seat::settled(&state, next));
    assert_eq!((old.duty, new.duty), (Duty::Open, Duty::Shut));

    drain(&mut state, holder, true);
    assert_eq!(
        old.look(&state, SETTLED + 10),
        Duty::Open,
        "until the next one is ready"
    );
    assert_eq!(old.released, []);
    assert_eq!(
        new.look(&state, SETTLED + 10),
        Duty::Take { from: mac(holder) }
    );

    let stops = old.it.next_look().unwrap();
    assert!(stops <= Instant(0).after(Span::millis(SETTLED + 36)));
    old.look(&state, SETTLED + 36);
    assert!(old.hands_to(next));
    assert!(matches!(old.duty, Duty::Hand { leased: true, .. }));
    assert_eq!(old.released, [(address(), token(&state))], "and only now");

    release(&mut state, &old);
    assert_eq!(new.look(&state, SETTLED + 37), Duty::Open);
    old.look(&state, SETTLED + 38);
    let until = stops.after(Span::millis(3000));
    let (to, leased) = (mac(next), false);
    assert_eq!(old.duty, Duty::Hand { to, until, leased });
    let ends = until.0 / 1_000_000;
    assert_eq!(old.look(&state, ends), old.duty);
    assert_eq!(old.it.next_look(), Some(until), "told in time");
    assert_eq!(old.look(&state, ends + 1), Duty::Shut);
    let rested = Some(Instant(0).after(Span::millis(2 * SETTLED + 38)));
    assert_eq!(old.it.next_look(), rested, "when it may take it again");
}

#[test]
fn a_next_holder_takes_once_its_lease_is_old_enough_though_nothing_else_happens() {
    let (mut state, holder, next) = two_nodes();
    let mut new = Seat::of(&state, next);
    drain(&mut state, holder, true);
    assert_eq!(new.look(&state, 1), Duty::Shut);
    assert_eq!(
        new.look(&state, SETTLED + 1),
        Duty::Take { from: mac(holder) }
    );
}

#[test]
fn without_support_nobody_hands_on_or_takes() {
    let (mut state, holder, next) = two_nodes();
    let (mut old, mut new) = (Seat::settled(&state, holder), Seat::settled(&state, next));
    drain(&mut state, holder, true);
    old.look(&state, SETTLED + 1);
    old.look(&state, SETTLED + 40);
    assert!(old.hands_to(next));
    old.support(&state, false);
    assert_eq!(old.duty, Duty::Shut);
    assert_ne!(new.look(&state, SETTLED + 40), Duty::Shut);
    new.support(&state, false);
    assert_eq!(new.duty, Duty::Shut);
}

#[test]
fn a_node_whose_mac_is_not_known_is_handed_nothing_and_waited_for_not_at_all() {
    let (mut state, holder, next) = two_nodes();
    let mut interfaces = state.node(next).unwrap().interfaces.clone();
    interfaces[0].mac = Mac::default();
    let report = Command::NodeReport {
        node: next,
        interfaces,
        membership: 0,
    };
    apply(&mut state, report);
    let mut old = Seat::of(&state, holder);
    drain(&mut state, holder, true);
    assert_eq!(old.look(&state, 1), Duty::Shut);
    assert_eq!(old.released.len(), 1);
}

fn down(state: &mut State, node: NodeId) {
    let epoch = state.node(node).unwrap().epoch;
    let membership = 0;
    apply(
        state,
        Command::NodeDown {
            node,
            epoch,
            membership,
        },
    );
}

#[test]
fn a_holder_that_hands_on_serves_again_when_the_next_one_is_lost_and_nobody_else_can_but_no_sooner_than_what_it_handed_on_is_old()
 {
    let (mut state, holder, next) = two_nodes();
    let mut old = Seat::of(&state, holder);
    drain(&mut state, holder, true);
    old.look(&state, 1);
    old.look(&state, 40);
    assert!(old.hands_to(next));
    let before = token(&state);
    down(&mut state, next);
    assert!(token(&state) > before, "its release is on its way");
    release(&mut state, &old);
    assert_eq!(state.allocations()[&address()].holder, Some(holder));
    // By a log that has gone on since, the next one may be back, and take what is still on its way to it.
    assert_eq!(old.look(&state, 41), Duty::Shut);
    let silent = Some(Instant(0).after(Span::millis(3041)));
    assert_eq!(old.it.next_look(), silent, "told in time");
    assert_eq!(old.look(&state, 3040), Duty::Shut);
    assert_eq!(old.look(&state, 3041), Duty::Open);
}

#[test]
fn a_holder_that_has_handed_on_waits_though_it_was_silent_since_for_lack_of_support() {
    let (mut state, holder, next) = two_nodes();
    let mut old = Seat::of(&state, holder);
    drain(&mut state, holder, true);
    old.look(&state, 1);
    old.look(&state, 40);
    assert!(old.hands_to(next));
    old.support(&state, false);
    assert_eq!(old.duty, Duty::Shut);
    down(&mut state, next);
    release(&mut state, &old);
    old.ms = 50;
    old.support(&state, true);
    assert_eq!(old.duty, Duty::Shut);
    assert_eq!(old.look(&state, 3050), Duty::Open);
}

#[test]
fn a_holder_that_was_about_to_hand_on_serves_on_when_the_next_one_is_lost() {
    let (mut state, holder, next) = two_nodes();
    let mut old = Seat::of(&state, holder);
    drain(&mut state, holder, true);
    assert_eq!(old.look(&state, 1), Duty::Open);
    down(&mut state, next);
    assert_eq!(old.look(&state, 2), Duty::Open);
}

#[test]
fn an_address_that_nobody_wants_any_more_is_given_up_by_whom_it_was_on_its_way_to() {
    let (mut state, holder, next) = two_nodes();
    let (mut old, mut new) = (Seat::settled(&state, holder), Seat::settled(&state, next));
    drain(&mut state, holder, true);
    assert_ne!(new.look(&state, SETTLED + 1), Duty::Shut);
    let delete = Command::DeleteVip {
        name: name("v"),
        expect: Expect::Any,
    };
    apply(&mut state, delete);
    old.look(&state, SETTLED + 1);
    old.look(&state, SETTLED + 40);
    release(&mut state, &old);
    assert_eq!(
        state.allocations()[&address()].holder,
        Some(next),
        "whose log may lag: perhaps it still serves"
    );
    assert_eq!(new.look(&state, SETTLED + 41), Duty::Shut);
    release(&mut state, &new);
    assert!(state.allocations().is_empty());
}

#[test]
fn an_address_arrives_where_it_was_on_its_way_to_even_if_it_cannot_stay_there() {
    let (mut state, holder, next) = two_nodes();
    let (mut old, mut new) = (Seat::settled(&state, holder), Seat::settled(&state, next));
    drain(&mut state, holder, true);
    old.look(&state, SETTLED + 1);
    old.look(&state, SETTLED + 40);
    assert!(old.hands_to(next));
    // Perhaps it still serves what is handed to it, and has not heard of this yet.
    drain(&mut state, next, true);
    drain(&mut state, holder, false);
    assert!(old.look(&state, SETTLED + 41) != Duty::Open && old.hands_to(next));
    release(&mut state, &old);
    let of = state.allocations()[&address()].clone();
    assert_eq!((of.holder, of.next), (Some(next), Some(holder)));
    new.look(&state, SETTLED + 42);
    release(&mut state, &new);
    assert_eq!(
        old.look(&state, SETTLED + 43),
        Duty::Open,
        "another one held it meanwhile"
    );
}

#[test]
fn a_node_takes_nothing_while_a_packet_of_an_earlier_move_may_be_on_its_way_to_it() {
    let (mut state, one, two) = two_nodes();
    let (mut old, mut new) = (Seat::settled(&state, one), Seat::of(&state, two));
    drain(&mut state, one, true);
    assert_eq!(new.look(&state, 10), Duty::Shut, "its lease is young");
    assert_eq!(new.look(&state, SETTLED), Duty::Take { from: mac(one) });
    old.look(&state, SETTLED + 1);
    old.look(&state, SETTLED + 40);
    release(&mut state, &old);
    new.look(&state, SETTLED + 41);
    old.look(&state, SETTLED + 41);

    // Back at once: the former holder still hands on, and does not serve what comes back.
    drain(&mut state, one, false);
    drain(&mut state, two, true);
    assert!(old.look(&state, SETTLED + 42) != Duty::Shut && old.hands_to(two));
    assert_eq!(old.look(&state, 2 * SETTLED + 40), Duty::Shut);
    assert_eq!(
        old.look(&state, 2 * SETTLED + 42),
        Duty::Take { from: mac(two) }
    );
}

#[test]
fn a_node_that_gave_an_address_back_without_handing_it_on_takes_it_back_no_sooner() {
    let (mut state, one, two) = two_nodes();
    let mut old = Seat::settled(&state, one);
    let known = state.node(two).unwrap().interfaces.clone();
    let mut unknown = known.clone();
    unknown[0].mac = Mac::default();
    let report = |state: &mut State, interfaces| {
        let report = Command::NodeReport {
            node: two,
            interfaces,
            membership: 0,
        };
        apply(state, report);
    };
    report(&mut state, unknown);
    drain(&mut state, one, true);
    assert_eq!(old.look(&state, SETTLED + 1), Duty::Shut);
    release(&mut state, &old);
    report(&mut state, known);

    // Back at once, before this node has looked.
    drain(&mut state, one, false);
    drain(&mut state, two, true);
    assert_eq!(old.look(&state, SETTLED + 3), Duty::Shut);
    let rested = Some(Instant(0).after(Span::millis(2 * SETTLED + 3)));
    assert_eq!(old.it.next_look(), rested, "told in time");
    assert_eq!(
        old.look(&state, 2 * SETTLED + 3),
        Duty::Take { from: mac(two) }
    );
}

#[test]
fn a_node_that_stops_waits_for_what_is_on_its_way_to_it_and_gives_it_on() {
    let (mut state, holder, next) = two_nodes();
    drain(&mut state, holder, true);
    let mut it = steward(next);
    it.caught_up();
    it.stop(Instant(0));
    let scene = Scene::of(&state, next);
    assert_eq!(
        purposes(&scene.look(&mut it, 1, Some(holder))),
        [Purpose::Retire]
    );
    assert!(!it.may_go(&scene.facts(1, Some(holder))));
}

#[test]
fn a_node_that_starts_anew_serves_no_more_what_an_earlier_life_of_it_may_have_given_back() {
    let (mut state, holder, next) = two_nodes();
    drain(&mut state, holder, true);
    let old = Seat::of(&state, holder);
    assert!(old.hands_to(next));
    assert_eq!(old.released.len(), 1);
}

#[test]
fn nothing_is_handed_on_where_backends_get_packets_by_mac() {
    use crate::service::{Backend, Dispatch, Endpoint, Mode, Port, PortSpec, Protocol};
    for (mode, dispatch, whose, handed) in [
        (Mode::Dsr, Dispatch::L2, "n2", false),
        (Mode::Dsr, Dispatch::L2, "elsewhere", false),
        (Mode::Dsr, Dispatch::Ipip, "n2", true),
        (Mode::Nat, Dispatch::L2, "n2", true),
    ] {
        let (mut state, holder, next) = two_nodes();
        assert_eq!(state.node(next).unwrap().name, name("n2"));
        let web = Port {
            protocol: Protocol::Tcp,
            port: 80,
        };
        let at = Endpoint {
            address: "10.0.0.77".parse().unwrap(),
            port: 0,
        };
        let backend = Backend {
            node: Some(name(whose)),
            ..Backend::default()
        };
        let spec = VipSpec {
            mode,
            dispatch,
            ports: BTreeMap::from([(web, PortSpec::default())]),
            backends: BTreeMap::from([(at, backend)]),
            ..VipSpec::default()
        };
        let put = Command::PutVip {
            name: name("v"),
            labels: Default::default(),
            spec,
            expect: Expect::Any,
        };
        apply(&mut state, put);
        let (mut old, mut new) = (Seat::settled(&state, holder), Seat::settled(&state, next));
        drain(&mut state, holder, true);
        new.look(&state, SETTLED + 1);
        old.look(&state, SETTLED + 1);
        old.look(&state, SETTLED + 40);
        let what = (mode, dispatch, whose);
        assert_eq!(
            new.duty == Duty::Take { from: mac(holder) },
            handed,
            "{what:?}"
        );
        assert_eq!(old.hands_to(next), handed, "{what:?}");
        assert!(!old.released.is_empty(), "{what:?}");
    }
}
