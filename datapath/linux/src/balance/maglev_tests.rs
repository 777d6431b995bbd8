use std::collections::BTreeMap;

use super::*;

/// `count` backends of a subnet with these weights in turn, numbered from 1.
fn backends(count: u32, weights: &[u32]) -> Vec<Member> {
    let member = |i: u32| Member {
        address: IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + i)),
        port: 8080,
        weight: weights[i as usize % weights.len()],
        number: i + 1,
    };
    (0..count).map(member).collect()
}

fn shares(slots: &[u32]) -> BTreeMap<u32, usize> {
    let mut shares = BTreeMap::new();
    for number in slots {
        *shares.entry(*number).or_default() += 1;
    }
    shares
}

/// A generator for tests: the same numbers each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(bound)) as u32
    }
}

#[test]
fn nobody_or_only_draining_ones_leave_all_slots_empty() {
    assert!(fill(&[]).iter().all(|number| *number == 0));
    assert!(fill(&backends(3, &[0])).iter().all(|number| *number == 0));
    assert_eq!(fill(&[]).len(), SLOTS);
}

#[test]
fn one_backend_has_all_slots_whatever_its_weight() {
    for weight in [1, 7, u32::MAX] {
        assert!(
            fill(&backends(1, &[weight]))
                .iter()
                .all(|number| *number == 1)
        );
    }
}

#[test]
fn equal_backends_differ_by_one_slot_at_most() {
    for count in [2, 3, 10, 100, 256] {
        let shares = shares(&fill(&backends(count, &[1])));
        assert_eq!(shares.len(), count as usize);
        let (least, most) = (shares.values().min(), shares.values().max());
        assert!(most.unwrap() - least.unwrap() <= 1, "{count}: {shares:?}");
    }
}

#[test]
fn a_share_is_that_of_the_weight_to_a_slot_or_two() {
    let mut chance = Chance(7);
    for round in 0..50 {
        let count = 2 + chance.below(40);
        let weights: Vec<u32> = (0..count).map(|_| 1 + chance.below(50)).collect();
        let members = backends(count, &weights);
        let shares = shares(&fill(&members));
        let total: u32 = weights.iter().sum();
        for member in &members {
            let fair = SLOTS as f64 * f64::from(member.weight) / f64::from(total);
            let share = shares[&member.number] as f64;
            assert!(
                (share - fair).abs() <= 2.0,
                "round {round}: {share} for {fair}"
            );
        }
    }
}

#[test]
fn the_lightest_among_the_heaviest_has_a_slot() {
    let mut members = backends(256, &[256]);
    members[100].weight = 1;
    let shares = shares(&fill(&members));
    assert_eq!(shares[&101], 1);
    assert_eq!(shares.len(), 256);
}

#[test]
fn the_order_in_which_backends_are_named_says_nothing() {
    let mut members = backends(31, &[1, 2, 5]);
    let table = fill(&members);
    members.reverse();
    assert_eq!(fill(&members), table);
    members.rotate_left(11);
    assert_eq!(fill(&members), table);
}

#[test]
fn numbers_are_names_only() {
    let members = backends(17, &[1, 3]);
    let mut renamed = members.clone();
    renamed.iter_mut().for_each(|member| member.number += 1000);
    let expected: Vec<u32> = fill(&members).iter().map(|number| number + 1000).collect();
    assert_eq!(fill(&renamed), expected);
}

#[test]
fn a_backend_with_no_weight_is_as_one_that_is_not_there() {
    let mut members = backends(9, &[2]);
    members[4].weight = 0;
    let draining = fill(&members);
    members.remove(4);
    assert_eq!(fill(&members), draining);
}

/// The part of the slots of all others that another one has when `gone` is not there.
fn moved(members: &[Member], gone: usize) -> f64 {
    let before = fill(members);
    let mut others = members.to_vec();
    let gone = others.remove(gone).number;
    let after = fill(&others);
    let of_others = before.iter().filter(|number| **number != gone).count();
    let changed = |(before, after): &(&u32, &u32)| **before != gone && before != after;
    before.iter().zip(&after).filter(changed).count() as f64 / of_others as f64
}

#[test]
fn without_one_of_n_backends_few_slots_of_the_others_move() {
    for (count, weights) in [
        (2, &[1][..]),
        (3, &[1]),
        (10, &[1]),
        (50, &[1]),
        (256, &[1]),
        (12, &[1, 2, 3]),
        (5, &[1, 2, 3, 4, 50]),
    ] {
        let members = backends(count, weights);
        let worst = (0..members.len().min(40)).map(|gone| moved(&members, gone));
        let worst = worst.fold(0.0, f64::max);
        let bound = 1.0 / f64::from(count) + 0.02;
        println!(
            "{count} backends of weights {weights:?}: {:.2} % of the others' slots move",
            worst * 100.0
        );
        assert!(worst <= bound, "{count} of {weights:?}: {worst} > {bound}");
    }
}

/// A change here sends clients to other backends while nodes of both versions serve: so it needs a new
/// version of what they say to each other.
#[test]
fn the_table_is_the_same_in_every_version() {
    let slots = fill(&backends(5, &[1, 2]));
    assert_eq!(
        slots[..16],
        [1, 4, 4, 2, 4, 4, 5, 2, 4, 2, 3, 2, 3, 3, 4, 3]
    );
}
