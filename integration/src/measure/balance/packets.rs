//! What forwarding a packet costs: frames as from a network card, of many flows, through each way in turn. One CPU sends,
//! another one forwards, and where the packets come out again what has arrived translated is counted.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Options;
use super::arrivals::Arrivals;
use super::figures::{Spread, target};
use super::forwarder::{Forwarder, two_cpus};
use super::frames::Frames;
use super::site::{Site, front, to};
use super::way::{Arms, Way};
use crate::cluster::wait;
use crate::tools;

/// Bytes of a frame without its check sequence: the least and the most that Ethernet carries.
const LENGTHS: [usize; 2] = [60, 1514];
/// What nftables' cost shall be at least, in that of vipd.
const TARGETS: [(Way, f64); 2] = [(Way::Vipd, 1.3), (Way::Xdp, 2.5)];
/// The process that sends.
const SENDER: &str = "send-frames";
/// A short command.
const BOUND: Duration = Duration::from_secs(5);

/// What one trial found.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// Packets that arrived in a second.
    rate: f64,
    /// Nanoseconds of the CPU that forwards, for each.
    cost: f64,
}

/// Sets up and measures; the table.
pub(super) fn run(options: &Options, generator: &Path, arms: Arms) -> Result<String> {
    eprintln!("setting up the hosts that forward packets");
    let [sends, forwards] = two_cpus()?;
    let ways = Way::packets(arms);
    let site = Site::start(&options.binaries, ways, arms)?;
    let mut measured = vec![];
    for &way in ways {
        // Without GRO on both ends a veth pair has no queue that a program could fill.
        for (host, interface) in [(site.client(), to(way)), (site.host(way), front(way))] {
            tools::run(host, BOUND, "ethtool", &["-K", &interface, "gro", "on"])?;
        }
        let thread = Forwarder::of(site.host(way), &front(way), forwards)?;
        measured.push((way, thread, Arrivals::of(&site, way, generator)?));
    }
    let mut found = vec![vec![]; ways.len() * LENGTHS.len()];
    for number in 1..=options.trials {
        let mut found = found.iter_mut();
        for length in LENGTHS {
            for (way, thread, arrivals) in &measured {
                let wanted = Frames {
                    generator: generator.to_owned(),
                    way: way.host().to_owned(),
                    length,
                    flows: options.flows,
                    cpu: sends,
                };
                let trial = trial(&site, (thread, arrivals), options.span, &wanted);
                let trial = trial
                    .with_context(|| format!("frames of {length} bytes through {}", way.name()))?;
                eprintln!(
                    "{}, {length} bytes, trial {number}: {:.0} packets/s, {:.0} ns each",
                    way.name(),
                    trial.rate,
                    trial.cost
                );
                found.next().context("more trials than rows")?.push(trial);
            }
        }
    }
    table(options, arms, &found)
}

/// Sends through a way for a while, and looks at the time in between.
fn trial(
    site: &Site,
    (thread, arrivals): (&Forwarder, &Arrivals<'_>),
    span: Duration,
    wanted: &Frames,
) -> Result<Trial> {
    let me = std::env::current_exe().context("cannot find the running program")?;
    let mut sender = Command::new(me);
    sender.args(["send-frames", &wanted.way, &wanted.length.to_string()]);
    sender.args(["--flows", &wanted.flows.to_string()]);
    sender.args(["--cpu", &wanted.cpu.to_string()]);
    sender.arg("--generator").arg(&wanted.generator);
    let client = site.client();
    client.spawn(SENDER, &mut sender)?;
    let seen = look(arrivals, thread, span);
    let alive = client.process(SENDER, |sender| Ok(sender.alive()))?;
    client.kill9(SENDER)?;
    if !alive {
        let said = client.process(SENDER, |sender| Ok(sender.tail(5)))?;
        bail!("the sender ended: {said}");
    }
    seen
}

fn look(arrivals: &Arrivals<'_>, thread: &Forwarder, span: Duration) -> Result<Trial> {
    let first = arrivals.count()?;
    // Neighbours are asked and flows are made meanwhile.
    wait("the first packets arrive", BOUND, || {
        Ok((arrivals.count()? > first + 1000).then_some(()))
    })?;
    let (before, used, began) = (arrivals.count()?, thread.used()?, Instant::now());
    sleep(span);
    let (after, used_then, took) = (arrivals.count()?, thread.used()?, began.elapsed());
    ensure!(after > before, "no packet arrived");
    let packets = (after - before) as f64;
    Ok(Trial {
        rate: packets / took.as_secs_f64(),
        cost: (used_then - used).as_secs_f64() * 1e9 / packets,
    })
}

fn table(options: &Options, arms: Arms, found: &[Vec<Trial>]) -> Result<String> {
    let links = match arms {
        Arms::One => "one link for client and server",
        Arms::Two => "a link to the client and one to the server",
    };
    let mut text = format!(
        "\npackets, {links}: UDP, checksums filled in, flows: {}; one CPU sends and one forwards; {} trials of {} s, in turn; median (least to most)\n\
         {:>5}  {:<16} {:>28} {:>26}  x nftables\n",
        options.flows,
        options.trials,
        options.span.as_secs(),
        "bytes",
        "",
        "ns of the CPU a packet",
        "packets/s"
    );
    let mut rows = found.iter();
    let mut targets = String::new();
    for length in LENGTHS {
        let mut costs = vec![];
        for &way in Way::packets(arms) {
            let trials = rows.next().context("fewer rows than ways")?;
            let of =
                |what: fn(&Trial) -> f64| Spread::of(&trials.iter().map(what).collect::<Vec<_>>());
            costs.push((way, of(|trial| trial.cost)?, of(|trial| trial.rate)?));
        }
        let cost = |of: Way| {
            let found = costs.iter().find(|(way, ..)| *way == of);
            found.map_or(f64::NAN, |(_, cost, _)| cost.median)
        };
        for (way, each, rate) in &costs {
            let ratio = cost(Way::Nftables) / each.median;
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{length:>5}  {:<16} {:>28} {:>26}  {ratio:.2}",
                way.name(),
                each.shown(),
                rate.shown()
            );
        }
        for (way, wanted) in TARGETS {
            if Way::packets(arms).contains(&way) {
                let what = format!("{} / nftables, {length} bytes", way.name());
                targets += &target(&what, cost(Way::Nftables) / cost(way), wanted);
            }
        }
    }
    Ok(text + &targets)
}
