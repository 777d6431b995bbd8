//! The state has an end: what would pass it is refused, and what is there can be sent to a peer in one piece.

use proptest::prelude::*;

use super::random::step;
use super::*;
use crate::rejection::Rejection;
use crate::state::MOST;

/// As many and as long labels as there may be.
fn labels() -> Labels {
    let label = |i: usize| (format!("{i}{}", "k".repeat(300)), "v".repeat(1024));
    (0..64).map(label).collect()
}

fn put(vip: &str, labels: Labels) -> Command {
    Command::PutVip {
        name: name(vip),
        labels,
        spec: VipSpec::default(),
        expect: Expect::Any,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn what_users_have_is_never_larger_than_it_is_reckoned(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut c = Cluster::of(3);
        steps.into_iter().for_each(|step| step.take(&mut c));
        let State { pools, policies, vips, allocations, cooling, .. } = c.state.clone();
        let size = c.state.size();
        let users = State { pools, policies, vips, allocations, cooling, ..State::default() };
        let nothing = State::default().to_bytes().len();
        prop_assert!((users.to_bytes().len() - nothing) as u64 <= size, "{size}: {users:?}");
    }
}

/// Without the harness, which compares the whole state after each entry.
fn apply(state: &mut State, command: Command) -> Outcome {
    let index = state.applied() + 1;
    let at = Millis(index);
    let by = None;
    state.apply(index, &Proposal { at, command, by })
}

#[test]
fn a_state_that_is_full_takes_nothing_more_and_fits_a_frame_until_something_is_deleted() {
    let mut state = Cluster::of(1).state;
    let large = labels();
    let full = (0..10_000).find_map(|i| {
        let put = put(&format!("v{i}"), large.clone());
        apply(&mut state, put).err().map(|why| (i, why))
    });
    let (made, why) = full.expect("there is an end");
    let Rejection::StateFull { size, most } = why else {
        panic!("{why}");
    };
    assert_eq!((why.reason(), most), ("state_full", MOST));
    assert!(size <= MOST && made > 1000, "{size} bytes, {made} VIPs");
    let bytes = state.to_bytes();
    assert!(bytes.len() as u64 <= MOST, "{} bytes", bytes.len());
    assert_eq!(State::from_bytes(&bytes).unwrap().size(), state.size());

    // What is there stays as it is, may become smaller, and may go.
    apply(&mut state, put("v0", large.clone())).unwrap();
    apply(&mut state, put("v1", Labels::new())).unwrap();
    let expect = Expect::Any;
    let name = name("v0");
    apply(&mut state, Command::DeleteVip { name, expect }).unwrap();
    apply(&mut state, put("new", large)).unwrap();
}

#[test]
fn addresses_that_cool_down_take_room_that_comes_back() {
    let mut c = Cluster::of(1);
    let spec = PoolSpec {
        blocks: vec![Block::parse("10.0.0.0/24").unwrap()],
        cooldown: Millis(1000),
        ..PoolSpec::default()
    };
    c.apply(Command::PutPool {
        name: name("web"),
        labels: Labels::new(),
        spec,
        expect: Expect::Any,
        care: crate::pool::Care::default(),
    })
    .unwrap();
    let before = c.state.size();
    c.vip("www", VipSpec::default()).unwrap();
    let with = c.state.size();
    let expect = Expect::Any;
    let name = name("www");
    c.apply(Command::DeleteVip { name, expect }).unwrap();
    c.release_all();
    let cooling = c.state.size();
    assert!(
        before < cooling && cooling < with,
        "{before} {cooling} {with}"
    );
    c.pass(2000);
    c.apply(Command::Ripen).unwrap();
    assert_eq!(c.state.size(), before);
}

#[test]
fn labels_and_interfaces_are_bounded_in_the_core_too() {
    let mut c = Cluster::of(1);
    let many: Labels = (0..65).map(|i| (i.to_string(), String::new())).collect();
    let long = |key: usize, value: usize| Labels::from([("k".repeat(key), "v".repeat(value))]);
    for (labels, why) in [
        (many, "VIP www would have 65 labels, more than 64"),
        (
            long(318, 0),
            "a label whose key has 318 bytes, more than 317",
        ),
        (
            long(1, 1025),
            "a label whose value has 1025 bytes, more than 1024",
        ),
    ] {
        let refused = c.apply(put("www", labels)).unwrap_err();
        assert_eq!(refused.reason(), "invalid");
        assert!(refused.to_string().contains(why), "{refused}");
    }
    let spec = VipSpec {
        interface: Some("a-name-too-long-".into()),
        ..VipSpec::default()
    };
    let refused = c.vip("www", spec).unwrap_err().to_string();
    assert!(refused.contains("an interface of 16 bytes"), "{refused}");
}

#[test]
fn parts_of_a_backup_are_dropped_when_no_further_one_comes_for_ten_minutes() {
    let mut c = Cluster::of(1);
    let empty = c.state.to_bytes().len();
    let stage = |part, bytes| Command::Stage {
        upload: 7,
        part,
        bytes,
    };
    c.apply_at(Millis(0), stage(0, vec![1; 1000])).unwrap();
    c.apply_at(Millis(599_999), stage(1, vec![2; 1000]))
        .unwrap();
    c.apply_at(Millis(1_199_998), Command::Rebalance).unwrap();
    assert!(c.state.to_bytes().len() > empty + 2000);
    c.apply_at(Millis(1_199_999), Command::Rebalance).unwrap();
    assert!(c.state.to_bytes().len() < empty + 500);
    let late = c.apply_at(Millis(1_200_000), stage(2, vec![3]));
    assert!(late.unwrap_err().to_string().contains("part 2"));
}

/// Whoever follows events reads them when an entry is applied: what it says must not have been lost by then.
#[test]
fn events_of_one_entry_are_kept_together_however_many_they_are() {
    let mut c = Cluster::of(2);
    c.pool("web", &["10.0.0.0/20", "fd00::/64"]).unwrap();
    let mut state = c.state;
    for i in 0..1500 {
        apply(&mut state, put(&format!("v{i}"), Labels::new())).unwrap();
    }
    assert_eq!(state.events().len(), crate::state::EVENTS_KEPT);
    let lost = NodeId(1);
    let (epoch, held) = (state.node(lost).unwrap().epoch, state.held_by(lost).count());
    assert!(held > 1000, "{held}");
    let membership = 0;
    let node = lost;
    apply(
        &mut state,
        Command::NodeDown {
            node,
            epoch,
            membership,
        },
    )
    .unwrap();
    let of_entry = |state: &State| {
        state
            .events()
            .iter()
            .all(|event| event.revision.0 == state.applied())
    };
    assert!(of_entry(&state) && state.events().len() > held);
    apply(&mut state, Command::Rebalance).unwrap();
    assert_eq!(state.events().len(), crate::state::EVENTS_KEPT);
}
