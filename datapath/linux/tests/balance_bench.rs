//! What a packet costs, in nanoseconds by BPF_PROG_TEST_RUN, beside a program that does nothing. All
//! rows take turns in one run, so that their ratios hold on a machine that is not quiet. It prints:
//! `cargo xtask bench datapath`

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use support::balance::{BACKEND, Balanced, Forward, SERVICE, TO_BACKENDS, at, key};
use support::raw;
use support::segment::{ACK, SYN, Segment, Transport};
use support::{VIP4, VIP6, with_net};
use vipd_datapath_common::balance::{Flow, Progress};
use vipd_datapath_common::program;

/// Each run takes a hop, and a packet has no more than 255.
const REPEAT: u32 = 250;
const ROUNDS: usize = 400;
/// Flows of the row with many.
const MANY: u16 = 64_000;

struct Row {
    name: &'static str,
    bench: Option<Balanced>,
    /// Frames to begin with, in turn.
    frames: Vec<Vec<u8>>,
    /// What the program must return.
    code: i32,
    samples: Vec<u32>,
}

const PASS: i32 = -1;
const REDIRECT: i32 = 7;

fn row(name: &'static str, bench: Balanced, frames: Vec<Vec<u8>>, code: i32) -> Row {
    Row {
        name,
        bench: Some(bench),
        frames,
        code,
        samples: Vec::new(),
    }
}

fn segment(client: SocketAddr, vip: SocketAddr, flags: u8) -> Segment {
    Segment {
        hops: 255,
        ..Segment::new(client, vip, Transport::Tcp(flags))
    }
}

/// A flow that makes `from` into `to`, both to the VIP, so that what comes out can go in again.
fn circle(bench: &mut Balanced, from: &Segment, to: &Segment) {
    let to = key(to);
    let flow = Flow {
        source: to.source,
        destination: to.destination,
        source_port: to.source_port,
        destination_port: to.destination_port,
        ifindex: TO_BACKENDS,
        flags: 0,
        progress: Progress {
            established: 1,
            ..Progress::default()
        },
        backend: BACKEND,
        service: SERVICE,
        seen: 0,
        packets: 0,
        bytes: 0,
    };
    bench.flows.insert(key(from), flow, 0).unwrap();
}

fn serving(vip: &str, how: Forward, backend: &str) -> Balanced {
    let mut bench = Balanced::new();
    bench.serve(at(vip, 80), 6, how, at(backend, 0));
    bench
}

/// nat, established: the flow's packets become others of it, with as many changes as `to` says.
fn established(name: &'static str, vip: &str, from: (&str, u16, u16), to: (&str, u16, u16)) -> Row {
    let mut bench = serving(
        vip,
        Forward::Nat,
        if vip == VIP4 { "10.9.0.21" } else { "fd09::21" },
    );
    let one = segment(at(from.0, from.1), at(vip, from.2), ACK);
    let other = segment(at(to.0, to.1), at(vip, to.2), ACK);
    circle(&mut bench, &one, &other);
    circle(&mut bench, &other, &one);
    row(name, bench, vec![one.frame()], REDIRECT)
}

/// The same over many flows, one after the other.
fn many() -> Row {
    let mut bench = serving(VIP4, Forward::Nat, "10.9.0.21");
    // In strides, so that neighbours in time are none in any order of the table.
    let port = |i: u32| 1_000 + (i * 7_919 % u32::from(MANY)) as u16;
    let packet = |i: u32| {
        segment(
            at("192.0.2.9", port(i % u32::from(MANY))),
            at(VIP4, 80),
            ACK,
        )
    };
    for i in 0..u32::from(MANY) {
        circle(&mut bench, &packet(i), &packet(i + 1));
    }
    let starts = (0..u32::from(MANY)).step_by(REPEAT as usize);
    let frames = starts.map(|i| packet(i).frame()).collect();
    row("nat, 64,000 flows in turn", bench, frames, REDIRECT)
}

