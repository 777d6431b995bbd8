//! What a packet costs, in nanoseconds by BPF_PROG_TEST_RUN, beside a program that does nothing. All
//! rows take turns in one run, so that their ratios hold on a machine that is not quiet. It prints:
//! `cargo xtask bench datapath`

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{HashMap, MapData};
use support::balance::{BACKEND, Balanced, Forward, SERVICE, TO_BACKENDS, at, ip, key};
use support::baseline::Baseline;
use support::raw;
use support::segment::{ACK, SYN, Segment, Transport};
use support::{MAC_HOST, VIP4, VIP6, run, short, with_net};
use vipd_datapath_common::balance::{Flow, FlowKey, Half, Progress, flow_flags, service_flags};
use vipd_datapath_common::program;

/// Each run takes a hop, and a packet has no more than 255.
const REPEAT: u32 = 250;
const ROUNDS: usize = 400;
/// Packets of a round that are run one at a time.
const ALONE: u32 = 50;
/// Flows of the row with many.
const MANY: u16 = 64_000;

/// What is measured.
enum Subject {
    /// The program that does nothing.
    Empty,
    Programs(Box<Balanced>),
    /// The XDP program that does nothing.
    EmptyXdp,
    /// The one in front of ingress.
    Xdp(Box<Balanced>),
    C(Box<Baseline>),
}

struct Row {
    name: &'static str,
    subject: Subject,
    /// Frames to begin with, in turn.
    frames: Vec<Vec<u8>>,
    /// What the program must return.
    code: i32,
    /// One packet at a time, since what becomes of it can not go in again: with the kernel's own time for a run, and
    /// caches as a packet that comes alone finds them.
    alone: bool,
    samples: Vec<u32>,
}

const NAT: &str = "nat, established, IPv4";
const NAT_C: &str = "  the same in C";
const NAT_PORT: &str = "nat, established, IPv4, other port";
const NAT_PORT_C: &str = "  that in C";

const EMPTY: &str = "empty program";
const EMPTY_ALONE: &str = "one at a time: empty program";

const NAT_XDP: &str = "nat, established, IPv4, by XDP";
const EMPTY_XDP: &str = "empty XDP program";

const PASS: i32 = -1;
const REDIRECT: i32 = 7;
const XDP_PASS: i32 = 2;
const XDP_TX: i32 = 3;

