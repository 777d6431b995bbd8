use super::*;

const LAN: Link = Link {
    index: 2,
    mac: [2, 0, 0, 0, 0, 2],
    router: false,
};
const OTHER: Link = Link {
    index: 3,
    mac: [2, 0, 0, 0, 0, 3],
    router: false,
};

fn vip() -> IpAddr {
    "10.0.0.7".parse().unwrap()
}

fn links() -> BTreeMap<String, Link> {
    [("lan".to_owned(), LAN), ("other".to_owned(), OTHER)].into()
}

fn wanted(interface: &str, gate: Gate, epoch: u64) -> Wanted {
    let address = WantedAddress {
        interface: interface.to_owned(),
        gate,
        epoch,
    };
    Wanted {
        addresses: [(vip(), address)].into(),
        interfaces: Default::default(),
        ..Wanted::default()
    }
}

fn entry(epoch: u64, link: &Link, flags: u32) -> Address {
    Address {
        epoch,
        ifindex: link.index,
        flags,
        mac: link.mac,
        peer: [0; 6],
        until: 0,
        reserved: [0; 4],
    }
}

/// Does the steps on a model of the kernel and checks the invariants after each.
fn run(actual: &mut Actual, plan: &Plan) -> Vec<Step> {
    let groups = plan.shut.iter().chain(&plan.open).chain(&plan.tidy);
    let mut done = Vec::new();
    for (address, step) in groups.flat_map(|(a, steps)| steps.iter().map(move |s| (a, s))) {
        let present = actual.present.entry(*address).or_default();
        match step {
            Step::Silence | Step::Announce(_) => {}
            Step::Write(entry) => {
                actual.entries.insert(*address, *entry);
            }
            Step::Forget => {
                assert!(present.iter().all(|at| !at.ours), "forgotten but there");
                actual.entries.remove(address);
            }
            Step::Add { ifindex } => {
                let entry = actual.entries[address];
                assert!(entry.has(flags::LOCAL | flags::ADDED), "added unrecorded");
                assert_eq!(entry.ifindex, *ifindex);
                present.push(Presence {
                    ifindex: *ifindex,
                    ours: true,
                });
            }
            Step::Delete { ifindex } => present.retain(|at| at.ifindex != *ifindex),
        }
        if let Some(entry) = actual.entries.get(address) {
            let there = actual.present[address].iter().any(|at| at.ours);
            assert!(!there || entry.has(flags::LOCAL), "there but not fenced");
        }
        done.push(step.clone());
    }
    actual.present.retain(|_, at| !at.is_empty());
    done
}

/// Plans, runs, and checks that nothing is left to do.
fn settle(actual: &mut Actual, wanted: &Wanted) -> Vec<Step> {
    let done = run(actual, &plan(wanted, actual));
    assert_eq!(plan(wanted, actual), Plan::default(), "not settled");
    done
}

fn empty() -> Actual {
    Actual {
        links: links(),
        ..Actual::default()
    }
}

#[test]
fn a_claim_adds_the_address_behind_a_shut_gate_then_opens_then_announces() {
    let mut actual = empty();
    let done = settle(&mut actual, &wanted("lan", Gate::Open, 5));
    let all = flags::LOCAL | flags::ADDED;
    assert_eq!(
        done,
        [
            Step::Write(entry(5, &LAN, all)),
            Step::Add { ifindex: 2 },
            Step::Write(entry(5, &LAN, all | flags::OPEN)),
            Step::Announce(Target {
                ifindex: 2,
                mac: LAN.mac,
                router: false
            }),
        ]
    );
}

#[test]
fn a_loss_shuts_the_gate_before_anything_else() {
    let mut actual = empty();
    settle(&mut actual, &wanted("lan", Gate::Open, 5));
    let done = settle(&mut actual, &wanted("lan", Gate::Shut, 5));
    let all = flags::LOCAL | flags::ADDED;
    assert_eq!(
        done,
        [
            Step::Silence,
            Step::Write(entry(5, &LAN, all)),
            Step::Delete { ifindex: 2 },
            Step::Write(entry(5, &LAN, 0)),
        ]
    );
}

#[test]
fn a_withdrawn_address_is_deleted_before_its_entry_is_forgotten() {
    let mut actual = empty();
    settle(&mut actual, &wanted("lan", Gate::Open, 5));
    let done = settle(&mut actual, &Wanted::default());
    assert_eq!(done[2..], [Step::Delete { ifindex: 2 }, Step::Forget]);
    assert_eq!(actual, empty());
}

