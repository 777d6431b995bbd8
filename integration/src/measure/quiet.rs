//! `bench quiet`: a time without any fault, in which nothing may happen: on a calm machine, beside CPU hogs, and over
//! wires that lose and delay frames. All the while the wire is asked who has each address: two that would answer do.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::owners;
use super::relay::{Relay, Weather};
use super::report::{self, Conditions};
use super::system::{Contender, SERVERS, System};
use crate::bench::Turn;
use crate::cluster::Binaries;
use crate::wire::{Answer, Asker, How, Tap};

/// Before a measurement: announcements and first elections are over.
const REST: Duration = Duration::from_secs(10);
/// Between two words about how it goes.
const WORD: Duration = Duration::from_secs(30);
/// How often the wire is asked who has an address; of many addresses no more than one each millisecond.
const ASK_PERIOD: Duration = Duration::from_millis(5);
const ASK_PAUSE: Duration = Duration::from_millis(1);
/// Nobody is told to give an address away here, and none of the systems takes a silent holder's and gives it back
/// within this time: one that speaks again so soon after another one did so all the time.
const SOON: Duration = Duration::from_millis(250);

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
    /// For how long two hosts answered for the same address, of the worst address.
    overlap: Duration,
    /// Answers to the questions of who has an address.
    answers: usize,
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
        "{conditions}\n{} VIPs, {} s, trouble: {:?}{class}\n{:<17}  {:>15}  {:>13}  {:>13}  {:>8}  {:>16}  {:>12}\n",
        options.vips,
        options.span.as_secs(),
        options.trouble,
        "system",
        "false takeovers",
        "announcements",
        "two owners ms",
        "answers",
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
    let addresses = system.addresses();
    for &address in addresses {
        tap.watch(address);
    }
    let period = ask_period(addresses.len());
    let asker = Asker::start(lab.observer(), addresses, period)?;
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
    tap.ensure_whole()?;
    drop((asker, relays));
    let heard = judge(addresses, &answers, SOON.max(period * 3))?;
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
        "{:<17}  {:>15}  {:>13}  {:>13}  {:>8}  {:>16}  {:>12}",
        system.name(),
        heard.takeovers,
        heard.announcements,
        heard.overlap.as_millis(),
        heard.answers,
        known,
        if before.is_empty() {
            "-".to_owned()
        } else {
            late.as_millis().to_string()
        },
    );
    Ok(line)
}

/// Between two questions for the same one of so many addresses.
fn ask_period(addresses: usize) -> Duration {
    let one_each = ASK_PAUSE * u32::try_from(addresses).unwrap_or(u32::MAX);
    ASK_PERIOD.max(one_each)
}

/// Every address is judged for itself; who spoke for it first was its holder.
///
/// # Errors
/// When nobody answered for one of them: an instrument that hears nothing must not say that there were no two.
fn judge(addresses: &[IpAddr], answers: &[Answer], soon: Duration) -> Result<Heard> {
    let mut by_address: BTreeMap<IpAddr, Vec<Answer>> = BTreeMap::new();
    for answer in answers {
        by_address
            .entry(answer.address)
            .or_default()
            .push(answer.clone());
    }
    let mut heard = Heard::default();
    for address in addresses {
        let answers = by_address.entry(*address).or_default();
        answers.sort_by_key(|answer: &Answer| answer.at);
        let replies = answers.iter().filter(|a| a.how.is_reply()).count();
        ensure!(
            replies > 0,
            "nobody answered for {address} in all the time: nothing can be said about two owners"
        );
        heard.answers += replies;
        let unasked = |a: &&Answer| matches!(a.how, How::Gratuitous | How::Unsolicited);
        heard.announcements += answers.iter().filter(unasked).count();
        if let Some(first) = answers.first() {
            heard.takeovers += owners::takeovers(answers, first.mac);
        }
        heard.overlap = heard.overlap.max(owners::overlap(answers, soon));
    }
    Ok(heard)
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

    fn said(address: u8, mac: u8, ms: u64, how: How) -> Answer {
        Answer {
            at: Stamp(ms * 1_000_000),
            address: vip(address),
            mac: Mac([2, 0, 0, 0, 0, mac]),
            how,
            port: "n1".into(),
        }
    }

    fn vip(number: u8) -> IpAddr {
        IpAddr::from([10, 77, 1, number])
    }

    #[test]
    fn announcements_by_another_host_are_takeovers_and_repeated_ones_are_not() {
        let words = [
            said(1, 1, 0, How::Gratuitous),
            said(2, 2, 5, How::Gratuitous),
            said(1, 1, 50, How::ArpReply),
            said(1, 1, 100, How::Gratuitous),
            said(2, 3, 300, How::Gratuitous),
            said(2, 3, 301, How::ArpReply),
        ];
        let heard = judge(&[vip(1), vip(2)], &words, SOON).unwrap();
        assert_eq!((heard.announcements, heard.takeovers), (4, 1));
        assert_eq!((heard.answers, heard.overlap), (2, Duration::ZERO));
    }

    #[test]
    fn two_that_answer_every_question_are_two_owners_however_many_addresses_are_asked_for() {
        for addresses in [1, 100, 10_000] {
            let period = ask_period(addresses);
            let round =
                |k: u64| [(1, k), (2, k)].map(|(mac, k)| (mac, k * period.as_millis() as u64));
            let words: Vec<Answer> = (0..20)
                .flat_map(round)
                .map(|(mac, ms)| said(1, mac, ms + u64::from(mac), How::ArpReply))
                .collect();
            let heard = judge(&[vip(1)], &words, SOON.max(period * 3)).unwrap();
            assert!(heard.overlap >= period * 18, "{addresses}: {heard:?}");
            assert_eq!((heard.announcements, heard.takeovers), (0, 0));
        }
    }

    #[test]
    fn an_address_that_nobody_answers_for_is_an_error_and_not_a_zero() {
        let announced = [said(1, 1, 0, How::Gratuitous)];
        let error = judge(&[vip(1)], &announced, SOON).unwrap_err();
        assert!(error.to_string().contains("10.77.1.1"), "{error}");
    }
}
