//! Commands with a ticket.

use super::*;
use crate::once::{Ticket, Ticketed};
use crate::rejection::Rejection;
use crate::state::once::{ANSWERS, REMEMBERED};

fn ticket(key: u64, request: u8) -> Ticket {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&key.to_be_bytes());
    Ticket {
        key: bytes,
        request: [request; 32],
    }
}

fn drain(key: u64, request: u8, drained: bool) -> Command {
    let node = name("n1");
    Ticketed::of(ticket(key, request), Command::SetDrained { node, drained })
}

#[test]
fn the_second_time_nothing_is_done_and_the_answer_is_the_first_one() {
    let mut c = Cluster::of(1);
    let first = c.apply(drain(1, 1, true)).unwrap();
    c.apply(drain(2, 1, false)).unwrap();
    assert_eq!(c.apply(drain(1, 1, true)), Ok(first.clone()));
    assert!(!c.state.node_named(&name("n1")).unwrap().drained);
    assert_eq!(c.apply(drain(1, 2, true)), Err(Rejection::KeyReused));
    // Also by whoever was given the state as bytes.
    let mut other = State::from_bytes(&c.state.to_bytes()).unwrap();
    let (at, command, by) = (Millis(1), drain(1, 1, true), None);
    let again = other.apply(other.applied() + 1, &Proposal { at, command, by });
    assert_eq!(again, Ok(first));
}

#[test]
fn what_was_refused_is_not_remembered() {
    let mut c = Cluster::of(1);
    let node = name("n2");
    let command = Command::SetDrained {
        node,
        drained: true,
    };
    let command = Ticketed::of(ticket(1, 1), command);
    assert!(matches!(
        c.apply(command.clone()),
        Err(Rejection::NotFound { .. })
    ));
    assert!(matches!(c.apply(command), Err(Rejection::NotFound { .. })));
    assert!(c.apply(drain(1, 2, true)).is_ok(), "the key is free");
}

#[test]
fn answers_are_forgotten_by_their_number_and_by_their_age() {
    let mut c = Cluster::of(1);
    let drained = |c: &Cluster| c.state.node_named(&name("n1")).unwrap().drained;
    c.apply_at(Millis(1), drain(0, 1, true)).unwrap();
    c.apply_at(Millis(2), drain(1, 1, false)).unwrap();
    c.apply_at(Millis(REMEMBERED.0), drain(0, 1, true)).unwrap();
    assert!(!drained(&c), "a day is not over");
    c.apply_at(Millis(REMEMBERED.0 + 1), drain(0, 1, true))
        .unwrap();
    assert!(drained(&c), "done anew");
    for key in 2..=u64::try_from(ANSWERS).unwrap() + 1 {
        c.apply_at(Millis(REMEMBERED.0 + 2), drain(key, 1, false))
            .unwrap();
    }
    c.apply_at(Millis(REMEMBERED.0 + 2), drain(0, 1, true))
        .unwrap();
    assert!(drained(&c), "done anew");
}

#[test]
fn a_ticket_for_a_ticket_is_none_and_is_not_read_either() {
    let inner = drain(1, 1, true);
    assert_eq!(Ticketed::of(ticket(2, 2), inner.clone()), inner);
    let mut bytes = inner.to_bytes();
    let head = bytes[..65].to_vec();
    bytes.splice(0..0, head);
    assert!(Command::from_bytes(&bytes).is_err());
}
