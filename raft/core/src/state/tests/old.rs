//! What vipd 0.1 wrote (layout 1) is read; what a later vipd wrote is refused in plain words. The fixtures were
//! written by vipd 0.1 itself.

use super::*;
use crate::codec::{DecodeError, LAYOUT, Reader};
use crate::command::Proposal;

const STATE: &[u8] = include_bytes!("fixtures/state-1.bin");
/// Entries, each after its length.
const LOG: &[u8] = include_bytes!("fixtures/log-1.bin");

#[test]
fn a_snapshot_of_vipd_0_1_is_read_and_everybody_is_at_home_where_he_is() {
    let state = State::from_bytes(STATE).unwrap();
    state.check().unwrap();
    let a = &state.allocations()[&state.vips()[&name("a")].addresses[0]];
    assert_eq!((a.holder, a.next), (Some(NodeId(1)), Some(NodeId(3))));
    assert_eq!(a.home, a.holder);
    for node in state.nodes().values() {
        assert_eq!(node.weight, Weight::MAX);
        assert_eq!(node.label("rack"), Some("a"));
    }
    let again = State::from_bytes(&state.to_bytes()).unwrap();
    assert_eq!(
        again.to_bytes(),
        state.to_bytes(),
        "and is written in the layout of today"
    );
}

#[test]
fn a_log_of_vipd_0_1_is_read_and_leads_to_the_same_holders() {
    let mut state = State::default();
    let mut rest = LOG;
    while let Some((head, tail)) = rest.split_at_checked(4) {
        let (entry, tail) = tail.split_at(u32::from_be_bytes(head.try_into().unwrap()) as usize);
        let proposal = Proposal::from_bytes(entry).unwrap();
        state.apply(state.applied() + 1, &proposal).unwrap();
        state.check().unwrap();
        rest = tail;
    }
    let snapshot = State::from_bytes(STATE).unwrap();
    assert_eq!(state.applied(), snapshot.applied());
    for (address, then) in snapshot.allocations() {
        let now = &state.allocations()[address];
        assert_eq!(
            (now.holder, now.epoch, now.vacating, now.next),
            (then.holder, then.epoch, then.vacating, then.next)
        );
    }
}

#[test]
fn what_a_later_vipd_wrote_is_refused_in_plain_words() {
    let mut bytes = State::default().to_bytes();
    bytes[0] = LAYOUT + 1;
    let error = State::from_bytes(&bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "snapshot is of layout {}, but this vipd reads 1 to {LAYOUT}: was it downgraded?",
            LAYOUT + 1
        )
    );
}

#[test]
fn a_reader_goes_on_in_its_own_layout_after_an_old_value() {
    let mut bytes = LOG[4..4 + u32::from_be_bytes(LOG[..4].try_into().unwrap()) as usize].to_vec();
    bytes.push(7);
    let mut input = Reader::new(&bytes);
    Proposal::decode(&mut input).unwrap();
    assert_eq!(input.layout(), LAYOUT);
    assert_eq!(u8::decode(&mut input), Ok::<_, DecodeError>(7));
}