fn row(name: &'static str, bench: Balanced, frames: Vec<Vec<u8>>, code: i32) -> Row {
    Row {
        name,
        subject: Subject::Programs(Box::new(bench)),
        frames,
        code,
        alone: false,
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
fn circle(flows: &mut HashMap<MapData, FlowKey, Half>, from: &Segment, to: &Segment) {
    circle_on(flows, from, to, TO_BACKENDS, 0);
}

/// The same out of an interface, with these flags.
fn circle_on(
    flows: &mut HashMap<MapData, FlowKey, Half>,
    from: &Segment,
    to: &Segment,
    ifindex: u32,
    flags: u32,
) {
    let to = key(to);
    let flow = Flow {
        source: to.source,
        destination: to.destination,
        source_port: to.source_port,
        destination_port: to.destination_port,
        ifindex,
        flags,
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
    let half = Half::new(&key(from), flow);
    flows.insert(key(from), half, 0).unwrap();
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
    circle(&mut bench.flows, &one, &other);
    circle(&mut bench.flows, &other, &one);
    row(name, bench, vec![one.frame()], REDIRECT)
}

/// Answers of a backend that sees clients' addresses: to no managed address.
fn kept() -> Row {
    const ANSWERS: u32 = flow_flags::REVERSE | flow_flags::KEEP;
    let mut bench = serving(VIP4, Forward::Keep, "10.9.0.21");
    let to = |client| segment(at(VIP4, 80), at(client, 40_000), ACK);
    let (one, other) = (to("192.0.2.9"), to("192.0.2.8"));
    circle_on(&mut bench.flows, &one, &other, TO_BACKENDS, ANSWERS);
    circle_on(&mut bench.flows, &other, &one, TO_BACKENDS, ANSWERS);
    row(
        "nat, clients kept, answers, IPv4",
        bench,
        vec![one.frame()],
        REDIRECT,
    )
}

/// nat, established, to a backend on the holder itself, up whose stack packets go.
fn here() -> Row {
    let mut bench = serving(VIP4, Forward::Local, "10.9.0.1");
    let to = |port| segment(at("192.0.2.9", 40_000), at(VIP4, port), ACK);
    let (one, other) = (to(80), to(8080));
    circle_on(&mut bench.flows, &one, &other, 0, flow_flags::LOCAL);
    circle_on(&mut bench.flows, &other, &one, 0, flow_flags::LOCAL);
    row(
        "nat, established, backend on the holder",
        bench,
        vec![one.frame()],
        PASS,
    )
}

/// dsr, established, one packet at a time: what travels inside another packet is no packet to the VIP any more.
fn dsr_alone(name: &'static str, vip: &str, bits: u32) -> Row {
    let (client, backend, own) = if vip == VIP4 {
        ("192.0.2.9", "10.9.0.21", "10.9.0.1")
    } else {
        ("2001:db8::9", "fd09::21", "fd09::1")
    };
    let mut bench = serving(vip, Forward::Dsr, backend);
    let mut entry = bench.backends.get(&BACKEND, 0).unwrap();
    entry.source = ip(own).into();
    entry.ifindex = bench.bench.ifindex;
    bench.backends.insert(BACKEND, entry, 0).unwrap();
    bench.flag(bits);
    let packet = segment(at(client, 40_000), at(vip, 80), ACK);
    for _ in 0..2 {
        bench.ingress(&packet); // two of them open it
    }
    Row {
        alone: true,
        ..row(name, bench, vec![packet.frame()], REDIRECT)
    }
}

/// The rows of packets that are run one at a time.
fn rows_alone() -> Vec<Row> {
    let frame = segment(at("192.0.2.9", 40_000), at(VIP4, 80), ACK).frame();
    let empty = Row {
        name: EMPTY_ALONE,
        subject: Subject::Empty,
        frames: vec![frame],
        code: PASS,
        alone: true,
        samples: Vec::new(),
    };
    vec![
        empty,
        dsr_alone("  dsr by MAC, IPv4", VIP4, 0),
        dsr_alone("  dsr by ipip, IPv4", VIP4, service_flags::IPIP),
        dsr_alone("  dsr by gue, IPv4", VIP4, service_flags::GUE),
        dsr_alone("  dsr by ipip, IPv6", VIP6, service_flags::IPIP),
        dsr_alone("  dsr by gue, IPv6", VIP6, service_flags::GUE),
    ]
}

/// The same in C, for IPv4.
fn baseline(name: &'static str, to_port: u16) -> Row {
    let mut baseline = Baseline::new(VIP4);
    let one = segment(at("192.0.2.9", 40_000), at(VIP4, 80), ACK);
    let other = segment(at("192.0.2.8", 40_000), at(VIP4, to_port), ACK);
    circle(&mut baseline.flows, &one, &other);
    circle(&mut baseline.flows, &other, &one);
    Row {
        name,
        subject: Subject::C(Box::new(baseline)),
        frames: vec![one.frame()],
        code: REDIRECT,
        alone: false,
        samples: Vec::new(),
    }
}

/// nat, established, by XDP: from the VIP to the VIP, since it leaves as that, and its next hop is this host.
fn established_xdp(name: &'static str, vip: &str) -> Row {
    let mut bench = serving(vip, Forward::Nat, vip);
    let one = segment(at(vip, 40_000), at(vip, 80), ACK);
    let other = segment(at(vip, 40_001), at(vip, 80), ACK);
    let ifindex = bench.bench.ifindex;
    circle_on(&mut bench.flows, &one, &other, ifindex, 0);
    circle_on(&mut bench.flows, &other, &one, ifindex, 0);
    xdp(name, Subject::Xdp(Box::new(bench)), one.frame(), XDP_TX)
}

fn xdp(name: &'static str, subject: Subject, frame: Vec<u8>, code: i32) -> Row {
    Row {
        name,
        subject,
        frames: vec![frame],
        code,
        alone: false,
        samples: Vec::new(),
    }
}

/// The rows of XDP. Whatever it sends on goes to this host's own MAC, so that what comes out can go in again.
fn xdp_rows() -> Vec<Row> {
    short::prepare();
    let mac = MAC_HOST.map(|byte| format!("{byte:02x}")).join(":");
    for hop in [VIP4, VIP6, "10.9.0.21"] {
        let known = [
            "neigh",
            "replace",
            hop,
            "lladdr",
            &mac,
            "dev",
            "lan",
            "nud",
            "permanent",
        ];
        run("ip", &known);
    }
    let client = at("192.0.2.9", 40_000);
    let ours = |frame: Vec<u8>| [&MAC_HOST[..], &MAC_HOST, &frame[12..]].concat();
    let packet = segment(client, at(VIP4, 80), ACK);
    let other = segment(client, at("10.9.0.55", 80), ACK).frame();
    let bench = serving(VIP4, Forward::Nat, "10.9.0.21");
    let mut rows = vec![
        xdp(EMPTY_XDP, Subject::EmptyXdp, packet.frame(), XDP_PASS),
        xdp(
            "not a VIP, IPv4, by XDP",
            Subject::Xdp(Box::new(bench)),
            other,
            XDP_PASS,
        ),
        established_xdp(NAT_XDP, VIP4),
        established_xdp("nat, established, IPv6, by XDP", VIP6),
    ];
    let mut bench = serving(VIP4, Forward::Dsr, "10.9.0.21");
    let mut backend = bench.backends.get(&BACKEND, 0).unwrap();
    backend.ifindex = bench.bench.ifindex;
    bench.backends.insert(BACKEND, backend, 0).unwrap();
    for _ in 0..2 {
        bench.ingress(&packet); // two of them open it
    }
    let subject = Subject::Xdp(Box::new(bench));
    rows.push(xdp(
        "dsr, established, IPv4, by XDP",
        subject,
        ours(packet.frame()),
        XDP_TX,
    ));
    rows
}

/// Has a packet of each flow come by just now: none of those that are measured goes the long way.
fn refresh(bench: &mut Balanced) {
    let keys: Vec<FlowKey> = bench.flows.keys().map(Result::unwrap).collect();
    for key in keys {
        let mut half = bench.flows.get(&key, 0).unwrap();
        half.flow.seen = vipd_datapath::boottime_ns();
        bench.flows.insert(key, half, 0).unwrap();
    }
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
        circle(&mut bench.flows, &packet(i), &packet(i + 1));
    }
    let starts = (0..u32::from(MANY)).step_by(REPEAT as usize);
    let frames = starts.map(|i| packet(i).frame()).collect();
    row("nat, 64,000 flows in turn", bench, frames, REDIRECT)
}

fn rows() -> Vec<Row> {
    let client = at("192.0.2.9", 40_000);
    let mut rows = vec![Row {
        name: EMPTY,
        subject: Subject::Empty,
        frames: vec![segment(client, at(VIP4, 80), ACK).frame()],
        code: PASS,
        alone: false,
        samples: Vec::new(),
    }];
    let other = segment(client, at("10.9.0.55", 80), ACK).frame();
    let bench = serving(VIP4, Forward::Nat, "10.9.0.21");
    rows.push(row("not a VIP, IPv4", bench, vec![other], PASS));
    let other = segment(client, at("10.9.0.55", 80), ACK).frame();
    let bench = serving(VIP4, Forward::Keep, "10.9.0.21");
    rows.push(row(
        "not a VIP, where clients are kept",
        bench,
        vec![other],
        PASS,
    ));
    let other = segment(at("2001:db8::9", 40_000), at("fd09::55", 80), ACK).frame();
    let bench = serving(VIP6, Forward::Nat, "fd09::21");
    rows.push(row("not a VIP, IPv6", bench, vec![other], PASS));
    let mut bench = serving(VIP4, Forward::Nat, "10.9.0.21");
    let flags = vipd_datapath_common::flags::OPEN | vipd_datapath_common::flags::LOCAL;
    bench.bench.manage(VIP4, flags);
    let plain = segment(client, at(VIP4, 80), ACK).frame();
    rows.push(row("VIP without services, IPv4", bench, vec![plain], PASS));
    rows.push(established(
        NAT,
        VIP4,
        ("192.0.2.9", 40_000, 80),
        ("192.0.2.8", 40_000, 80),
    ));
    rows.push(baseline(NAT_C, 80));
    rows.push(established(
        NAT_PORT,
        VIP4,
        ("192.0.2.9", 40_000, 80),
        ("192.0.2.8", 40_000, 8080),
    ));
    rows.push(baseline(NAT_PORT_C, 8080));
    rows.push(established(
        "nat, established, IPv6",
        VIP6,
        ("2001:db8::9", 40_000, 80),
        ("2001:db8::8", 40_000, 80),
    ));
    rows.push(here());
    rows.push(kept());
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
    rows.extend(rows_alone());
    rows.extend(xdp_rows());
    rows
}

fn measure(row: &mut Row, round: usize, empty: [BorrowedFd<'_>; 2], ifindex: u32) {
    if let Subject::Xdp(bench) = &mut row.subject {
        refresh(bench);
    }
    let (program, is_xdp) = match &row.subject {
        Subject::Empty => (empty[0], false),
        Subject::EmptyXdp => (empty[1], true),
        Subject::Programs(bench) => (bench.bench.program(program::INGRESS), false),
        Subject::Xdp(bench) => (bench.bench.program(program::XDP), true),
        Subject::C(baseline) => (baseline.program(), false),
    };
    let frame = &row.frames[round % row.frames.len()];
    let run = if is_xdp { raw::run_xdp } else { raw::run };
    if row.alone {
        let one = |_| {
            let (code, ns) = run(program, frame, ifindex, 1);
            assert_eq!(code, row.code, "{}: round {round}", row.name);
            ns
        };
        let all: u32 = (0..ALONE).map(one).sum();
        row.samples.push(all / ALONE);
        return;
    }
    let (code, ns) = run(program, frame, ifindex, REPEAT);
    if is_xdp && code != row.code {
        // One packet in 17 s goes the long way, and then those behind it: this round is lost, not the next.
        return;
    }
    assert_eq!(code, row.code, "{}: round {round}", row.name);
    row.samples.push(ns);
}

#[test]
#[ignore = "a measurement, which needs a quiet machine"]
fn what_a_packet_costs() {
    with_net(|_| async {
        let ifindex = nix::net::if_::if_nametoindex("lan").unwrap();
        let empty = [raw::empty(), raw::empty_xdp()];
        let mut rows = rows();
        for round in 0..ROUNDS {
            for row in &mut rows {
                measure(row, round, empty.each_ref().map(AsFd::as_fd), ifindex);
            }
        }
        println!(
            "ns a packet: median and minimum of {ROUNDS} x {REPEAT} ({ALONE} one at a time), and the median as a multiple of the empty program's"
        );
        for row in &mut rows {
            // Enough of them to have a median.
            assert!(row.samples.len() > ROUNDS * 9 / 10, "{}", row.name);
            row.samples.sort_unstable();
        }
        let median = |name| {
            let row = rows.iter().find(|row| row.name == name).unwrap();
            f64::from(row.samples[row.samples.len() / 2])
        };
        let floors = [EMPTY, EMPTY_ALONE].map(median);
        for row in &rows {
            let (median, least) = (row.samples[row.samples.len() / 2], row.samples[0]);
            let ratio = f64::from(median) / floors[usize::from(row.alone)];
            println!("{:<40} {median:>5}  {least:>5}  {ratio:>5.2}", row.name);
        }
        for (ours, c) in [(NAT, NAT_C), (NAT_PORT, NAT_PORT_C)] {
            println!("{ours}: {:.2} times the C", median(ours) / median(c));
        }
        println!(
            "{NAT_XDP}: {:.2} times the empty XDP program, {:.2} times ingress",
            median(NAT_XDP) / median(EMPTY_XDP),
            median(NAT_XDP) / median(NAT)
        );
    });
}
