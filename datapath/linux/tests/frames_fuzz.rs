//! Frames that nobody would send on purpose: random, and good ones with bytes changed, cut off, spliced.
//! `VIPD_FUZZ_FRAMES=1000000 cargo test -p vipd-datapath --release --test frames_fuzz` for a long run,
//! `VIPD_FUZZ_SEED=` for one that was seen.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use support::balance::{BACKEND, Balanced, Case, Forward, ip};
use support::bench::{Direction, Verdict};
use support::checks;
use support::packet::{SLLAO, arp, ipv6, solicitation};
use support::segment::{ACK, FIN, Piece, SYN, Segment, too_big};
use support::short::{self, left};
use support::{MAC_CLIENT, MAC_HOST, VIP4, VIP6, with_net};
use vipd_datapath_common::{balance::service_flags, flags};

/// The longest frame: a multiple of what any header needs.
const LONGEST: usize = 400;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

fn number(variable: &str, default: u64) -> u64 {
    let set = std::env::var(variable).ok();
    set.map_or(default, |text| text.parse().expect(variable))
}

/// Good frames of all kinds.
fn seeds() -> Vec<Vec<u8>> {
    let mut frames = vec![
        arp(1, [0xff; 6], MAC_CLIENT, "10.9.0.2", VIP4),
        arp(2, MAC_HOST, MAC_CLIENT, VIP4, VIP4),
        ipv6("fd09::2", VIP6, 58, 255, &solicitation(VIP6, &SLLAO)),
    ];
    for case in Case::all() {
        let (asks, answers) = (case.asks(SYN), case.answers(ACK));
        let first = Piece {
            id: 7,
            offset: 0,
            more: true,
        };
        let later = Piece {
            id: 7,
            offset: 10,
            more: false,
        };
        let router = ip(if case.vip.is_ipv4() {
            "198.51.100.1"
        } else {
            "2001:db8:1::1"
        });
        frames.push(too_big(
            router,
            case.vip.ip(),
            50,
            &case.answered(&answers),
            300,
        ));
        for segment in [
            Segment {
                piece: Some(first),
                ..asks.clone()
            },
            Segment {
                piece: Some(later),
                ..asks.clone()
            },
            Segment {
                options: vec![1; 8],
                ..asks.clone()
            },
            case.asks(FIN | ACK),
            case.asks(ACK),
            asks,
            answers,
        ] {
            frames.push(segment.frame());
        }
    }
    frames
}

/// A frame out of good ones.
fn frame(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut frame = seeds[dice.below(seeds.len())].clone();
    match dice.below(8) {
        0 => return frame,
        1 => frame.truncate(14 + dice.below(frame.len() - 13)),
        2 => {
            let other = &seeds[dice.below(seeds.len())];
            frame.truncate(14 + dice.below(frame.len() - 13));
            frame.extend(&other[dice.below(other.len())..]);
        }
        3 => frame
            .iter_mut()
            .skip(14)
            .for_each(|byte| *byte = dice.next() as u8),
        _ => {}
    }
    for _ in 0..dice.below(6) {
        // Mostly in the headers.
        let most = if dice.below(4) == 0 {
            frame.len()
        } else {
            frame.len().min(74)
        };
        let at = dice.below(most);
        frame[at] = dice.next() as u8;
    }
    frame.truncate(LONGEST);
    frame
}

/// Runs frames through both programs, and hands what became of them to a check.
fn throw(
    bench: &Balanced,
    salt: u64,
    check: impl Fn(Direction, &[u8], Verdict, &[u8]),
) -> BTreeMap<&'static str, u64> {
    let seed = number("VIPD_FUZZ_SEED", 1) ^ salt;
    println!("VIPD_FUZZ_SEED={}", seed ^ salt);
    let (mut dice, seeds) = (Dice(seed), seeds());
    let mut seen = BTreeMap::new();
    for _ in 0..number("VIPD_FUZZ_FRAMES", 20_000) {
        let frame = frame(&mut dice, &seeds);
        let direction = [Direction::Ingress, Direction::Ingress, Direction::Egress][dice.below(3)];
        let what = match bench.bench.attempt(direction, &frame) {
            Ok((verdict, out)) => {
                check(direction, &frame, verdict, &out);
                match verdict {
                    Verdict::Pass => "passed",
                    Verdict::Drop => "dropped",
                    Verdict::Answer => "sent",
                }
            }
            Err(_) => "refused by the kernel's harness",
        };
        *seen.entry(what).or_insert(0) += 1;
    }
    println!("{seen:?}");
    seen
}

