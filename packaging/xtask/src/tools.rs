//! Cargo programs that only this repository's tasks use: pinned, and kept under `target/tools`.

use std::path::PathBuf;

use anyhow::Result;

use crate::{repo, sh};

/// A program from crates.io at the one version that the tasks were written against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    /// Crate and program name.
    pub(crate) name: &'static str,
    /// Exact version.
    pub(crate) version: &'static str,
    /// Further arguments of `cargo install`.
    pub(crate) options: &'static [&'static str],
}

/// Licences, bans and sources of the dependencies.
pub(crate) const DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
    options: &[],
};
/// Builds the Debian package. Without its xz feature it needs no liblzma headers; it calls `xz` instead.
pub(crate) const DEB: Tool = Tool {
    name: "cargo-deb",
    version: "3.8.0",
    options: &["--no-default-features"],
};
/// Builds the RPM package.
pub(crate) const RPM: Tool = Tool {
    name: "cargo-generate-rpm",
    version: "0.21.1",
    options: &[],
};

impl Tool {
    /// The program's path; builds it first if this version is not there yet.
    ///
    /// Unoptimised, because these run for seconds and an optimised build takes minutes.
    pub(crate) fn ensure(&self) -> Result<PathBuf> {
        let program = repo::tools().join("bin").join(self.name);
        let stamp = repo::tools().join(format!("{}.version", self.name));
        let wanted = format!("{} {}", self.version, self.options.join(" "));
        if program.exists() && std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
            return Ok(program);
        }
        let title = format!(
            "building {} {} (about a minute, once)",
            self.name, self.version
        );
        println!("    {title}");
        let mut install = sh::cargo("install --locked --debug --force");
        install.args([self.name, "--version", self.version, "--root"]);
        install.arg(repo::tools()).args(self.options);
        install.env("CARGO_PROFILE_DEV_DEBUG", "0");
        sh::quiet(&title, &mut install)?;
        std::fs::write(&stamp, wanted)?;
        Ok(program)
    }
}