#[test]
fn a_new_epoch_or_mac_is_announced_without_a_pause() {
    let mut actual = empty();
    settle(&mut actual, &wanted("lan", Gate::Open, 5));
    let done = settle(&mut actual, &wanted("lan", Gate::Open, 6));
    assert!(matches!(done[..], [Step::Write(_), Step::Announce(_)]));
    actual.links.get_mut("lan").unwrap().mac = [9; 6];
    let done = settle(&mut actual, &wanted("lan", Gate::Open, 6));
    assert!(matches!(done[..], [Step::Write(_), Step::Announce(_)]));
}

#[test]
fn an_address_moves_to_another_interface_by_way_of_a_shut_gate() {
    let mut actual = empty();
    settle(&mut actual, &wanted("lan", Gate::Open, 5));
    let done = settle(&mut actual, &wanted("other", Gate::Open, 6));
    assert!(matches!(done[0], Step::Silence));
    assert!(matches!(done[1], Step::Write(e) if !e.has(flags::OPEN)));
    assert_eq!(done[2], Step::Delete { ifindex: 2 });
}

#[test]
fn an_address_deleted_by_somebody_comes_back_while_it_stays_open() {
    let mut actual = empty();
    settle(&mut actual, &wanted("lan", Gate::Open, 5));
    actual.present.clear();
    let done = settle(&mut actual, &wanted("lan", Gate::Open, 5));
    assert_eq!(done, [Step::Add { ifindex: 2 }]);
}

#[test]
fn an_address_that_somebody_else_added_is_fenced_but_never_deleted() {
    let mut actual = empty();
    let theirs = Presence {
        ifindex: 2,
        ours: false,
    };
    actual.present.insert(vip(), vec![theirs]);
    settle(&mut actual, &wanted("lan", Gate::Open, 5));
    let done = settle(&mut actual, &wanted("lan", Gate::Shut, 5));
    assert!(!done.iter().any(|step| matches!(step, Step::Delete { .. })));
    assert!(actual.entries[&vip()].has(flags::LOCAL));
    assert_eq!(actual.present[&vip()], [theirs]);
}

#[test]
fn an_address_is_shut_when_its_interface_is_gone() {
    let mut actual = empty();
    settle(&mut actual, &wanted("lan", Gate::Open, 5));
    actual.links.remove("lan");
    let plan = plan(&wanted("lan", Gate::Open, 5), &actual);
    assert_eq!(plan.homeless, [(vip(), "lan".to_owned())]);
    run(&mut actual, &plan);
    assert!(actual.entries.is_empty());
}

#[test]
fn a_standby_is_prepared_without_touching_an_interface() {
    let mut actual = empty();
    let done = settle(&mut actual, &wanted("lan", Gate::Shut, 5));
    assert_eq!(done, [Step::Write(entry(5, &LAN, 0))]);
}

#[test]
fn what_a_lost_map_no_longer_records_is_still_taken_away() {
    let mut actual = empty();
    let ours = Presence {
        ifindex: 2,
        ours: true,
    };
    actual.present.insert(vip(), vec![ours]);
    let done = settle(&mut actual, &Wanted::default());
    assert_eq!(done, [Step::Delete { ifindex: 2 }]);
}

const PEER: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn hand(leased: bool) -> Gate {
    Gate::Hand {
        to: PEER,
        until_ns: 7,
        leased,
    }
}

fn moving(flags: u32, until: u64) -> Address {
    Address {
        peer: PEER,
        until,
        ..entry(5, &LAN, flags)
    }
}

#[test]
fn a_holder_that_leaves_falls_silent_and_hands_on_with_one_write() {
    let mut actual = empty();
    settle(&mut actual, &wanted("lan", Gate::Open, 5));
    let plan = plan(&wanted("lan", hand(true), 5), &actual);
    let hands = flags::HAND | flags::LEASED;
    assert_eq!(
        run(&mut actual, &plan),
        [
            Step::Silence,
            Step::Write(moving(hands | flags::LOCAL | flags::ADDED, 7)),
            Step::Delete { ifindex: 2 },
            Step::Write(moving(hands, 7)),
        ]
    );
}

