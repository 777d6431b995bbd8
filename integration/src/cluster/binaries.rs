//! Which `vipd` and `vipctl` the lab runs.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// The two programs under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// The daemon.
    pub vipd: PathBuf,
    /// The command.
    pub vipctl: PathBuf,
}

impl Binaries {
    /// The ones that `cargo build` put next to the running test or program (`target/<profile>/`).
    pub fn built() -> Result<Self> {
        let me = std::env::current_exe().context("cannot find the running program")?;
        // Tests lie in `deps`, programs beside the others.
        let profile = me
            .ancestors()
            .skip(1)
            .find(|folder| !folder.ends_with("deps"))
            .context("the program runs outside a target folder")?;
        let found = Self {
            vipd: profile.join("vipd"),
            vipctl: profile.join("vipctl"),
        };
        for program in [&found.vipd, &found.vipctl] {
            if !program.exists() {
                let release = if profile.ends_with("release") {
                    " --release"
                } else {
                    ""
                };
                bail!(
                    "{} is not built; build it with: cargo build{release} -p vipd -p vipctl",
                    program.display()
                );
            }
        }
        Ok(found)
    }
}