fn rows() -> Vec<Row> {
    let client = at("192.0.2.9", 40_000);
    let mut rows = vec![Row {
        name: "empty program",
        bench: None,
        frames: vec![segment(client, at(VIP4, 80), ACK).frame()],
        code: PASS,
        samples: Vec::new(),
    }];
    let other = segment(client, at("10.9.0.55", 80), ACK).frame();
    let bench = serving(VIP4, Forward::Nat, "10.9.0.21");
    rows.push(row("not a VIP, IPv4", bench, vec![other], PASS));
    let other = segment(at("2001:db8::9", 40_000), at("fd09::55", 80), ACK).frame();
    let bench = serving(VIP6, Forward::Nat, "fd09::21");
    rows.push(row("not a VIP, IPv6", bench, vec![other], PASS));
    let mut bench = serving(VIP4, Forward::Nat, "10.9.0.21");
    let flags = vipd_datapath_common::flags::OPEN | vipd_datapath_common::flags::LOCAL;
    bench.bench.manage(VIP4, flags);
    let plain = segment(client, at(VIP4, 80), ACK).frame();
    rows.push(row("VIP without services, IPv4", bench, vec![plain], PASS));
    rows.push(established(
        "nat, established, IPv4",
        VIP4,
        ("192.0.2.9", 40_000, 80),
        ("192.0.2.8", 40_000, 80),
    ));
    rows.push(established(
        "nat, established, IPv4, other port",
        VIP4,
        ("192.0.2.9", 40_000, 80),
        ("192.0.2.8", 40_000, 8080),
    ));
    rows.push(established(
        "nat, established, IPv6",
        VIP6,
        ("2001:db8::9", 40_000, 80),
        ("2001:db8::8", 40_000, 80),
    ));
    rows.push(many());
    let packet = segment(client, at(VIP4, 80), ACK).frame();
    let bench = serving(VIP4, Forward::Dsr, "10.9.0.21");
    rows.push(row(
        "dsr, established, IPv4",
        bench,
        vec![packet.clone()],
        REDIRECT,
    ));
    let mut bench = serving(VIP4, Forward::Dsr, "10.9.0.21");
    bench.node(0, 1);
    // The one flow that is recorded in a second is another one.
    bench.ingress(&segment(at("192.0.2.7", 1), at(VIP4, 80), ACK));
    rows.push(row(
        "dsr, new flow, beyond the bound",
        bench,
        vec![packet],
        REDIRECT,
    ));
    let bench = serving(VIP4, Forward::Dsr, "10.9.0.21");
    let syn = segment(client, at(VIP4, 80), SYN).frame();
    rows.push(row("dsr, new flow, recorded", bench, vec![syn], REDIRECT));
    // Its own backend: what comes out is a client's packet again, and begins a flow again.
    let bench = serving(VIP4, Forward::Nat, VIP4);
    let syn = segment(at(VIP4, 40_000), at(VIP4, 80), SYN).frame();
    rows.push(row(
        "nat, new flow, both halves recorded",
        bench,
        vec![syn],
        REDIRECT,
    ));
    rows
}

fn measure(row: &mut Row, round: usize, empty: BorrowedFd<'_>, ifindex: u32) {
    let program = match &row.bench {
        Some(bench) => bench.bench.program(program::INGRESS),
        None => empty,
    };
    let frame = &row.frames[round % row.frames.len()];
    let (code, ns) = raw::run(program, frame, ifindex, REPEAT);
    assert_eq!(code, row.code, "{}: round {round}", row.name);
    row.samples.push(ns);
}

#[test]
#[ignore = "a measurement, which needs a quiet machine"]
fn what_a_packet_costs() {
    with_net(|_| async {
        let ifindex = nix::net::if_::if_nametoindex("lan").unwrap();
        let empty = raw::empty();
        let mut rows = rows();
        for round in 0..ROUNDS {
            for row in &mut rows {
                measure(row, round, empty.as_fd(), ifindex);
            }
        }
        println!(
            "ns a packet: median and minimum of {ROUNDS} x {REPEAT}, and the median as a multiple of the empty program's"
        );
        let mut floor = None;
        for row in &mut rows {
            row.samples.sort_unstable();
            let (median, least) = (row.samples[ROUNDS / 2], row.samples[0]);
            let floor = *floor.get_or_insert(f64::from(median));
            let ratio = f64::from(median) / floor;
            println!("{:<36} {median:>5}  {least:>5}  {ratio:>5.2}", row.name);
        }
    });
}
