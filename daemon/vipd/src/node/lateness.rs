//! Whether the beats come in time for the lease.

use std::time::Duration;

/// The part of a lease that the slowest beats may be late.
const PART: u32 = 4;

/// What is wrong when the slowest of 10,000 beats is `late` by more than a quarter of the lease, and what helps. From there it
/// is not far to a lease that ends although nobody is dead.
pub(super) fn complaint(late: Duration, lease: Duration, realtime: bool) -> Option<String> {
    let limit = lease / PART;
    if late <= limit {
        return None;
    }
    let cure = if realtime {
        "set a slower lease.profile, or take load off this host"
    } else {
        "give vipd CAP_SYS_NICE (AmbientCapabilities= in its unit), so that its beats run in the real-time class, or set a \
         slower lease.profile"
    };
    Some(format!(
        "beats are up to {} ms late, more than a quarter of the lease of {} ms: a lease may end for nothing. Next: {cure}",
        late.as_millis(),
        lease.as_millis()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAN: Duration = Duration::from_millis(150);

    #[test]
    fn a_quarter_of_the_lease_is_in_time_and_more_is_a_complaint_that_knows_the_cure() {
        assert_eq!(complaint(Duration::from_micros(37_500), LAN, true), None);
        let late = Duration::from_micros(50_000);
        assert!(
            complaint(late, LAN, true)
                .unwrap()
                .contains("slower lease.profile")
        );
        assert!(
            complaint(late, LAN, false)
                .unwrap()
                .contains("CAP_SYS_NICE")
        );
    }
}
