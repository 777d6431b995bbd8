//! `bench agents`: three voters and many agents, all real daemons on this machine, with many VIPs.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::report::{self, Conditions};
use super::stats::{Sample, ms};
use super::sweep::Sweep;
use super::system::populate;
use super::usage::{Since, Usage};
use crate::Stamp;
use crate::bench::Turn;
use crate::cluster::{Binaries, Cluster, PATIENCE};
use crate::lab::Lab;

/// Voters, which are the first servers.
const VOTERS: usize = 3;
/// Before a measurement: announcements are over, and no voter is too young to help.
const REST: Duration = Duration::from_secs(10);
/// Entries whose commit is measured.
const COMMITS: usize = 100;
/// How long the last VIP of a lost agent may take.
const LAST: Duration = Duration::from_secs(20);

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// The programs of vipd.
    pub binaries: Binaries,
    /// How many agents (at most 190: the lab's addresses end there).
    pub agents: usize,
    /// How many VIPs.
    pub vips: usize,
    /// How long CPU time is measured.
    pub span: Duration,
    /// How many agents are lost, one after the other.
    pub trials: usize,
    /// Where the table goes.
    pub out: PathBuf,
}

/// Sets the cluster up, measures, and writes a table.
pub fn run(options: &Options) -> Result<()> {
    ensure!(
        (1..=190).contains(&options.agents),
        "a lab has room for 1 to 190 agents, not {}",
        options.agents
    );
    let _turn = Turn::wait()?;
    let conditions = Conditions::now(&options.binaries);
    let names: Vec<String> = (1..=VOTERS + options.agents)
        .map(|k| format!("n{k}"))
        .collect();
    let servers: Vec<&str> = names.iter().map(String::as_str).collect();
    let began = Instant::now();
    eprintln!("setting up {VOTERS} voters and {} agents", options.agents);
    let cluster = Cluster::start(Lab::new(&servers)?, options.binaries.clone(), VOTERS)?;
    eprintln!("making {} VIPs", options.vips);
    let addresses = populate(&cluster, options.vips)?;
    let ready = began.elapsed().as_secs();
    sleep(REST);

    let mut text = format!(
        "{conditions}\n{VOTERS} voters, {} agents, {} VIPs, profile lan; set up in {ready} s\n\n",
        options.agents, options.vips
    );
    text.push_str(&usage(&cluster, &names, options.span)?);
    text.push_str(&commits(&cluster)?);
    for lost in names.iter().rev().take(options.trials.min(options.agents)) {
        text.push_str(&takeover(&cluster, lost, &addresses)?);
    }
    println!("{text}");
    report::save(&options.out, "agents.txt", &text)
}

/// CPU time and memory of leader, other voters, and agents.
fn usage(cluster: &Cluster, names: &[String], span: Duration) -> Result<String> {
    eprintln!("measuring CPU time for {} s", span.as_secs());
    let leader = cluster.leader()?;
    let hosts: Vec<_> = names.iter().map(|name| cluster.lab().host(name)).collect();
    let begun: Vec<Since> = hosts
        .iter()
        .map(|host| Since::now(host))
        .collect::<Result<_>>()?;
    sleep(span);
    let used: Vec<Usage> = begun
        .iter()
        .zip(&hosts)
        .map(|(since, host)| since.usage(host))
        .collect::<Result<_>>()?;
    let mut text =
        String::from("                 nodes  CPU % of a core: mean, max   RSS MiB: mean, max\n");
    let kind = |number: usize| match number {
        number if names[number] == leader => "leader",
        number if number < VOTERS => "other voters",
        _ => "agents",
    };
    for wanted in ["leader", "other voters", "agents"] {
        let (cpu, rss): (Vec<f64>, Vec<f64>) = used
            .iter()
            .enumerate()
            .filter(|(number, _)| kind(*number) == wanted)
            .map(|(_, usage)| (usage.cpu_percent, usage.rss_mib))
            .unzip();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let max = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{wanted:<15}  {:>5}  {:>20.2}, {:.2}  {:>14.1}, {:.1}",
            cpu.len(),
            mean(&cpu),
            max(&cpu),
            mean(&rss),
            max(&rss)
        );
    }
    Ok(text)
}

/// How long it takes from a request to the answer that it is committed and applied.
fn commits(cluster: &Cluster) -> Result<String> {
    eprintln!("measuring {COMMITS} commits");
    let api = cluster.leader_api()?;
    let mut times = Vec::new();
    for number in 0..COMMITS {
        let name = format!("commit-{number}");
        let body = json!({"name": name, "spec": {"pool": populate::POOL, "families": "ipv4"}});
        let asked = Instant::now();
        api.post("/v1/vips", &body)?;
        times.push(asked.elapsed());
        api.delete(&format!("/v1/vips/{name}"))?;
    }
    let sample = Sample::new(times).context("no commits were made")?;
    Ok(format!(
        "\na VIP is created: median {} ms, p99 {} ms, max {} ms ({COMMITS} requests to the leader)\n",
        ms(sample.median()),
        ms(sample.p99()),
        ms(sample.max())
    ))
}

/// The power of one agent is cut: when its VIPs are served again.
fn takeover(cluster: &Cluster, name: &str, addresses: &[IpAddr]) -> Result<String> {
    let held: Vec<IpAddr> = cluster
        .leader_api()?
        .within(PATIENCE)
        .addresses()?
        .into_iter()
        .filter(|state| state.holder.as_deref() == Some(name) && addresses.contains(&state.address))
        .map(|state| state.address)
        .collect();
    eprintln!(
        "the power of {name} is cut, which holds {} VIPs",
        held.len()
    );
    let host = cluster.lab().host(name);
    let sweep = Sweep::start(cluster.lab(), &held)?;
    let from = Stamp::now();
    host.power_off()?;
    let swept = sweep.run(Some(host.mac()), from, LAST, Duration::ZERO);
    let outages = Sample::new(swept.served.iter().map(|at| at.since(from)));
    let (median, last) = outages.map_or(("-".to_owned(), "-".to_owned()), |sample| {
        (ms(sample.median()), ms(sample.max()))
    });
    Ok(format!(
        "the power of {name} is cut: {} VIPs served again, the median one after {median} ms, the last one after {last} ms, {} lost\n",
        swept.served.len(),
        swept.lost
    ))
}
