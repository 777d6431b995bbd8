//! Looks into the finished packages: every file at its place, the scripts and dependencies right, no linter error.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{repo, sh};

/// Every file that both packages must hold.
const FILES: &[&str] = &[
    "/usr/bin/vipd",
    "/usr/bin/vipctl",
    "/etc/vipd/vipd.toml.sample",
    "/usr/lib/systemd/system/vipd.service",
    "/usr/lib/sysusers.d/vipd.conf",
    "/usr/lib/tmpfiles.d/vipd.conf",
    "/usr/share/bash-completion/completions/vipctl",
    "/usr/share/fish/vendor_completions.d/vipctl.fish",
    "/usr/share/man/man1/vipctl.1.gz",
    "/usr/share/man/man5/vipd.toml.5.gz",
    "/usr/share/man/man8/vipd.8.gz",
];

/// No package ships a live configuration: installing must never start a half-configured node.
const LIVE_CONFIG: &str = "/etc/vipd/vipd.toml";

/// Checks a deb's files, fields and scripts, and asks lintian.
pub(crate) fn deb(deb: &Path) -> Result<()> {
    let list = sh::output(sh::command("dpkg-deb").arg("--contents").arg(deb))?;
    let files: Vec<String> = list
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .map(|path| {
            path.trim_start_matches('.')
                .trim_end_matches('/')
                .to_owned()
        })
        .collect();
    holds(&files, FILES.iter().copied())?;
    let fields = sh::output(sh::command("dpkg-deb").arg("--field").arg(deb))?;
    for wanted in [
        "Package: vipd",
        "Depends: ",
        "libc6 (>= 2.34)",
        "Section: net",
        "Maintainer: ",
    ] {
        if !fields.contains(wanted) {
            bail!(
                "{} lacks `{wanted}` in its control fields:\n{fields}",
                deb.display()
            );
        }
    }
    let postinst = sh::output(
        sh::command("dpkg-deb")
            .arg("--info")
            .arg(deb)
            .arg("postinst"),
    )?;
    for wanted in ["systemd-sysusers", "vipd.conf", "deb-systemd-helper"] {
        if !postinst.contains(wanted) {
            bail!(
                "the postinst script of {} does not call {wanted}:\n{postinst}",
                deb.display()
            );
        }
    }
    sh::run(
        sh::command("lintian")
            .args(["--allow-root", "--fail-on", "error"])
            .arg(deb),
    )
}

/// Checks an rpm's files and scriptlets.
pub(crate) fn rpm(rpm: &Path) -> Result<()> {
    let query = |what: &str| {
        sh::output(
            sh::command("rpm")
                .args(["--query", "--package", what])
                .arg(rpm),
        )
    };
    let files: Vec<String> = query("--list")?.lines().map(str::to_owned).collect();
    holds(&files, FILES.iter().copied())?;
    let scripts = query("--scripts")?;
    for wanted in [
        "systemd-sysusers",
        "systemd-tmpfiles",
        "daemon-reload",
        "try-reload-or-restart",
    ] {
        if !scripts.contains(wanted) {
            bail!(
                "the scriptlets of {} do not call {wanted}:\n{scripts}",
                rpm.display()
            );
        }
    }
    let config = query("--configfiles")?;
    if !config.contains("/etc/vipd/vipd.toml.sample") {
        bail!(
            "{} does not mark its sample configuration as a configuration file",
            rpm.display()
        );
    }
    sh::output(
        sh::command("rpm")
            .args(["--checksig", "--nosignature"])
            .arg(rpm),
    )
    .map(drop)
}

/// Asks the daemon about the shipped sample: as it is, and with every key in force (`#key`; prose is `# text`).
pub(crate) fn sample(vipd: &Path, stage: &Path) -> Result<()> {
    let sample = repo::root().join("packaging/vipd.toml");
    let text =
        fs::read_to_string(&sample).with_context(|| format!("cannot read {}", sample.display()))?;
    // The folder of checks must be there, and nobody else's.
    let checks = stage.join("checks");
    fs::create_dir_all(&checks)
        .and_then(|()| fs::set_permissions(&checks, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot make {}", checks.display()))?;
    let keys = in_force(&text).replace("/etc/vipd/checks", &checks.to_string_lossy());
    let all = stage.join("every-key.toml");
    fs::write(&all, keys).with_context(|| format!("cannot write {}", all.display()))?;
    for file in [&sample, &all] {
        sh::output(sh::command(vipd).args(["check", "--config"]).arg(file))?;
    }
    Ok(())
}

/// The sample with its keys no longer commented out.
fn in_force(sample: &str) -> String {
    let bare = |line: &str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|first: char| first.is_ascii_lowercase()) => {
            format!("{key}\n")
        }
        _ => format!("{line}\n"),
    };
    sample.lines().map(bare).collect()
}

/// Fails with every file that is missing, or with the one that must not be there.
fn holds<'a>(files: &[String], wanted: impl Iterator<Item = &'a str>) -> Result<()> {
    let missing: Vec<&str> = wanted
        .filter(|want| !files.iter().any(|file| file == want))
        .collect();
    if !missing.is_empty() {
        bail!(
            "the package lacks {}; it has\n{}",
            missing.join(", "),
            files.join("\n")
        );
    }
    if files.iter().any(|file| file == LIVE_CONFIG) {
        bail!("the package ships {LIVE_CONFIG}, which only `vipd init` and `vipd join` may write");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<String> {
        FILES.iter().map(|file| (*file).to_owned()).collect()
    }

    #[test]
    fn a_complete_package_passes() {
        holds(&all(), FILES.iter().copied()).unwrap();
    }

    #[test]
    fn a_missing_file_is_named() {
        let files = all().split_off(1);
        let error = holds(&files, FILES.iter().copied())
            .unwrap_err()
            .to_string();
        assert!(error.contains("lacks /usr/bin/vipd;"), "{error}");
    }

    #[test]
    fn keys_come_into_force_and_prose_stays_prose() {
        assert_eq!(
            in_force("# a key\n#key = 1\n[part]\n"),
            "# a key\nkey = 1\n[part]\n"
        );
    }

    #[test]
    fn a_live_configuration_is_refused() {
        let mut files = all();
        files.push(LIVE_CONFIG.to_owned());
        assert!(
            holds(&files, FILES.iter().copied())
                .unwrap_err()
                .to_string()
                .contains("only `vipd init`")
        );
    }
}