/// All cases on one bench, and both addresses with these flags.
fn bench(flags: u32) -> Balanced {
    bench_of(Forward::Nat, flags)
}

fn bench_of(how: Forward, flags: u32) -> Balanced {
    let mut bench = Balanced::new();
    for case in Case::all() {
        if case.how == how {
            let (protocol, more) = (case.transport.number(), u32::from(case.vip.is_ipv6()));
            bench.serve_also(case.vip, protocol, case.how, case.backend, more);
        }
    }
    for vip in [VIP4, VIP6] {
        bench.bench.manage(vip, flags);
    }
    bench
}

/// Both addresses open, with services whose packets travel inside others.
fn wrapping(bits: u32) -> Balanced {
    let mut bench = Balanced::new();
    for (case, more) in Case::all().iter().zip(0..) {
        let backend = SocketAddr::new(case.backend.ip(), 0);
        let protocol = case.transport.number();
        bench.serve_also(case.vip, protocol, Forward::Dsr, backend, more);
        let number = BACKEND + more;
        let mut entry = bench.backends.get(&number, 0).unwrap();
        entry.source = ip(if case.vip.is_ipv4() {
            "10.9.0.1"
        } else {
            "fd09::1"
        })
        .into();
        entry.ifindex = bench.bench.ifindex;
        bench.backends.insert(number, entry, 0).unwrap();
    }
    let keys: Vec<_> = bench.services.keys().map(Result::unwrap).collect();
    for key in keys {
        let mut service = bench.services.get(&key, 0).unwrap();
        service.flags |= bits;
        bench.services.insert(key, service, 0).unwrap();
    }
    bench
}

#[test]
fn no_frame_is_answered_sent_on_or_changed_for_addresses_that_are_not_held() {
    with_net(|_| async {
        let shut = [flags::LOCAL | flags::BALANCED, flags::BALANCED];
        let kept = shut.map(|flags| (Forward::Keep, flags));
        for (how, flags) in shut
            .map(|flags| (Forward::Nat, flags))
            .into_iter()
            .chain(kept)
        {
            let bench = bench_of(how, flags);
            let seen = throw(
                &bench,
                u64::from(flags),
                |direction, frame, verdict, out| {
                    assert_ne!(verdict, Verdict::Answer, "{direction:?} {frame:x?}");
                    assert_eq!(out, frame, "{direction:?} {verdict:?}");
                },
            );
            assert!(seen["passed"] > 100 && seen["dropped"] > 100, "{seen:?}");
            assert_eq!(bench.count_flows(), 0);
        }
    });
}

/// Whether a packet that goes on to another host has no hop left.
fn ends_here(frame: &[u8]) -> bool {
    frame[if checks::is_v4(frame) { 22 } else { 21 }] <= 1
}

#[test]
fn what_is_sent_on_has_its_length_and_checksums_as_right_as_they_came() {
    with_net(|_| async {
        let all = flags::OPEN | flags::LOCAL | flags::BALANCED;
        for how in [Forward::Nat, Forward::Keep] {
            sent_on_whole(&bench_of(how, all));
        }
    });
}

fn sent_on_whole(bench: &Balanced) {
    let right = Cell::new(0);
    let seen = throw(bench, 7, |direction, frame, verdict, out| match verdict {
        Verdict::Pass => assert_eq!(out, frame, "{direction:?}"),
        Verdict::Drop => assert_eq!(out.len(), frame.len(), "{direction:?}"),
        Verdict::Answer if checks::comes_again(frame, out) => {}
        Verdict::Answer if checks::is_answer(frame, out) => {}
        Verdict::Answer if ends_here(frame) => checks::complained(frame, out),
        Verdict::Answer => {
            checks::translated(frame, out);
            if checks::is_right(frame) == Some(true) {
                assert_eq!(checks::is_right(out), Some(true), "{frame:x?} {out:x?}");
                right.set(right.get() + 1);
            }
        }
    });
    println!("right, and so when they went on: {}", right.get());
    assert!(seen["sent"] > 1_000 && seen["dropped"] > 100, "{seen:?}");
    assert!(right.get() > 500, "{right:?} {seen:?}");
}

