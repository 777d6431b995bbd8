//! What runs in the machine, and what does not, each with a reason.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::sh;

/// The crate whose tests run: the one that loads programs into the kernel.
pub(super) const CRATE: &str = "vipd-datapath";

/// Longest run of one program, in seconds.
const LIMIT: u32 = 600;

/// Test programs that say nothing about the kernel, or not in bearable time.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "balance_bench",
        "measures; nothing to measure under emulation",
    ),
    (
        "balance_restart",
        "a million packets in order, in time: on two emulated CPUs they overtake each other or are lost, on one it takes too long",
    ),
    (
        "claim_bench",
        "measures; nothing to measure under emulation",
    ),
    ("loops", "reads the object, asks no kernel"),
    ("stack", "reads the object, asks no kernel"),
    ("twin", "the datapath in memory, asks no kernel"),
];

/// Single tests of programs that run, with the same reasons.
const LEFT_OUT_TESTS: &[(&str, &str, &str)] = &[
    (
        "balance_maps",
        "what_a_flood_leaves_in_the_table_is_gone_after_a_look_or_two",
        "a look at 300,000 flows takes so long here that the next one comes after the test's patience",
    ),
    (
        "balance_short",
        "a_link_whose_program_can_not_be_replaced_stays_and_that_is_said_at_each_look",
        "puts a link of tcx in its place, which this kernel has not",
    ),
    (
        "takeover",
        "programs_that_somebody_detached_are_put_back_by_the_next_audit_and_that_is_told",
        "detaches links of tcx, which this kernel has not; filters that went are another test",
    ),
];

/// Programs whose tests need what other kernels need not have. So they are ignored elsewhere, and run here.
const HERE_ALONE: [&str; 1] = ["vlans"];

/// What `cargo xtask test` runs of all, in two or three minutes on two busy cores: the programs load, sit on interfaces by clsact and at
/// sockets, answer, fall silent, balance.
pub(super) const QUICK: [&str; 7] = [
    "addresses",
    "balance_flows",
    "balance_here",
    "frames_arp",
    "lease",
    "object",
    "vlans",
];

/// A test program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// As in `tests/NAME.rs`; the crate's for its own tests.
    pub(super) name: String,
    pub(super) file: PathBuf,
}

/// All that runs.
#[derive(Debug)]
pub(super) struct Suite {
    programs: Vec<Program>,
    /// Nobody has chosen: what is left out is left out.
    all: bool,
}

impl Suite {
    /// Of the built programs those whose name contains one of `chosen`, or all that are not left out.
    pub(super) fn of(files: &[PathBuf], chosen: &[impl AsRef<str>]) -> Result<Self> {
        let mut programs: Vec<Program> = files.iter().filter_map(|file| program(file)).collect();
        programs.sort_by(|a, b| a.name.cmp(&b.name));
        let there = |name: &str| programs.iter().any(|program| program.name == name);
        let named = LEFT_OUT.iter().map(|(name, _)| name);
        let named = named.chain(LEFT_OUT_TESTS.iter().map(|(name, _, _)| name));
        if let Some(gone) = named.into_iter().find(|name| !there(name)) {
            bail!(
                "{gone} is left out of the emulated kernel, but there is no such test program any more"
            );
        }
        let all = chosen.is_empty();
        // A whole name is that program, not all that contain it.
        let whole: Vec<String> = programs.iter().map(|it| it.name.clone()).collect();
        let asked = |program: &Program, part: &str| match whole.iter().any(|name| name == part) {
            true => program.name == part,
            false => program.name.contains(part),
        };
        let nothing = |part: &&str| !programs.iter().any(|program| asked(program, part));
        if let Some(part) = chosen.iter().map(AsRef::as_ref).find(nothing) {
            bail!("no test program of {CRATE} has {part} in its name");
        }
        programs.retain(|program| match all {
            true => !LEFT_OUT.iter().any(|(name, _)| *name == program.name),
            false => chosen.iter().any(|part| asked(program, part.as_ref())),
        });
        Ok(Self { programs, all })
    }

    pub(super) fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// What init reads, one line for each program: its name, the limit in seconds, arguments.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.programs.iter().map(|program| {
            let skip = |test: &str| format!(" --skip {test}");
            let skips: String = self.skipped(&program.name).into_iter().map(skip).collect();
            let ignored = match HERE_ALONE.contains(&program.name.as_str()) {
                true => " --include-ignored",
                false => "",
            };
            let name = &program.name;
            format!("{name} {LIMIT} --test-threads=2 --exact{ignored}{skips}")
        })
    }

    /// Tests of a program that are left out.
    pub(super) fn skipped(&self, program: &str) -> Vec<&'static str> {
        let of = LEFT_OUT_TESTS.iter().filter(|(of, _, _)| *of == program);
        of.map(|(_, test, _)| *test).collect()
    }

    /// What does not run and why, one line each.
    pub(super) fn left_out(&self) -> Vec<String> {
        let programs = LEFT_OUT.iter().map(|(name, why)| format!("{name}: {why}"));
        let programs = programs.filter(|_| self.all);
        let runs = |name: &str| self.programs.iter().any(|program| program.name == name);
        let tests = LEFT_OUT_TESTS.iter().filter(|(name, _, _)| runs(name));
        let tests = tests.map(|(name, test, why)| format!("{name} {test}: {why}"));
        programs.chain(tests).collect()
    }
}

