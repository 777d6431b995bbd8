//! `cargo xtask kernel`: the datapath's tests on the oldest kernel that vipd supports, in an emulated machine.
//!
//! Debian's own kernel boots with nothing but the test programs, what they call, and an init that runs them one after the
//! other and says on the serial console what came of each. The machine has no network and no disk, nothing of it is installed
//! here but the emulator, and it needs neither root nor KVM.

mod debian;
mod image;
mod machine;
mod report;
mod suite;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use crate::stage::Stages;
use crate::{apt, ebpf, needs, repo};
use suite::Suite;

/// The oldest kernel that vipd supports, as `README.md` and `vipd_datapath::OLDEST_KERNEL` state it, too.
const OLDEST: &str = "6.1";

/// What to run there.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Only test programs of vipd-datapath with one of these names, or with a part of one; also those that are otherwise left out.
    programs: Vec<String>,
    /// Build the eBPF object anew and test that one, not the checked-in one.
    #[arg(long)]
    fresh_ebpf: bool,
}

/// Fails if a test fails, if a program or the machine dies or takes too long, and if no test ran.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut stages = Stages::new("kernel");
    let object = if options.fresh_ebpf {
        stages.run("build a fresh eBPF object", ebpf::build_fresh)
    } else {
        Some(ebpf::checked_in_object())
    };
    if let Some(object) = object {
        let built = stages.run("build", || suite::build(&["-p", suite::CRATE]));
        if let Some(programs) = built {
            stages.run(&title(), || boot(&programs, &options.programs, &object));
        }
    }
    stages.finish()
}

/// The quick part of it, as a stage of `cargo xtask test`: that has built everything, so nothing is compiled anew.
pub(crate) fn test(object: Option<&Path>) -> Result<()> {
    if !debian::HERE {
        println!("    not run: the emulated machine is an x86_64, and this one is none");
        return Ok(());
    }
    let programs = suite::build(&["--workspace", "--exclude", crate::test::LAB])?;
    let checked_in = ebpf::checked_in_object();
    boot(&programs, &suite::QUICK, object.unwrap_or(&checked_in))
}

/// How the stage is called.
pub(crate) fn title() -> String {
    format!("the datapath on Linux {OLDEST}, emulated")
}

fn boot(programs: &[PathBuf], chosen: &[impl AsRef<str>], object: &Path) -> Result<()> {
    apt::ensure("the emulated kernel", needs::KERNEL)?;
    let suite = Suite::of(programs, chosen)?;
    for line in suite.left_out() {
        println!("    not run: {line}");
    }
    let parts = debian::Parts::ensure()?;
    let image = image::pack(&parts, &suite, object)?;
    println!("    booting Linux {}", parts.release);
    let console = dir().join("console");
    let report = machine::boot(&parts.vmlinuz, &image, &console)?;
    println!("{report}");
    report.judge(&suite, &console)
}

/// All that this task makes.
fn dir() -> PathBuf {
    repo::target().join("kernel")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_emulated_kernel_is_the_oldest_one_that_the_readme_promises() {
        let readme = std::fs::read_to_string(repo::root().join("README.md")).unwrap();
        let promise = format!("Needed: Linux {OLDEST} or later");
        assert!(readme.contains(&promise), "README.md lacks {promise:?}");
    }
}
