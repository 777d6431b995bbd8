//! wrk: as many HTTP requests as it gets answers to.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::run;
use crate::lab::Host;

/// It may take longer than it was told to by this.
const GRACE: Duration = Duration::from_secs(10);

/// How many requests a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// As many as there are.
    Kept,
    /// One.
    New,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// The page.
    pub url: &'a str,
    /// How many connections at a time.
    pub connections: usize,
    /// What becomes of them.
    pub kept: Connections,
    /// For how long: whole seconds.
    pub span: Duration,
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answered {
    /// Requests.
    pub requests: f64,
    /// Requests a second, on average.
    pub rate: f64,
}

/// Asks, and counts answers. That a request is not answered, or not with a page, is an error.
pub fn load(client: &Host, wanted: &Load<'_>) -> Result<Answered> {
    let span = format!("{}s", wanted.span.as_secs());
    let connections = wanted.connections.to_string();
    let mut arguments = vec!["-t", "1", "-c", &connections, "-d", &span];
    if wanted.kept == Connections::New {
        arguments.extend(["-H", "Connection: close"]);
    }
    arguments.push(wanted.url);
    let said = run(client, wanted.span + GRACE, "wrk", &arguments)?;
    answered(&said).with_context(|| format!("wrk asked for {}", wanted.url))
}

fn answered(said: &str) -> Result<Answered> {
    let line = |start: &str| {
        said.lines()
            .find_map(|line| line.trim().strip_prefix(start))
    };
    if line("Socket errors:").is_some() || line("Non-2xx").is_some() {
        bail!("not all requests were answered:\n{said}");
    }
    let rate = line("Requests/sec:").and_then(|rate| rate.trim().parse().ok());
    // `  29900 requests in 1.00s, 5.00MB read`
    let count = said
        .lines()
        .find_map(|line| line.split_once(" requests in "));
    let count = count.and_then(|(count, _)| count.trim().parse().ok());
    match count.zip(rate) {
        Some((requests, rate)) if requests > 0.0 => Ok(Answered { requests, rate }),
        _ => bail!("no request was answered:\n{said}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_answered_is_an_error() {
        let well = "  29900 requests in 1.00s, 5.00MB read\nRequests/sec:  29876.54\nTransfer/sec: 5.00MB\n";
        let found = Answered {
            requests: 29_900.0,
            rate: 29_876.54,
        };
        assert_eq!(answered(well).unwrap(), found);
        let lost = "  Socket errors: connect 0, read 3, write 0, timeout 0\n";
        let other = "  Non-2xx or 3xx responses: 5\n";
        for ill in [lost, other] {
            let error = answered(&format!("{ill}{well}")).unwrap_err();
            assert!(error.to_string().contains(ill.trim()), "{error}");
        }
        let none = "  0 requests in 1.00s, 0.00B read\nRequests/sec:      0.00\n";
        assert!(answered(none).is_err() && answered("").is_err());
    }
}
