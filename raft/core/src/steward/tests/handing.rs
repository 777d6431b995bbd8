//! Planned moves: who serves, hands on and takes, entry by entry.

use super::*;
use crate::id::Revision;

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

fn drain(state: &mut State, node: NodeId, drained: bool) {
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
    let (mut old, mut new) = (Seat::of(&state, holder), Seat::of(&state, next));
    assert_eq!((old.duty, new.duty), (Duty::Open, Duty::Shut));

    drain(&mut state, holder, true);
    assert_eq!(
        old.look(&state, 10),
        Duty::Open,
        "until the next one is ready"
    );
    assert_eq!(old.released, []);
    assert_eq!(new.look(&state, 10), Duty::Take { from: mac(holder) });

    let stops = old.it.next_look().unwrap();
    assert!(stops <= Instant(0).after(Span::millis(36)));
    old.look(&state, 36);
    assert!(old.hands_to(next));
    assert_eq!(old.released, [(address(), token(&state))], "and only now");

    release(&mut state, &old);
    assert_eq!(new.look(&state, 37), Duty::Open);
    old.look(&state, 38);
    let until = Some(Instant(0).after(Span::millis(2038)));
    assert_eq!(
        old.duty,
        Duty::Hand {
            to: mac(next),
            until
        }
    );
    assert_eq!(old.look(&state, 2037), old.duty);
    assert_eq!(old.it.next_look(), until, "told in time");
    assert_eq!(old.look(&state, 2038), Duty::Shut);
    assert_eq!(old.it.next_look(), None);
}

#[test]
fn without_support_nobody_hands_on_or_takes() {
    let (mut state, holder, next) = two_nodes();
    let (mut old, mut new) = (Seat::of(&state, holder), Seat::of(&state, next));
    drain(&mut state, holder, true);
    old.look(&state, 1);
    old.look(&state, 40);
    assert!(old.hands_to(next));
    old.support(&state, false);
    assert_eq!(old.duty, Duty::Shut);
    assert_ne!(new.look(&state, 40), Duty::Shut);
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

#[test]
fn a_next_holder_whose_lease_is_over_is_not_waited_for() {
    let (mut state, holder, next) = two_nodes();
    let mut old = Seat::of(&state, holder);
    drain(&mut state, holder, true);
    let down = Command::NodeDown {
        node: next,
        epoch: state.node(next).unwrap().epoch,
        membership: 0,
    };
    apply(&mut state, down);
    assert_eq!(old.look(&state, 1), Duty::Shut);
}

#[test]
fn a_vip_that_is_deleted_is_handed_to_nobody() {
    let (mut state, holder, next) = two_nodes();
    let (mut old, mut new) = (Seat::of(&state, holder), Seat::of(&state, next));
    drain(&mut state, holder, true);
    let before = token(&state);
    let delete = Command::DeleteVip {
        name: name("v"),
        expect: Expect::Any,
    };
    apply(&mut state, delete);
    assert!(token(&state) > before, "a destination less, a new token");
    assert_eq!(old.look(&state, 1), Duty::Shut);
    assert_eq!(new.look(&state, 1), Duty::Shut);
}

#[test]
fn a_release_to_a_node_that_cannot_hold_it_any_more_is_not_passed_to_another_but_asked_for_again() {
    let (mut state, holder, next) = two_nodes();
    let mut old = Seat::of(&state, holder);
    drain(&mut state, holder, true);
    old.look(&state, 1);
    old.look(&state, 40);
    assert!(old.hands_to(next));
    // Perhaps it still serves what is handed to it, and has not heard of this yet.
    drain(&mut state, next, true);
    let before = token(&state);
    release(&mut state, &old);
    assert_eq!(state.allocations()[&address()].holder, Some(holder));
    assert!(token(&state) > before);
    old.released.clear();
    assert_eq!(old.look(&state, 41), Duty::Shut, "it is handed on no more");
    assert_eq!(old.released, [(address(), token(&state))]);
}

#[test]
fn a_node_that_starts_anew_serves_no_more_what_an_earlier_life_of_it_may_have_given_back() {
    let (mut state, holder, next) = two_nodes();
    drain(&mut state, holder, true);
    let old = Seat::of(&state, holder);
    assert!(old.hands_to(next));
    assert_eq!(old.released.len(), 1);
}