#[test]
fn what_travels_inside_another_packet_is_all_that_came() {
    with_net(|_| async {
        for (bits, more) in [(service_flags::IPIP, 0), (service_flags::GUE, 12)] {
            let bench = wrapping(bits);
            let seen = throw(
                &bench,
                u64::from(bits),
                |direction, frame, verdict, out| match verdict {
                    Verdict::Pass | Verdict::Drop => assert_eq!(out, frame, "{direction:?}"),
                    Verdict::Answer if checks::comes_again(frame, out) => {}
                    Verdict::Answer if checks::is_answer(frame, out) => {}
                    Verdict::Answer => checks::wrapped(frame, out, more),
                },
            );
            assert!(seen["sent"] > 1_000 && seen["dropped"] > 100, "{seen:?}");
        }
    });
}

/// Frames through the way in front of ingress and, where that leaves them, through ingress; and the same through ingress
/// alone, on another bench: both must come to the same. How many took the short way.
fn both_ways(short: &Balanced, long: &Balanced, salt: u64) -> u64 {
    let seed = number("VIPD_FUZZ_SEED", 1) ^ salt;
    println!("VIPD_FUZZ_SEED={}", seed ^ salt);
    let (mut dice, seeds) = (Dice(seed), seeds());
    let mut taken = 0;
    for _ in 0..number("VIPD_FUZZ_FRAMES", 20_000) {
        let frame = frame(&mut dice, &seeds);
        let Ok((verdict, expected)) = long.bench.attempt(Direction::Ingress, &frame) else {
            left_or_refused(short, &frame);
            continue;
        };
        match short.bench.short(&frame) {
            Ok((Verdict::Answer, out)) => {
                taken += 1;
                assert_eq!(verdict, Verdict::Answer, "{frame:x?}");
                assert_eq!(out[12..], expected[12..], "{frame:x?}");
            }
            passed => {
                assert!(
                    passed.is_err() || passed.unwrap() == (Verdict::Pass, frame.clone()),
                    "{frame:x?}"
                );
                let came = short.bench.attempt(Direction::Ingress, &frame).unwrap();
                assert_eq!(came, (verdict, expected), "{frame:x?}");
            }
        }
    }
    taken
}

/// What ingress' harness refuses as too short is no frame for the other one either.
fn left_or_refused(short: &Balanced, frame: &[u8]) {
    if short.bench.short(frame).is_ok() {
        left(short, frame, "too short");
    }
}

#[test]
fn whatever_takes_the_short_way_comes_to_the_same_as_by_the_long_one() {
    with_net(|_| async {
        short::prepare();
        let all = flags::OPEN | flags::LOCAL | flags::BALANCED;
        let benches = [(); 2].map(|()| {
            let mut bench = bench(all);
            for number in [BACKEND, BACKEND + 1] {
                let mut backend = bench.backends.get(&number, 0).unwrap();
                backend.ifindex = bench.bench.ifindex;
                bench.backends.insert(number, backend, 0).unwrap();
            }
            bench
        });
        let taken = both_ways(&benches[0], &benches[1], 11);
        assert!(taken > 1_000, "{taken}");
    });
}

#[test]
fn nothing_takes_the_short_way_for_addresses_that_are_not_held() {
    with_net(|_| async {
        short::prepare();
        for case in Case::all() {
            let mut bench = short::opened(&case);
            for vip in [VIP4, VIP6] {
                bench.bench.manage(vip, flags::LOCAL | flags::BALANCED);
            }
            let (mut dice, seeds) = (Dice(number("VIPD_FUZZ_SEED", 1)), seeds());
            for _ in 0..number("VIPD_FUZZ_FRAMES", 20_000) / 10 {
                left_or_refused(&bench, &frame(&mut dice, &seeds));
            }
        }
    });
}
