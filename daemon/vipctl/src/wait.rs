//! Waiting until what was asked is so, with a bound.

use std::future::Future;
use std::time::{Duration, Instant};

use clap::Args;

use crate::failure::Failure;

const POLL: Duration = Duration::from_millis(20);

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
            tokio::time::sleep(POLL).await;
        }
    }
}
