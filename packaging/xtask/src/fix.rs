//! `cargo xtask fix`: the writing twin of `verify`. Formats, and takes clippy's machine-applicable advice.

use anyhow::Result;

use crate::sh;
use crate::stage::Stages;
use crate::verify::MANIFESTS;

/// Fixes what a program can fix; what remains is for `verify` to report.
pub(crate) fn run() -> Result<()> {
    let mut stages = Stages::new("fix");
    stages.run("clippy", || {
        let line = "clippy --fix --allow-dirty --allow-staged --workspace --all-targets";
        sh::run(&mut sh::cargo(line))
    });
    stages.run("fmt", || {
        MANIFESTS
            .iter()
            .try_for_each(|manifest| sh::run(sh::cargo("fmt --all --manifest-path").arg(manifest)))
    });
    stages.finish()
}
