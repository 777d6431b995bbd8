//! What the machine has said on its console, as a table and a verdict.
//!
//! Between what tests print, init says `@@ kernel RELEASE`, `@@ begin PROGRAM`, `@@ end PROGRAM STATUS`, `@@ trouble TEXT` and,
//! before it turns the machine off, `@@ done`.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use super::suite::Suite;
use super::{OLDEST, suite};
use crate::sh;
use crate::test::Tally;

/// All of a run.
#[derive(Debug, Default)]
pub(super) struct Report {
    release: Option<String>,
    programs: Vec<Outcome>,
    /// What is wrong with the machine, not with a test.
    troubles: Vec<String>,
    done: bool,
    took: Duration,
}

/// One test program.
#[derive(Debug, Default)]
struct Outcome {
    name: String,
    /// Since power-on.
    began: Duration,
    took: Duration,
    tally: Tally,
    /// Its exit status; `None` while it runs.
    status: Option<String>,
    said: Vec<String>,
}

impl Outcome {
    /// All tests ran to their end, and passed.
    fn is_well(&self) -> bool {
        self.status.as_deref() == Some("0") && self.tally.failed == 0 && self.tally.results == 1
    }

    /// Why not, in a word for the table.
    fn mark(&self) -> String {
        match &self.status {
            _ if self.is_well() => String::new(),
            None => "DID NOT END".to_owned(),
            Some(_) if self.tally.failed > 0 => "FAILED".to_owned(),
            // As timeout(1) kills.
            Some(status) if status == "137" => "TOOK TOO LONG".to_owned(),
            Some(status) => format!("DIED (status {status})"),
        }
    }
}

impl Report {
    /// Reads a line of the console, and returns what is worth to be told at once.
    pub(super) fn read(&mut self, line: &str, now: Duration) -> Option<String> {
        // What a test has printed without an end of line stands in front of it.
        let Some((before, order)) = line.split_once("@@ ") else {
            if let Some(program) = self.programs.last_mut().filter(|it| it.status.is_none()) {
                program.tally.read(line);
                program.said.push(line.to_owned());
            }
            return None;
        };
        if !before.is_empty() {
            self.read(before, now);
        }
        let (word, rest) = order.split_once(' ').unwrap_or((order, ""));
        match word {
            "kernel" => self.release = Some(rest.to_owned()),
            "begin" => self.programs.push(Outcome {
                name: rest.to_owned(),
                began: now,
                tally: Tally::of(rest),
                ..Outcome::default()
            }),
            "end" => {
                let program = self.programs.last_mut()?;
                let (_, status) = rest.split_once(' ')?;
                program.status = Some(status.to_owned());
                program.took = now.saturating_sub(program.began);
                return Some(program.to_string());
            }
            "trouble" => self.trouble(rest.to_owned()),
            "done" => self.done = true,
            other => self.trouble(format!("it said {other:?}, which means nothing")),
        }
        None
    }

    /// Notes what is wrong with the machine.
    pub(super) fn trouble(&mut self, what: String) {
        self.troubles.push(what);
    }

    /// The machine is off, so long after it was turned on.
    pub(super) fn off(&mut self, now: Duration) {
        self.took = now;
        if let Some(program) = self.programs.last_mut().filter(|it| it.status.is_none()) {
            program.took = now.saturating_sub(program.began);
        }
    }

    /// Fails unless every program of the suite ran to its end, all of its tests passed, and there were some. Shows the end
    /// of what those have said that did not.
    pub(super) fn judge(&self, suite: &Suite, console: &Path) -> Result<()> {
        let mut wrong = self.troubles.clone();
        let wanted = format!("{OLDEST}.");
        match &self.release {
            None => wrong.push("it did not boot".to_owned()),
            Some(release) if !release.starts_with(&wanted) => {
                wrong.push(format!("it runs Linux {release}, not {OLDEST}"));
            }
            Some(_) => {}
        }
        if !self.done {
            wrong.push("it did not come to its end".to_owned());
        }
        for program in suite.programs() {
            let name = &program.name;
            match self.programs.iter().find(|it| it.name == *name) {
                None => wrong.push(format!("{name} did not run")),
                Some(outcome) if !outcome.is_well() => {
                    println!(
                        "---- {name}\n{}",
                        sh::tail(outcome.said.iter().map(String::as_str))
                    );
                    wrong.push(format!("{name}: {}", outcome.mark()));
                    wrong.extend(outcome.tally.failures.clone());
                }
                Some(outcome) if outcome.tally.filtered != suite.skipped(name).len() as u64 => {
                    wrong.push(format!(
                        "{name}: a test that is left out is not there any more"
                    ));
                }
                Some(_) => {}
            }
        }
        if self.passed() == 0 {
            wrong.push("no test has passed".to_owned());
        }
        if !wrong.is_empty() {
            let (console, wrong) = (console.display(), wrong.join("\n    "));
            bail!(
                "on the emulated kernel ({}; all that it said is in {console}):\n    {wrong}",
                suite::CRATE
            );
        }
        Ok(())
    }

