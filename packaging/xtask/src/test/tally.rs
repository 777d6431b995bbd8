//! Counts what libtest prints, so that the end of a long run says all that matters.

use std::fmt;

/// Totals over all test programs of a run.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
    /// Tests that nobody wanted: another name was asked for, or they are left out.
    pub(crate) filtered: u64,
    /// Test programs that came to their end.
    pub(crate) results: u64,
    /// What runs now, as cargo names it.
    program: String,
    /// Failed tests as `program: name`.
    pub(crate) failures: Vec<String>,
    /// Test programs or targets that cargo reported as failed (a crash leaves no result line).
    targets: Vec<String>,
    /// Inside the closing list of failed names.
    listing: bool,
}

impl Tally {
    /// Of one program that is not run by cargo, which would name it.
    pub(crate) fn of(program: &str) -> Self {
        Self {
            program: program.to_owned(),
            ..Self::default()
        }
    }

    /// Reads one line of output.
    pub(crate) fn read(&mut self, line: &str) {
        if self.listing {
            match line.strip_prefix("    ") {
                Some(name) => self.failures.push(format!("{}: {name}", self.program)),
                None => self.listing = false,
            }
        } else if line == "failures:" {
            // libtest prints two such sections; the first one, with the output, starts with an empty line.
            self.listing = true;
        } else if let Some(rest) = line.trim_start().strip_prefix("Running ") {
            self.program = rest.split(" (").next().unwrap_or(rest).to_owned();
            if let Some(file) = rest
                .rsplit('/')
                .next()
                .and_then(|file| file.rsplit_once('-'))
            {
                self.program = format!(
                    "{} {}",
                    file.0,
                    self.program.trim_start_matches("unittests ")
                );
            }
        } else if let Some(rest) = line.trim_start().strip_prefix("Doc-tests ") {
            self.program = format!("{rest} doc");
        } else if let Some(rest) = line.strip_prefix("test result: ") {
            self.result(rest);
        } else if line.starts_with("    `-p ") {
            self.targets.push(line.trim().to_owned());
        }
    }

    /// `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`
    fn result(&mut self, counts: &str) {
        self.results += 1;
        for part in counts.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (
                words.next().and_then(|word| word.parse::<u64>().ok()),
                words.next(),
            ) else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                "filtered" => self.filtered += number,
                _ => {}
            }
        }
    }

    /// Tests that really ran.
    pub(crate) fn executed(&self) -> u64 {
        self.passed + self.failed
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failures {
            writeln!(f, "  FAILED  {failure}")?;
        }
        for target in &self.targets {
            writeln!(f, "  again:  cargo test {}", target.trim_matches('`'))?;
        }
        write!(f, "\n{} passed, {} failed", self.passed, self.failed)?;
        if self.ignored > 0 {
            write!(f, ", {} skipped", self.ignored)?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
     Running unittests src/lib.rs (target/debug/deps/vipd_core-0123456789abcdef)

running 3 tests
test a ... ok
test b ... FAILED
test c ... ignored

failures:

---- b stdout ----
boom

failures:
    b
    with::path

test result: FAILED. 1 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

   Doc-tests vipd_core
test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

error: 1 target failed:
    `-p vipd-core --lib`
";

    #[test]
    fn counts_failures_and_reruns_are_gathered_over_all_programs() {
        let mut tally = Tally::default();
        OUTPUT.lines().for_each(|line| tally.read(line));
        assert_eq!((tally.passed, tally.failed, tally.ignored), (5, 2, 1));
        assert_eq!(
            tally.failures,
            [
                "vipd_core src/lib.rs: b",
                "vipd_core src/lib.rs: with::path"
            ]
        );
        assert_eq!(tally.executed(), 7);
        let shown = tally.to_string();
        assert!(
            shown.contains("again:  cargo test -p vipd-core --lib"),
            "{shown}"
        );
        assert!(
            shown.ends_with("\n5 passed, 2 failed, 1 skipped\n"),
            "{shown}"
        );
    }

    #[test]
    fn nothing_skipped_is_not_mentioned() {
        assert_eq!(Tally::default().to_string(), "\n0 passed, 0 failed\n");
    }
}