#[test]
fn a_former_holder_goes_on_handing_without_a_gap_and_then_is_shut() {
    let mut actual = empty();
    settle(&mut actual, &wanted("lan", hand(true), 5));
    let done = settle(&mut actual, &wanted("lan", hand(false), 5));
    assert_eq!(done, [Step::Write(moving(flags::HAND, 7))]);
    let wanted = wanted("lan", Gate::Shut, 5);
    settle(&mut actual, &wanted);
    assert_eq!(actual.entries[&vip()], entry(5, &LAN, 0));
}

#[test]
fn a_holder_stops_handing_on_before_it_does_anything_else_with_the_address() {
    let to_another = Gate::Hand {
        to: [7; 6],
        until_ns: 7,
        leased: true,
    };
    let take = Gate::Take { from: PEER };
    for gate in [Gate::Open, Gate::Shut, to_another, take] {
        let mut actual = empty();
        settle(&mut actual, &wanted("lan", hand(true), 5));
        let plan = plan(&wanted("lan", gate, 6), &actual);
        let silent = [Step::Write(entry(5, &LAN, 0))];
        assert_eq!(plan.shut, [(vip(), silent.into())], "{gate:?}");
    }
}

#[test]
fn the_next_holder_has_the_address_before_it_takes_and_opens_with_one_write() {
    let mut actual = empty();
    let take = Gate::Take { from: PEER };
    let all = flags::LOCAL | flags::ADDED;
    assert_eq!(
        settle(&mut actual, &wanted("lan", take, 5)),
        [
            Step::Write(entry(5, &LAN, all)),
            Step::Add { ifindex: 2 },
            Step::Write(moving(all | flags::TAKE, 0)),
        ]
    );
    let done = settle(&mut actual, &wanted("lan", Gate::Open, 6));
    let opened = Step::Write(entry(6, &LAN, all | flags::OPEN));
    assert!(matches!(&done[..], [write, Step::Announce(_)] if *write == opened));
}

#[test]
fn a_next_holder_that_is_it_no_more_is_shut_before_anything_else() {
    let mut actual = empty();
    settle(&mut actual, &wanted("lan", Gate::Take { from: PEER }, 5));
    let done = settle(&mut actual, &wanted("lan", Gate::Shut, 6));
    let all = flags::LOCAL | flags::ADDED;
    assert_eq!(
        done,
        [
            Step::Write(entry(5, &LAN, all)),
            Step::Delete { ifindex: 2 },
            Step::Write(entry(6, &LAN, 0)),
        ]
    );
}

#[test]
fn an_entry_that_does_more_than_is_wanted_is_noticed() {
    let take = Gate::Take { from: PEER };
    let cases = [
        (flags::OPEN, 0, [false, true, true, true]),
        (flags::TAKE, 0, [false, false, true, true]),
        (flags::HAND | flags::LEASED, 7, [true, true, false, true]),
        (flags::HAND, 7, [false, false, false, false]),
        (0, 0, [false, false, false, false]),
    ];
    for (flags, until, expected) in cases {
        let gates = [Gate::Open, take, hand(true), Gate::Shut];
        let found = gates.map(|gate| oversteps(&moving(flags, until), Some(gate)));
        assert_eq!(found, expected, "{flags} {until}");
    }
    assert!(oversteps(&moving(flags::OPEN, 0), None));
}

#[test]
fn an_entry_says_from_its_first_write_whether_its_address_is_balanced() {
    let mut actual = empty();
    let marked = |marks: u32| std::sync::Arc::new([(vip(), marks)].into());
    actual.marks = marked(flags::BALANCED);
    let first = settle(&mut actual, &wanted("lan", Gate::Open, 5)).remove(0);
    let all = flags::LOCAL | flags::ADDED | flags::BALANCED;
    assert_eq!(first, Step::Write(entry(5, &LAN, all)));
    assert!(actual.entries[&vip()].has(all | flags::OPEN));
    actual.marks = Default::default();
    let done = settle(&mut actual, &wanted("lan", Gate::Open, 5));
    let plain = flags::LOCAL | flags::ADDED | flags::OPEN;
    assert_eq!(
        done,
        [Step::Write(entry(5, &LAN, plain))],
        "without a pause"
    );
    actual.marks = marked(flags::BACKEND);
    settle(&mut actual, &wanted("lan", Gate::Shut, 5));
    assert!(
        actual.entries[&vip()].has(flags::BACKEND),
        "a standby serves too"
    );
}