    fn passed(&self) -> u64 {
        self.programs.iter().map(|it| it.tally.passed).sum()
    }
}

/// One row; [`Report`] has the head.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tally, took) = (&self.tally, self.took.as_secs_f32());
        let skipped = tally.ignored + tally.filtered;
        let row = format!(
            "{:<24} {:>6} {:>6} {skipped:>7} {took:>7.1}  {}",
            self.name,
            tally.passed,
            tally.failed,
            self.mark()
        );
        write!(f, "{}", row.trim_end())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let release = self.release.as_deref().unwrap_or("nothing");
        writeln!(
            f,
            "\non Linux {release}, emulated, from power-on to power-off {:.1} s:",
            self.took.as_secs_f32()
        )?;
        writeln!(
            f,
            "{:<24} {:>6} {:>6} {:>7} {:>7}",
            "test program", "passed", "failed", "skipped", "seconds"
        )?;
        for program in &self.programs {
            writeln!(f, "{program}")?;
        }
        let sum =
            |count: fn(&Tally) -> u64| self.programs.iter().map(|it| count(&it.tally)).sum::<u64>();
        let (failed, skipped) = (sum(|it| it.failed), sum(|it| it.ignored + it.filtered));
        write!(
            f,
            "{:<24} {:>6} {failed:>6} {skipped:>7}",
            "in all",
            self.passed()
        )
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A report of a suite of `frames_arp` and `lease`, and the verdict on it.
    fn judged(console: &[&str]) -> (Report, String) {
        let mut report = Report::default();
        for (second, line) in (0..).zip(console) {
            report.read(line, Duration::from_secs(second));
        }
        report.off(Duration::from_secs(100));
        let file = |name: &str| PathBuf::from(format!("/t/deps/{name}-0123"));
        let chosen = ["frames_arp".to_owned(), "lease".to_owned()];
        let suite = Suite::of(&suite::tests::files(&["frames_arp", "lease"]), &chosen).unwrap();
        let verdict = report.judge(&suite, &file("console"));
        let verdict = verdict.map_or_else(|error| error.to_string(), |()| "well".to_owned());
        (report, verdict)
    }

    const WELL: [&str; 9] = [
        "@@ kernel 6.1.0-56-cloud-amd64",
        "@@ begin frames_arp",
        "test result: ok. 9 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s",
        "@@ end frames_arp 0",
        "[    5.1] a line of the kernel",
        "@@ begin lease",
        "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 3.00s",
        "@@ end lease 0",
        "@@ done",
    ];

    #[test]
    fn a_run_is_a_table_of_what_passed_and_how_long_it_took() {
        let (report, verdict) = judged(&WELL);
        assert_eq!(verdict, "well");
        let shown = report.to_string();
        let rows: Vec<Vec<&str>> = shown
            .lines()
            .map(|row| row.split_whitespace().collect())
            .collect();
        assert!(
            rows.contains(&vec!["frames_arp", "9", "0", "0", "2.0"]),
            "{shown}"
        );
        assert!(
            rows.contains(&vec!["lease", "5", "0", "1", "2.0"]),
            "{shown}"
        );
        assert!(rows.contains(&vec!["in", "all", "14", "0", "1"]), "{shown}");
    }

    #[test]
    fn whatever_is_missing_from_a_whole_run_is_a_failure_that_is_named() {
        let without = |line: usize, instead: &[&'static str]| {
            let (before, after) = (&WELL[..line], &WELL[line + 1..]);
            judged(&[before, instead, after].concat()).1
        };
        assert!(judged(&[]).1.contains("did not boot"));
        assert!(without(0, &["@@ kernel 6.12.1"]).contains("runs Linux 6.12.1, not 6.1"));
        assert!(without(8, &[]).contains("did not come to its end"));
        assert!(without(2, &[]).contains("frames_arp: DIED (status 0)"));
        assert!(without(3, &["@@ end frames_arp 137"]).contains("TOOK TOO LONG"));
        assert!(without(8, &["@@ trouble no module veth", "@@ done"]).contains("no module veth"));
        let (_, verdict) = judged(&WELL[..7]);
        assert!(verdict.contains("lease: DID NOT END"), "{verdict}");
        let (_, verdict) = judged(&[&WELL[..4], &WELL[8..]].concat());
        assert!(verdict.contains("lease did not run"), "{verdict}");
        let nothing = WELL.map(|line| {
            if line.starts_with("test result") {
                "test result: ok. 0 passed; 0 failed"
            } else {
                line
            }
        });
        assert!(judged(&nothing).1.contains("no test has passed"));
    }

    #[test]
    fn failed_tests_are_named_also_behind_what_a_test_left_without_an_end_of_line() {
        let mut console = WELL.to_vec();
        console.splice(2..4, [
            "failures:",
            "    a_request_is_answered",
            "",
            "test result: FAILED. 8 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s",
            "unended@@ end frames_arp 101",
        ]);
        let (_, verdict) = judged(&console);
        assert!(
            verdict.contains("frames_arp: a_request_is_answered"),
            "{verdict}"
        );
    }
}
