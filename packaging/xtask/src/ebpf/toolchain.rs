//! The tools that build the eBPF object: Debian 12's own newer compiler with LLVM 22, and bpf-linker on the same LLVM.
//!
//! Not the rustup toolchain: that has no source of the standard library, which a bare target needs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::apt::{self, Need, file, program};
use crate::{repo, sh};

pub(super) const TARGET: &str = "bpfel-unknown-none";
pub(super) const CARGO: &str = "/usr/bin/cargo";
pub(super) const RUSTC: &str = "/usr/bin/rustc";
pub(super) const STRIP: &str = "/usr/lib/llvm-22/bin/llvm-strip";
const LLVM: &str = "/usr/lib/llvm-22";
const LLVM_CONFIG: &str = "/usr/lib/llvm-22/bin/llvm-config";
const LINKER: &str = "bpf-linker";
const LINKER_VERSION: &str = "0.13.0";

/// The compiler, and what bpf-linker is built against.
const NEEDS: &[Need] = &[
    file(RUSTC, "rustc-web"),
    file(CARGO, "cargo-web"),
    file("/usr/lib/rustlib/src/rust/library/core", "rust-web-src"),
    file(LLVM_CONFIG, "llvm-22-dev"),
    file("/usr/lib/llvm-22/lib/libPolly.a", "libpolly-22-dev"),
    file("/usr/include/zstd.h", "libzstd-dev"),
    file("/usr/include/zlib.h", "zlib1g-dev"),
    program("cc", "gcc"),
    program("c++", "g++"),
];

/// The tools, present and of known versions.
pub(super) struct Toolchain {
    linker: PathBuf,
    versions: [String; 3],
}

impl Toolchain {
    /// Finds the tools; installs what is missing.
    pub(super) fn ensure() -> Result<Self> {
        apt::ensure("building the eBPF object", NEEDS)?;
        let linker = linker()?;
        let version = |program: &Path, argument: &str| {
            sh::output(sh::command(program).arg(argument)).map(|text| text.trim().to_owned())
        };
        let versions = [
            version(Path::new(RUSTC), "-V")?,
            version(&linker, "-V")?,
            format!("LLVM {}", version(Path::new(LLVM_CONFIG), "--version")?),
        ];
        Ok(Self { linker, versions })
    }

    /// The text that is checked in beside the object.
    pub(super) fn record(&self) -> String {
        format!("{}\n", self.versions.join("\n"))
    }

    /// `PATH` for the build: the linker first, then the system, without rustup's folders.
    pub(super) fn path(&self) -> OsString {
        let mut path = self
            .linker
            .parent()
            .map(|dir| dir.as_os_str().to_owned())
            .unwrap_or_default();
        path.push(":/usr/bin:/bin");
        path
    }
}

/// bpf-linker at the one version that counts: from `PATH`, or built under `target/tools`.
fn linker() -> Result<PathBuf> {
    let ours = repo::tools().join("bin").join(LINKER);
    let found = sh::which(LINKER).into_iter().chain([ours.clone()]);
    for candidate in found.filter(|path| path.exists()) {
        let said = sh::output(sh::command(&candidate).arg("-V")).unwrap_or_default();
        if said.trim() == format!("{LINKER} {LINKER_VERSION}") {
            return Ok(candidate);
        }
    }
    let title = format!("building {LINKER} {LINKER_VERSION} (about a minute, once)");
    println!("    {title}");
    let mut install =
        sh::cargo("install --locked --force --no-default-features --features llvm-22");
    install
        .args([LINKER, "--version", LINKER_VERSION, "--root"])
        .arg(repo::tools())
        .env("LLVM_PREFIX", LLVM);
    sh::quiet(&title, &mut install).with_context(|| format!("cannot build {LINKER}"))?;
    Ok(ours)
}
