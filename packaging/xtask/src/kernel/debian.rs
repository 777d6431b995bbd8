//! What the machine is made of: Debian's kernel and a static busybox, downloaded and unpacked, never installed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{OLDEST, dir};
use crate::apt;

/// Depends on the newest kernel of Debian's release, in its flavour for machines that are emulated: few drivers, 27 MB.
const META: &str = "linux-image-cloud-amd64";
const BUSYBOX: &str = "busybox-static";

/// Whether test programs of this machine run on the emulated one.
pub(super) const HERE: bool = cfg!(target_arch = "x86_64");

/// The unpacked parts.
pub(super) struct Parts {
    /// As `uname -r` says it.
    pub(super) release: String,
    pub(super) vmlinuz: PathBuf,
    /// The folder of its modules.
    pub(super) modules: PathBuf,
    pub(super) busybox: PathBuf,
}

impl Parts {
    /// Finds them under the build directory; downloads them first if they are not there.
    pub(super) fn ensure() -> Result<Self> {
        if !HERE {
            bail!(
                "the emulated machine is an x86_64, as its test programs must be; this one is {}",
                std::env::consts::ARCH
            );
        }
        let unpacked = dir().join("debian");
        if let Some(parts) = Self::find(&unpacked) {
            return Ok(parts);
        }
        println!(
            "    downloading Linux {OLDEST} and {BUSYBOX} from Debian, once; nothing of it is installed"
        );
        if unpacked.exists() {
            let at = unpacked.display();
            fs::remove_dir_all(&unpacked).with_context(|| format!("cannot empty {at}"))?;
        }
        apt::unpack(&unpacked, || Ok(vec![kernel()?, BUSYBOX.to_owned()]))?;
        let lacking = || format!("Debian's packages in {} lack a part", unpacked.display());
        Self::find(&unpacked).with_context(lacking)
    }

    fn find(unpacked: &Path) -> Option<Self> {
        let wanted = format!("{OLDEST}.");
        let all = fs::read_dir(unpacked.join("lib/modules")).ok()?;
        let mut names = all.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let release = names.find(|name| name.starts_with(&wanted))?;
        let parts = Self {
            vmlinuz: unpacked.join(format!("boot/vmlinuz-{release}")),
            modules: unpacked.join("lib/modules").join(&release),
            busybox: unpacked.join("bin/busybox"),
            release,
        };
        (parts.vmlinuz.exists() && parts.busybox.exists()).then_some(parts)
    }

    /// The file of a module.
    pub(super) fn module(&self, name: &str) -> Result<PathBuf> {
        let file = format!("{name}.ko");
        let mut folders = vec![self.modules.clone()];
        while let Some(folder) = folders.pop() {
            let list = || format!("cannot list {}", folder.display());
            for entry in fs::read_dir(&folder).with_context(list)? {
                let path = entry.with_context(list)?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.file_name().is_some_and(|found| found == file.as_str()) {
                    return Ok(path);
                }
            }
        }
        bail!("Linux {} of Debian has no module {name}", self.release)
    }
}

/// The package of the oldest supported kernel.
fn kernel() -> Result<String> {
    let wanted = format!("linux-image-{OLDEST}.");
    let found = apt::depends_on(META)?;
    let kernel = found.iter().find(|name| name.starts_with(&wanted));
    kernel.cloned().with_context(|| {
        format!(
            "no Linux {OLDEST} here: Debian's {META} leads to {}. Debian 12 has it, so run this there, or give apt its package lists",
            found.join(", ")
        )
    })
}
