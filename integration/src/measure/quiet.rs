//! `bench quiet`: a time without any fault, in which nothing may happen: on a calm machine, beside CPU hogs, and over
//! wires that lose and delay frames.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::owners;
use super::relay::{Relay, Weather};
use super::report::{self, Conditions};
use super::system::{Contender, SERVERS, System};
use crate::bench::Turn;
use crate::cluster::Binaries;
use crate::wire::{Answer, How, Tap};

/// Before a measurement: announcements and first elections are over.
const REST: Duration = Duration::from_secs(10);
/// Between two words about how it goes.
const WORD: Duration = Duration::from_secs(30);

/// What else happens on the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// So many processes that never sleep.
    Hogs(usize),
    /// Frames between servers are lost with this probability, in per cent, and delayed up to so long.
    Wire {
        /// Per cent of the frames that are lost, in each direction.
        loss: f64,
        /// The longest delay, in each direction; each frame has one of its own.
        jitter: Duration,
    },
}

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// The programs of vipd.
    pub binaries: Binaries,
    /// Which systems, one after the other.
    pub systems: Vec<Contender>,
    /// With how many VIPs.
    pub vips: usize,
    /// For how long.
    pub span: Duration,
    /// What else happens.
    pub trouble: Trouble,
    /// vipd runs without the right to the real-time class.
    pub no_realtime: bool,
    /// Where the table goes.
    pub out: PathBuf,
}

/// What the wire said in that time, and what the cluster knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Heard {
    /// Announcements that nobody asked for.
    announcements: usize,
    /// How often an address was announced by another host than before, in all.
    takeovers: usize,
    /// For how long two hosts answered for the same address.
    overlap: Duration,
}

/// Measures one system after the other and writes a table.
pub fn run(options: &Options) -> Result<()> {
    let _turn = Turn::wait()?;
    let binaries = if options.no_realtime {
        without_realtime(&options.binaries, &options.out)?
    } else {
        options.binaries.clone()
    };
    let conditions = Conditions::now(&binaries);
    let class = if options.no_realtime {
        ", without the real-time class"
    } else {
        ""
    };
    let mut text = format!(
        "{conditions}\n{} VIPs, {} s, trouble: {:?}{class}\n{:<17}  {:>15}  {:>13}  {:>13}  {:>16}  {:>12}\n",
        options.vips,
        options.span.as_secs(),
        options.trouble,
        "system",
        "false takeovers",
        "announcements",
        "two owners ms",
        "changes of holder",
        "late by, ms"
    );
    for contender in options.systems.iter().filter(|c| c.holds(options.vips)) {
        eprintln!("{contender} with {} VIPs", options.vips);
        let system = contender
            .start(&binaries, "info", options.vips)
            .with_context(|| format!("cannot set up {contender}"))?;
        let line = watch(&*system, options)?;
        text.push_str(&line);
        eprint!("{line}");
    }
    println!("{text}");
    report::save(&options.out, &file(options), &text)
}

/// Each kind of trouble has a file of its own.
fn file(options: &Options) -> String {
    let trouble = match options.trouble {
        Trouble::None => "",
        Trouble::Hogs(_) => "-hogs",
        Trouble::Wire { .. } => "-wire",
    };
    let class = if options.no_realtime {
        "-without-realtime"
    } else {
        ""
    };
    format!("quiet{trouble}{class}.txt")
}

