//! Thousands of addresses that leave a node go in turns.

use alloc::format;

use super::handing::{SETTLED, drain};
use super::*;
use crate::id::Revision;
use crate::steward::handing::AT_A_TIME;

/// More than may be on their way at a time.
const COUNT: usize = AT_A_TIME + 300;

/// All of them on one of two nodes, which is drained; and that node.
fn drained() -> (State, NodeId) {
    let (mut state, holder, next) = two_nodes();
    drain(&mut state, next, true);
    let spec = PoolSpec {
        blocks: vec![Block::parse("10.0.16.0/20").unwrap()],
        ..PoolSpec::default()
    };
    let pool = Command::PutPool {
        name: name("many"),
        labels: Labels::new(),
        spec,
        expect: Expect::Any,
        care: crate::pool::Care::default(),
    };
    apply(&mut state, pool);
    for number in 1..COUNT {
        let vip = Command::PutVip {
            name: name(&format!("v{number}")),
            labels: Labels::new(),
            spec: VipSpec::default(),
            expect: Expect::Any,
        };
        apply(&mut state, vip);
    }
    drain(&mut state, next, false);
    (state, holder)
}

#[test]
fn of_thousands_no_more_fall_silent_at_a_time_than_two_entries_give_back() {
    let (mut state, holder) = drained();
    let mut it = steward(holder);
    it.caught_up();
    let event = Event::Support { held: true };
    Scene::of(&state, holder).tell(&mut it, SETTLED, None, event);
    let mut gates = Gates::new();
    let mut ms = SETTLED;
    let mut looked = 0;
    let mut most = 0;
    while state.held_by(holder).next().is_some() {
        looked += 1;
        assert!(looked < 100, "{most}");
        let decision = Scene::of(&state, holder).look(&mut it, ms, None);
        gates = decision.gates.unwrap_or(gates);
        let silent = |address: &IpAddr| !gates[address].is_open();
        let waits = state
            .held_by(holder)
            .filter(|(address, _)| silent(address))
            .count();
        assert!(waits <= AT_A_TIME, "{waits}");
        most = waits.max(most);
        if looked == 1 {
            assert_eq!(gates.len(), COUNT);
            drain(&mut state, holder, true);
            continue;
        }
        let mut released = false;
        for (purpose, command) in decision.proposals {
            if let Command::Released { addresses, .. } = &command {
                assert!(addresses.iter().all(|(address, _)| silent(address)));
                released = true;
                apply(&mut state, command);
            }
            let done = Came::Done {
                revision: Revision(state.applied()),
            };
            it.finished(Instant(0).after(Span::millis(ms)), purpose, done);
        }
        // What frees places for others changes nothing by itself: it looks again at once, as after each entry.
        if !released {
            let next = it.next_look().unwrap();
            ms = (next.0 / 1_000_000 + 1).max(ms + 1);
        }
    }
    assert_eq!(most, AT_A_TIME, "as many as may");
    assert!(ms < SETTLED + 1000, "nobody waited for another clock: {ms}");
}
