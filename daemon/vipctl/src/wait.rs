//! Waiting until what was asked is so, with a bound.

use std::future::Future;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use clap::Args;

use crate::failure::Failure;

/// Between two questions: what is quick is told at once, and what takes longer is not asked for so often.
const POLL: Duration = Duration::from_millis(20);
const PATIENT: Duration = Duration::from_millis(200);

/// How long to wait.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct WaitArgs {
    /// Seconds to wait until it is so; 0 to return at once
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    pub(crate) wait: u64,
}

impl WaitArgs {
    /// Asks `probe` again and again until it says `Ok(None)`; what it says last is the reason of the failure.
    pub(crate) async fn until<F>(self, mut probe: impl FnMut() -> F) -> Result<(), Failure>
    where
        F: Future<Output = Result<Option<String>, Failure>>,
    {
        let deadline = Instant::now() + Duration::from_secs(self.wait);
        let mut pause = POLL;
        loop {
            let Some(missing) = probe().await? else {
                return Ok(());
            };
            if Instant::now() >= deadline {
                return Err(Failure::new(
                    format!("accepted, but after {} s {missing}", self.wait),
                    "it goes on by itself; what is in its way is told by vipctl vip list",
                ));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 5 / 4).min(PATIENT);
        }
    }
}

/// The first of these addresses, and how many more there are: of thousands nobody reads them all.
pub(crate) fn few(addresses: &[IpAddr]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<_> = addresses
        .iter()
        .take(SHOWN)
        .map(ToString::to_string)
        .collect();
    let shown = shown.join(", ");
    match addresses.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_addresses_a_few_are_named_and_the_others_counted() {
        let addresses: Vec<IpAddr> = (1..=7).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        assert_eq!(few(&addresses[..2]), "10.0.0.1, 10.0.0.2");
        assert_eq!(few(&addresses[..5]).matches("10.0.0").count(), 5);
        assert!(few(&addresses).ends_with("10.0.0.5 and 2 more"));
    }
}