fn watch(system: &dyn System, options: &Options) -> Result<String> {
    let lab = system.lab();
    let mut relays: Vec<Relay> = Vec::new();
    match options.trouble {
        Trouble::None => {}
        Trouble::Hogs(count) => {
            for number in 0..count {
                let mut hog = Command::new("sh");
                // They live on the observer, so that the end of the lab is theirs too.
                lab.observer().spawn(
                    &format!("hog-{number}"),
                    hog.args(["-c", "while :; do :; done"]),
                )?;
            }
        }
        Trouble::Wire { loss, jitter } => {
            for name in SERVERS {
                let weather = Weather { loss, jitter };
                relays.push(Relay::install(lab, lab.host(name), weather)?);
            }
        }
    }
    sleep(REST);
    let tap = Tap::start(lab.switch())?;
    for &address in system.addresses() {
        tap.watch(address);
    }
    let before = system.tokens()?;
    let began = Instant::now();
    let mut late = Duration::ZERO;
    while began.elapsed() < options.span {
        sleep(WORD.min(options.span.saturating_sub(began.elapsed())));
        late = late.max(system.lateness()?);
        let spent = began.elapsed().as_secs();
        eprintln!(
            "  {spent} s of {}, late by {late:?}",
            options.span.as_secs()
        );
    }
    let after = system.tokens()?;
    // Relays make ports of their own, in which every frame shows again.
    let mut answers = tap.news(&mut 0);
    answers.retain(|answer| SERVERS.contains(&&*answer.port));
    let heard = judge(&answers);
    drop(relays);
    let changed = before
        .iter()
        .filter(|&(address, token)| after.get(address) != Some(token));
    let known = if before.is_empty() {
        "-".to_owned()
    } else {
        changed.count().to_string()
    };
    let mut line = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        line,
        "{:<17}  {:>15}  {:>13}  {:>13}  {:>16}  {:>12}",
        system.name(),
        heard.takeovers,
        heard.announcements,
        heard.overlap.as_millis(),
        known,
        if before.is_empty() {
            "-".to_owned()
        } else {
            late.as_millis().to_string()
        },
    );
    Ok(line)
}

/// Every address is judged for itself; who announced it first was its holder.
fn judge(answers: &[Answer]) -> Heard {
    let mut by_address: BTreeMap<IpAddr, Vec<Answer>> = BTreeMap::new();
    for answer in answers {
        by_address
            .entry(answer.address)
            .or_default()
            .push(answer.clone());
    }
    let mut heard = Heard::default();
    for answers in by_address.values_mut() {
        answers.sort_by_key(|answer: &Answer| answer.at);
        let unasked = |a: &&Answer| matches!(a.how, How::Gratuitous | How::Unsolicited);
        heard.announcements += answers.iter().filter(unasked).count();
        if let Some(first) = answers.first() {
            heard.takeovers += owners::takeovers(answers, first.mac);
        }
        heard.overlap = heard.overlap.max(owners::overlap(answers));
    }
    heard
}

/// The same programs, started without the right to the real-time class.
fn without_realtime(binaries: &Binaries, out: &std::path::Path) -> Result<Binaries> {
    use std::os::unix::fs::PermissionsExt;
    let script = format!(
        "#!/bin/sh\nexec setpriv --inh-caps -sys_nice --bounding-set -sys_nice {} \"$@\"\n",
        std::path::absolute(&binaries.vipd)?.display()
    );
    report::save(out, "vipd-without-realtime", &script)?;
    let vipd = std::path::absolute(out.join("vipd-without-realtime"))?;
    std::fs::set_permissions(&vipd, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", vipd.display()))?;
    Ok(Binaries {
        vipd,
        vipctl: binaries.vipctl.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stamp;
    use crate::lab::Mac;

    #[test]
    fn announcements_by_another_host_are_takeovers_and_repeated_ones_are_not() {
        let said = |address: u8, mac: u8, ms: u64| Answer {
            at: Stamp(ms * 1_000_000),
            address: IpAddr::from([10, 77, 1, address]),
            mac: Mac([2, 0, 0, 0, 0, mac]),
            how: How::Gratuitous,
            port: "n1".into(),
        };
        let heard = judge(&[
            said(1, 1, 0),
            said(2, 2, 5),
            said(1, 1, 100),
            said(2, 3, 300),
        ]);
        assert_eq!((heard.announcements, heard.takeovers), (4, 1));
        assert_eq!(heard.overlap, Duration::ZERO);
    }
}
