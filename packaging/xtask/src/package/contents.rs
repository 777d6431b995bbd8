//! What the packages hold beyond the files of packaging/: stripped programs, manual pages, completions, notices.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{repo, sh};

/// Files that are made rather than written. Both packagers know that `target/release/` in Cargo.toml means cargo's
/// build directory, wherever that is, and this spelling alone.
pub(super) fn staged() -> PathBuf {
    repo::target().join("release/stage")
}

/// Strips copies of the programs, and lets the programs write their own manual pages and completions.
pub(super) fn stage() -> Result<()> {
    let stage = staged();
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| format!("cannot empty {}", stage.display()))?;
    }
    let man = stage.join("man");
    fs::create_dir_all(&man).with_context(|| format!("cannot make {}", man.display()))?;
    for name in ["vipd", "vipctl"] {
        let program = repo::program("release", name);
        if !program.exists() {
            bail!(
                "{} is not there; run `cargo xtask package` without --no-build",
                program.display()
            );
        }
        sh::run(
            sh::command("strip")
                .arg("--strip-all")
                .arg("-o")
                .arg(stage.join(name))
                .arg(&program),
        )?;
    }
    let vipctl = stage.join("vipctl");
    for shell in ["bash", "zsh", "fish"] {
        let text = sh::output(sh::command(&vipctl).args(["completions", shell]))?;
        let file = stage.join(format!("vipctl.{shell}"));
        write(&file, &text)?;
    }
    sh::output(sh::command(&vipctl).arg("man").arg(&man))?;
    write(&man.join("vipd.toml.5"), &config_page()?)?;
    let written = repo::root().join("packaging/man");
    for page in [man.clone(), written].iter().flat_map(|dir| list(dir)) {
        gzip(&page, &man)?;
    }
    write(&stage.join("copyright"), &copyright()?)?;
    write(&stage.join("changelog.Debian"), &debian_changelog()?)?;
    gzip(&stage.join("changelog.Debian"), &stage)?;
    gzip(&repo::root().join("CHANGELOG.md"), &stage)
}

/// The files of a folder, sorted, so that a package's bytes do not depend on the file system's order.
fn list(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

/// `name` becomes `name.gz` in `into`, without a time stamp inside.
fn gzip(file: &Path, into: &Path) -> Result<()> {
    let name = file
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let out = into.join(format!("{name}.gz"));
    let target =
        fs::File::create(&out).with_context(|| format!("cannot write {}", out.display()))?;
    let done = sh::command("gzip")
        .args(["-9", "-n", "-c"])
        .arg(file)
        .stdout(target)
        .status();
    if !done.context("cannot start gzip")?.success() {
        bail!("gzip failed on {}", file.display());
    }
    if file.parent() == Some(into) {
        fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    Ok(())
}

/// vipd.toml(5): the commented sample is the reference, so the manual page shows it as it is.
fn config_page() -> Result<String> {
    let sample = read("packaging/vipd.toml")?
        .replace('\\', "\\e")
        .replace('-', "\\-");
    let lines = sample.lines().map(|line| match line {
        "" => ".sp".to_owned(),
        line => format!("\\&{line}"),
    });
    Ok(format!(
        ".TH VIPD.TOML 5 \"\" \"vipd {}\" \"File formats\"\n.SH NAME\nvipd.toml \\- configuration of vipd\n\
         .SH DESCRIPTION\nEvery key, with its meaning and its default:\n.sp\n.nf\n{}\n.fi\n\
         .SH SEE ALSO\n.BR vipd (8),\n.BR vipctl (1)\n",
        repo::VERSION,
        lines.collect::<Vec<_>>().join("\n")
    ))
}

/// Debian wants a changelog in its own form; ours is CHANGELOG.md, beside it in the package.
fn debian_changelog() -> Result<String> {
    let date = sh::output(sh::command("git").args(["log", "-1", "--format=%cD"]))?;
    Ok(format!(
        "vipd ({}-1) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- The vipd authors <vipd@localhost>  {}\n",
        repo::VERSION,
        date.trim()
    ))
}

fn read(file: &str) -> Result<String> {
    fs::read_to_string(repo::root().join(file)).with_context(|| format!("cannot read {file}"))
}

pub(super) fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Debian's copyright file: both licences, and where the long one is on every Debian system.
fn copyright() -> Result<String> {
    let mit = read("LICENSE-MIT")?;
    let mit = mit.lines().map(|line| match line.trim() {
        "" => " .".to_owned(),
        line => format!(" {line}"),
    });
    let head = read("packaging/debian/copyright.head")?;
    Ok(format!(
        "{head}\nLicense: MIT\n{}\n",
        mit.collect::<Vec<_>>().join("\n")
    ))
}
