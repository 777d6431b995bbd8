use vipd_datapath_common::frame::Arp;

use super::*;
use crate::probe::frames::question;

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
const HIS: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn vip(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    IpAddr::from([10, 0, high, low])
}

fn course(addresses: impl IntoIterator<Item = IpAddr>) -> Course {
    let mut course = Course::default();
    for address in addresses {
        let probe = Probe {
            address,
            interface: "eth0".into(),
            mac: OWN,
        };
        course.begin(ms(0), &probe, 2);
    }
    course
}

/// An answer from the host with this MAC.
fn answer(number: u16, mac: [u8; 6]) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    Arp::gratuitous(Arp::REPLY, [10, 0, high, low], mac)
        .frame()
        .to_vec()
}

/// What happened at which millisecond.
type Times<T> = Vec<(u64, T)>;

/// Runs to its end as the prober does; when which question left, and when which address was over.
fn run(course: &mut Course) -> (Times<IpAddr>, Times<Heard>) {
    let (mut asked, mut over) = (Vec::new(), Vec::new());
    let mut now = ms(0);
    while !course.is_empty() {
        let due = course.due(now);
        let full = due.len() == BURST;
        let at = now.as_millis() as u64;
        asked.extend(due.into_iter().map(|(address, ..)| (at, address)));
        over.extend(course.over(now).into_iter().map(|heard| (at, heard)));
        now = match course.next() {
            Some(next) if !full => next.max(now + Duration::from_micros(1)),
            Some(_) | None => now + ms(1),
        };
    }
    (asked, over)
}

#[test]
fn an_address_is_asked_about_three_times_and_free_after_200_milliseconds_of_silence() {
    let mut course = course([vip(1)]);
    let (asked, over) = run(&mut course);
    assert_eq!(asked, [0, 60, 120].map(|at| (at, vip(1))));
    let free = Heard {
        address: vip(1),
        said: Said::Free,
    };
    assert_eq!(over, [(200, free)]);
}

#[test]
fn a_thousand_addresses_are_paced_and_take_hardly_longer_than_one() {
    let mut course = course((0..1000).map(vip));
    let (asked, over) = run(&mut course);
    assert_eq!(asked.len(), 3000);
    for at in 0..200 {
        let together = asked.iter().filter(|(when, _)| *when == at).count();
        assert!(together <= BURST, "{together} at {at} ms");
    }
    assert_eq!(over.len(), 1000);
    let last = over.iter().map(|(at, _)| *at).max().unwrap();
    assert!(last < 240, "{last} ms");
    for number in 0..1000 {
        let rounds: Vec<u64> = asked
            .iter()
            .filter(|(_, address)| *address == vip(number))
            .map(|(at, _)| *at)
            .collect();
        assert!(
            rounds.windows(2).all(|pair| pair[1] - pair[0] >= 60),
            "{rounds:?}"
        );
    }
}

#[test]
fn an_answer_ends_the_question_at_once_and_names_who_gave_it() {
    let mut course = course([vip(1), vip(2)]);
    course.due(ms(0));
    course.hear(2, &answer(1, HIS));
    let taken = Heard {
        address: vip(1),
        said: Said::Taken(HIS),
    };
    assert_eq!(course.over(ms(1)), [taken]);
    assert!(!course.is_empty(), "the other one is still asked about");
}

#[test]
fn what_is_heard_elsewhere_or_is_our_own_claims_nothing() {
    let mut course = course([vip(1)]);
    course.due(ms(0));
    course.hear(3, &answer(1, HIS));
    course.hear(2, &answer(1, OWN));
    course.hear(2, &answer(7, HIS));
    course.hear(2, &question(vip(1), OWN));
    assert_eq!(course.over(ms(1)), []);
}

#[test]
fn a_member_that_asks_claims_nothing_but_one_that_answers_does_and_so_does_a_stranger_that_asks() {
    let mut course = course([vip(1), vip(2)]);
    course.members = [HIS].into();
    course.due(ms(0));
    course.hear(2, &question(vip(1), HIS));
    assert_eq!(course.over(ms(1)), []);
    course.hear(2, &answer(1, HIS));
    course.hear(2, &question(vip(2), [2, 0, 0, 0, 0, 7]));
    let said: Vec<Said> = course.over(ms(2)).into_iter().map(|it| it.said).collect();
    assert_eq!(said, [Said::Taken(HIS), Said::Taken([2, 0, 0, 0, 0, 7])]);
}

#[test]
fn a_question_that_did_not_leave_proves_nothing() {
    let mut course = course([vip(1)]);
    course.due(ms(0));
    course.lost(vip(1));
    let (_, over) = run(&mut course);
    assert_eq!(over[0].1.said, Said::Unasked);
}

#[test]
fn a_question_that_is_asked_again_meanwhile_begins_anew() {
    let mut course = course([vip(1)]);
    course.due(ms(0));
    let probe = Probe {
        address: vip(1),
        interface: "eth1".into(),
        mac: OWN,
    };
    course.begin(ms(50), &probe, 3);
    assert_eq!(course.due(ms(50)), [(vip(1), 3, OWN)]);
    assert_eq!(course.over(ms(200)), []);
}
