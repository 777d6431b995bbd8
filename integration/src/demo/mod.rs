//! The show: three hosts and a client, one dual-stack VIP, and every way to lose its holder.
//!
//! Prints what happens while it happens, from three sources that do not know of each other: the
//! daemons (who holds), the wire (who answers), the client (who served it). At the end one table, and
//! `true` only if every promise in it was kept.

mod acts;
mod explore;
mod live;
mod promise;
mod screen;
mod table;

use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result};

use crate::bench::{Bench, Turn};
use crate::cluster::{Binaries, Cluster};
use crate::lab::{Lab, NETWORK_V4, NETWORK_V6};
use crate::probe::Browser;
use screen::{Screen, Tone};

/// What the demo is to run, and what is to be left of it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The daemon.
    pub vipd: PathBuf,
    /// The command.
    pub vipctl: PathBuf,
    /// Leave the lab running at the end, until Ctrl-C, and say how to explore it.
    pub keep: bool,
}

/// Runs the show. `Ok(true)` when every promise was kept.
pub fn run(options: Options) -> Result<bool> {
    let screen = Screen::new();
    let _turn = Turn::wait()?;
    screen.title("vipd: three hosts, one VIP");
    let lab = Lab::new(&["n1", "n2", "n3"])?;
    screen.say(
        Tone::Step,
        "lab",
        &format!("n1, n2, n3 and a client on one wire, {NETWORK_V4} and {NETWORK_V6}"),
    );
    let binaries = Binaries {
        vipd: options.vipd,
        vipctl: options.vipctl,
    };
    screen.say(Tone::Step, "vipd", "init on n1, join on n2 and n3 …");
    let cluster = Cluster::start(lab, binaries, 3)?;
    screen.say(Tone::Good, "vipd", "three voters, all up");
    let addresses = cluster.dual_stack_vip("www")?;
    let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    screen.say(
        Tone::Good,
        "vipctl",
        &format!("VIP www is {}", shown.join(" and ")),
    );

    let bench = Bench::watch(cluster, addresses)?;
    let kept = perform(&bench, &screen).inspect_err(|_| bench.lab().print_logs())?;
    if options.keep {
        let addresses = bench.addresses().to_vec();
        // Nobody asks and nobody records any more: the wire belongs to whoever explores.
        let cluster = bench.into_cluster();
        explore::explain(&cluster, &addresses, &screen)?;
        loop {
            // Ctrl-C ends the process and removes the lab.
            thread::park();
        }
    }
    Ok(kept)
}

fn perform(bench: &Bench, screen: &Screen) -> Result<bool> {
    let lab = bench.lab();
    let browsers = bench
        .addresses()
        .iter()
        .map(|&a| Browser::start(lab.client(), a))
        .collect::<Result<Vec<_>>>()?;
    let before = promise::allocations(bench)?;
    let done = live::Done::default();
    let acts = thread::scope(|scope| {
        scope.spawn(|| live::follow(bench, &browsers, screen, &done));
        let _until_here = done.guard();
        acts::play(bench, screen)
    })?;
    let pages: Vec<_> = browsers.iter().map(Browser::pages).collect();
    drop(browsers);
    let promises = promise::check(bench, &acts, &before)?;
    let wire = table::wire(bench)?;
    screen.title("what the client saw");
    screen.plain(&table::acts(&acts, bench.addresses()));
    screen.title("what the wire heard");
    screen.plain(&wire);
    for (address, pages) in bench.addresses().iter().zip(pages) {
        screen.plain(&format!(
            "  {address}: {} web pages fetched, {} given up after 100 ms\n",
            pages.served, pages.failed
        ));
    }
    screen.title("what was promised");
    for promise in &promises {
        let tone = if promise.kept { Tone::Good } else { Tone::Bad };
        screen.verdict(
            tone,
            if promise.kept { "kept" } else { "BROKEN" },
            &promise.text,
        );
    }
    Ok(promises.iter().all(|promise| promise.kept))
}

/// The name of the host with this Ethernet address.
fn host_of(lab: &Lab, mac: crate::lab::Mac) -> String {
    lab.servers()
        .find(|host| host.mac() == mac)
        .map_or_else(|| mac.to_string(), |host| host.name().to_owned())
}

/// A holder by its name, where there must be one.
fn sole_holder(bench: &Bench) -> Result<String> {
    let holder = bench.wait_for_one_holder("both addresses have the same holder", |_| true);
    Ok(holder
        .context("the VIP has no single holder")?
        .name()
        .to_owned())
}