/// `deps/frames_arp-0123456789abcdef` is `frames_arp`.
fn program(file: &Path) -> Option<Program> {
    let (name, _hash) = file.file_name()?.to_str()?.rsplit_once('-')?;
    let (name, file) = (name.to_owned(), file.to_owned());
    Some(Program { name, file })
}

/// Builds the test programs of the crate, as a part of what `packages` says, and returns their files.
pub(super) fn build(packages: &[&str]) -> Result<Vec<PathBuf>> {
    let mut cargo = sh::cargo("test --no-run --message-format=json-render-diagnostics");
    let said = sh::output(cargo.args(packages).stderr(Stdio::inherit()))
        .context("the test programs were not built")?;
    let files = executables(&said);
    if files.is_empty() {
        bail!("cargo names no test program of {CRATE}");
    }
    Ok(files)
}

/// The test programs in cargo's messages, of which each is one line.
fn executables(messages: &str) -> Vec<PathBuf> {
    let ours = format!("#{CRATE}@");
    let of_ours = |line: &&str| {
        line.contains(r#""reason":"compiler-artifact""#)
            && text(line, "package_id").is_some_and(|id| id.contains(&ours))
    };
    let lines = messages.lines().filter(of_ours);
    let files = lines.filter_map(|line| text(line, "executable"));
    files.map(PathBuf::from).collect()
}

/// The text of a key in a line of JSON. Good enough for names and paths, in which nothing is escaped.
fn text<'a>(json: &'a str, key: &str) -> Option<&'a str> {
    let begin = format!(r#""{key}":""#);
    let (_, rest) = json.split_once(&begin)?;
    rest.split('"').next()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Nobody has chosen.
    const NOTHING: &[&str] = &[];

    /// Built programs of these names, and those that are left out.
    pub(in super::super) fn files(names: &[&str]) -> Vec<PathBuf> {
        let left_out = LEFT_OUT.iter().map(|(name, _)| *name);
        let left_out = left_out.chain(LEFT_OUT_TESTS.iter().map(|(name, _, _)| *name));
        let names = names.iter().copied().chain(left_out);
        let file = |name| PathBuf::from(format!("/t/deps/{name}-0123456789abcdef"));
        names.map(file).collect()
    }

    fn names(suite: &Suite) -> Vec<&str> {
        suite.programs.iter().map(|it| it.name.as_str()).collect()
    }

    #[test]
    fn what_is_left_out_runs_only_if_it_is_asked_for() {
        let files = files(&["frames_arp"]);
        let all = Suite::of(&files, NOTHING).unwrap();
        assert!(names(&all).contains(&"frames_arp") && !names(&all).contains(&"twin"));
        assert!(all.left_out().iter().any(|line| line.starts_with("twin: ")));
        let chosen = Suite::of(&files, &["twin".to_owned()]).unwrap();
        assert_eq!(names(&chosen), ["twin"]);
    }

    #[test]
    fn a_whole_name_is_one_program_and_a_part_of_names_is_all_that_have_it() {
        let files = files(&["lease", "frames_lease", "frames_arp"]);
        let chosen = |part| Suite::of(&files, &[part]).unwrap();
        assert_eq!(names(&chosen("lease")), ["lease"]);
        assert_eq!(names(&chosen("frames")), ["frames_arp", "frames_lease"]);
    }

    #[test]
    fn a_name_on_the_list_that_is_no_program_is_an_error_and_so_is_a_run_of_nothing() {
        let gone = Suite::of(&[PathBuf::from("/t/deps/frames_arp-0")], NOTHING);
        assert!(
            gone.unwrap_err()
                .to_string()
                .contains("no such test program")
        );
        let nothing = Suite::of(&files(&["frames_arp"]), &["fantasy".to_owned()]);
        assert!(nothing.unwrap_err().to_string().contains("fantasy"));
    }

    #[test]
    fn programs_of_the_crate_are_found_in_what_cargo_says() {
        let said = r##"{"reason":"compiler-artifact","package_id":"path+file:///r/datapath/linux#vipd-datapath@0.1.0","target":{"name":"lease"},"executable":"/t/deps/lease-0123"}
{"reason":"compiler-artifact","package_id":"path+file:///r/datapath/linux#vipd-datapath@0.1.0","target":{"name":"vipd_datapath"},"executable":null}
{"reason":"compiler-artifact","package_id":"path+file:///r/daemon/vipd#0.1.0","target":{"name":"vipd"},"executable":"/t/deps/vipd-0123"}
{"reason":"build-finished","success":true}"##;
        assert_eq!(executables(said), [PathBuf::from("/t/deps/lease-0123")]);
    }
}
