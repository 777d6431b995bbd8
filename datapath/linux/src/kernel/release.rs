//! The kernel that runs, against the oldest one that the tests run on.

use std::fs;

/// The oldest kernel, by major and minor number, that vipd supports: that of Debian 12. `cargo xtask kernel` runs the tests on it.
pub const OLDEST_KERNEL: (u16, u16) = (6, 1);

/// Says once, at the start, that the kernel is older than any that vipd is tested on. No refusal: distributions bring what is
/// newer into kernels with old numbers, and a kernel that really can't refuses the programs itself.
pub(super) fn check() {
    let running = running();
    if is_older(&running) {
        let (major, minor) = OLDEST_KERNEL;
        tracing::warn!(
            "this is Linux {running}, and vipd is tested on {major}.{minor} and later: if it works, nobody has seen that it does"
        );
    }
}

/// What the kernel says of itself, such as `6.1.0-56-cloud-amd64`.
pub(crate) fn running() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    release.map_or_else(
        |_| "of unknown age".to_owned(),
        |text| text.trim().to_owned(),
    )
}

/// One that can't be read is not.
fn is_older(release: &str) -> bool {
    numbers(release).is_some_and(|found| found < OLDEST_KERNEL)
}

fn numbers(release: &str) -> Option<(u16, u16)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || parts.next()?.parse().ok();
    Some((number()?, number()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_before_the_oldest_that_is_tested_are_known_by_their_release() {
        for old in ["5.14.0-570.el9.x86_64", "6.0.19", "4.19"] {
            assert!(is_older(old), "{old}");
        }
        for fit in ["6.1", "6.1.0-56-cloud-amd64", "6.18.44", "7.0-rc1", "10.0"] {
            assert!(!is_older(fit), "{fit}");
        }
    }

    #[test]
    fn a_release_that_says_nothing_is_no_reason_to_warn() {
        for odd in ["", "of unknown age", "6", "x.y", "99999999.1"] {
            assert_eq!(numbers(odd), None, "{odd}");
            assert!(!is_older(odd), "{odd}");
        }
    }

    #[test]
    fn the_oldest_kernel_is_the_one_that_the_readme_promises() {
        let (major, minor) = OLDEST_KERNEL;
        let promise = format!("Needed: Linux {major}.{minor} or later");
        assert!(
            include_str!("../../../../README.md").contains(&promise),
            "{promise}"
        );
    }

    #[test]
    fn the_running_kernel_says_its_release() {
        assert!(numbers(&running()).is_some(), "{}", running());
    }
}
