//! The capabilities the datapath needs, checked first, so that nobody has to guess what an EPERM
//! from deep inside means.

use std::fs;

use crate::DatapathError;

/// Number, name and purpose. CAP_SYS_ADMIN stands in for the first two, as in the kernel.
const NEEDED: [(u32, &str, &str); 4] = [
    (39, "CAP_BPF", "load its eBPF programs"),
    (38, "CAP_PERFMON", "have the verifier accept them"),
    (12, "CAP_NET_ADMIN", "attach them and to add addresses"),
    (13, "CAP_NET_RAW", "announce addresses"),
];
const SYS_ADMIN: u32 = 21;

/// Fails with the first capability that this process lacks.
pub(crate) fn check() -> Result<(), DatapathError> {
    let status = fs::read_to_string("/proc/self/status")
        .map_err(|source| DatapathError::system("read /proc/self/status", source))?;
    missing(effective(&status).unwrap_or(0))
}

fn effective(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn missing(effective: u64) -> Result<(), DatapathError> {
    let has = |number: u32| effective >> number & 1 == 1;
    for (number, capability, purpose) in NEEDED {
        let by_proxy = matches!(number, 38 | 39) && has(SYS_ADMIN);
        if !(has(number) || by_proxy) {
            return Err(DatapathError::MissingCapability {
                capability,
                purpose,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_missing_capability_is_named_with_the_way_to_give_it() {
        let all = 1 << 39 | 1 << 38 | 1 << 12 | 1 << 13;
        assert!(missing(all).is_ok());
        assert!(missing(1 << SYS_ADMIN | 1 << 12 | 1 << 13).is_ok());
        for (number, name, _) in NEEDED {
            let error = missing(all & !(1 << number)).unwrap_err().to_string();
            assert!(error.contains(&format!("lacks {name}")), "{error}");
            assert!(error.contains("AmbientCapabilities="), "{error}");
        }
    }

    #[test]
    fn the_effective_set_is_read_from_the_status_file() {
        let status = "Name:\tvipd\nCapPrm:\t0\nCapEff:\t000001ffffffffff\n";
        assert_eq!(effective(status), Some(0x1ff_ffff_ffff));
    }
}
