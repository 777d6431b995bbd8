//! Where things are: the repository root and the build directory.

use std::path::{Path, PathBuf};

/// The root of the repository: two levels above this crate.
///
/// Taken from the compiled-in manifest directory, so that `cargo xtask` works from any folder inside the tree.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Cargo's build directory: `CARGO_TARGET_DIR` when set, else `target/` in the root.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => root().join(dir),
        _ => root().join("target"),
    }
}

/// The programs of the given cargo profile directory (`debug` or `release`).
pub(crate) fn program(profile: &str, name: &str) -> PathBuf {
    target().join(profile).join(name)
}

/// Tools that only this repository uses are installed here, never into the developer's own `~/.cargo/bin`.
pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}

/// The version of the workspace, which every crate and package carries.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
