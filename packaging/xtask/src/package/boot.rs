//! Installs the packages where they will live: a small Debian, booted by a real systemd in a container of its own.
//!
//! The container has its own network, mounts and processes; nothing of this machine is touched. What is claimed
//! about the package stands in `lifecycle.sh`, one sentence a line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::contents::write;
use crate::{apt, needs, repo, sh};

/// What runs inside.
const LIFECYCLE: &str = include_str!("lifecycle.sh");

/// Runs `LIFECYCLE` once the system is up, and ends the container whatever came of it.
const UNIT: &str = "\
[Unit]
Description=The life of the vipd package
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh /out/lifecycle.sh
StandardOutput=file:/out/log
StandardError=inherit
ExecStopPost=systemctl poweroff --no-block
";

/// The outer side: mounts that systemd-nspawn wants and some machines lack, seen by this process tree alone.
const OUTER: &str = "\
set -e
mount -t tmpfs tmpfs /run/systemd
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /sys/fs/cgroup/vipd-package && echo $$ >/sys/fs/cgroup/vipd-package/cgroup.procs
exec script -qec \"systemd-nspawn --boot --directory=$ROOT --bind=$OUT:/out --register=no --keep-unit \
    --capability=all --system-call-filter=bpf\" /dev/null
";

/// Debian release that is booted; the oldest one that the programs' glibc allows.
const RELEASE: &str = "bookworm";

/// Longest life of the container, in seconds.
const LIMIT: &str = "120";

/// Lives through installation, upgrade from `old` to `new`, removal and purge; then through the life of the `rpm`.
pub(crate) fn test(old: &Path, new: &Path, rpm: &Path) -> Result<()> {
    sh::require_root("booting a container", "cargo xtask package --test")?;
    apt::ensure("the package test", needs::BOOT)?;
    let tar = rootfs()?;
    let room = super::dir().join("boot");
    if room.exists() {
        fs::remove_dir_all(&room).with_context(|| format!("cannot empty {}", room.display()))?;
    }
    let (root, out) = (room.join("root"), room.join("out"));
    for dir in [&root, &out] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    sh::run(sh::command("tar").arg("-xf").arg(&tar).arg("-C").arg(&root))?;
    let units = root.join("etc/systemd/system");
    write(&units.join("lifecycle.service"), UNIT)?;
    let wants = units.join("graphical.target.wants");
    fs::create_dir_all(&wants).with_context(|| format!("cannot make {}", wants.display()))?;
    std::os::unix::fs::symlink("../lifecycle.service", wants.join("lifecycle.service"))
        .with_context(|| format!("cannot link into {}", wants.display()))?;
    write(&out.join("lifecycle.sh"), LIFECYCLE)?;
    for (from, name) in [(old, "old.deb"), (new, "new.deb"), (rpm, "vipd.rpm")] {
        fs::copy(from, out.join(name))
            .with_context(|| format!("cannot copy {}", from.display()))?;
    }
    boot(&root, &out)?;
    let log = fs::read_to_string(out.join("log")).unwrap_or_default();
    println!("{}", log.trim_end());
    if !fs::read_to_string(out.join("verdict")).is_ok_and(|verdict| verdict.trim() == "ok") {
        bail!(
            "the package's life ended early: see the last sentence above, and {}",
            out.join("console").display()
        );
    }
    fs::remove_dir_all(&room).with_context(|| format!("cannot remove {}", room.display()))
}

/// Boots the container and waits until it has powered itself off.
fn boot(root: &Path, out: &Path) -> Result<()> {
    let console = out.join("console");
    let file = fs::File::create(&console)
        .with_context(|| format!("cannot write {}", console.display()))?;
    let copy = file.try_clone().context("cannot share the console file")?;
    let mut outer = sh::command("timeout");
    outer.args([
        "--kill-after=5",
        LIMIT,
        "unshare",
        "--mount",
        "--net",
        "sh",
        "-c",
        OUTER,
    ]);
    outer
        .env("ROOT", root)
        .env("OUT", out)
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(copy);
    let status = outer.status().context("cannot start the container")?;
    if !status.success() {
        let said = fs::read_to_string(&console).unwrap_or_default();
        bail!(
            "the container ended with {status}:\n{}",
            sh::tail(said.lines())
        );
    }
    Ok(())
}

/// A minimal Debian, made once and kept.
fn rootfs() -> Result<PathBuf> {
    let tar = repo::target().join(format!("rootfs-{RELEASE}.tar"));
    if !tar.exists() {
        let part = tar.with_extension("part.tar");
        let include = "--include=systemd,systemd-sysv,dbus,udev,iproute2,procps,rpm";
        let mut make = sh::command("mmdebstrap");
        make.args(["--variant=minbase", include, RELEASE])
            .arg(&part);
        sh::quiet(
            &format!("making a minimal Debian {RELEASE} (once)"),
            &mut make,
        )?;
        fs::rename(&part, &tar).with_context(|| format!("cannot keep {}", tar.display()))?;
    }
    Ok(tar)
}
