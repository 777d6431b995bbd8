//! Symbol names that do not depend on where the object was built.
//!
//! Rust's names carry a hash of their crate, and cargo makes that of the absolute path of a crate outside of the
//! workspace, which `datapath/common` is to `datapath/ebpf`. Everything else in the object is the same anywhere.

use std::path::Path;

use anyhow::Result;

use crate::sh;

const NM: &str = "/usr/lib/llvm-22/bin/llvm-nm";
const OBJCOPY: &str = "/usr/lib/llvm-22/bin/llvm-objcopy";

/// Takes the crate hashes out of all symbol names of an object.
pub(super) fn normalise(object: &Path) -> Result<()> {
    let symbols = sh::output(sh::command(NM).arg("-j").arg(object))?;
    let mut objcopy = sh::command(OBJCOPY);
    for old in symbols.lines().filter(|name| name.starts_with("_R")) {
        objcopy.arg("--redefine-sym");
        objcopy.arg(format!("{old}={}", without_hashes(old)));
    }
    sh::run(objcopy.arg(object))
}

/// `C` is a crate root in a mangled name, `s…_` behind it its hash, in which there may be another `Cs`.
fn without_hashes(name: &str) -> String {
    let (mut plain, mut rest) = (String::new(), name);
    while let Some((before, after)) = rest.split_once("Cs") {
        plain.push_str(before);
        plain.push('C');
        rest = match after.split_once('_') {
            Some((hash, rest)) if hash.bytes().all(|byte| byte.is_ascii_alphanumeric()) => rest,
            _ => {
                plain.push('s');
                after
            }
        };
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_everything_but_the_hash_of_its_crate() {
        let name = "_RNvNtCshdGdYJq1m7Q_9vipd_ebpf3arp6egress";
        assert_eq!(without_hashes(name), "_RNvNtC9vipd_ebpf3arp6egress");
        let name = "_RNvNtCsaRpfxCs4d1_9vipd_ebpf3arp6egress";
        assert_eq!(without_hashes(name), "_RNvNtC9vipd_ebpf3arp6egress");
        assert_eq!(without_hashes("vipd_ingress"), "vipd_ingress");
        assert_eq!(without_hashes("_RNvCs"), "_RNvCs");
    }
}
