//! ucarp of Debian: CARP, an advertisement each second (it knows no shorter time), IPv4 only.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{FIRST_V4, Program};
use crate::lab::Host;

/// Skews of the servers, by rank.
const SKEWS: [&str; 3] = ["0", "50", "100"];
/// The virtual address.
const VIP: Ipv4Addr = FIRST_V4;

/// ucarp has nothing to choose here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ucarp;

impl Program for Ucarp {
    fn name(&self) -> String {
        "ucarp 1 s".to_owned()
    }

    fn vips(&self) -> usize {
        1
    }

    fn addresses(&self) -> Vec<IpAddr> {
        vec![VIP.into()]
    }

    fn command(&self, host: &Host, rank: usize) -> Result<Command> {
        let mut command = Command::new("ucarp");
        command
            .args(["--interface", host.interface()])
            .args(["--srcip", &host.v4().to_string()])
            .args([
                "--vhid",
                "51",
                "--pass",
                "bench",
                "--addr",
                &VIP.to_string(),
            ])
            .args(["--advbase", "1", "--advskew", SKEWS[rank]])
            .args(["--deadratio", "3", "--preempt", "--shutdown"])
            .arg("--upscript")
            .arg(script(host, "add")?)
            .arg("--downscript")
            .arg(script(host, "del")?);
        Ok(command)
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn detection(&self) -> Duration {
        // Its formula says three seconds and the skew; it takes up to one and a half more.
        Duration::from_millis(4500)
    }
}

/// What ucarp runs when it becomes master (`add`) or ceases to be (`del`).
fn script(host: &Host, verb: &str) -> Result<PathBuf> {
    let path = host.disk().join(format!("vip-{verb}"));
    let text = format!(
        "#!/bin/sh\nexec ip addr {verb} {VIP}/32 dev {}\n",
        host.interface()
    );
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", path.display()))?;
    Ok(path)
}
