//! traceroute: who answers on the way.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use super::run;
use crate::lab::Host;

/// It waits three seconds at most for each answer, and asks all hops at a time.
const BOUND: Duration = Duration::from_secs(10);
/// It asks no further.
const HOPS: &str = "3";

/// What it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// SYNs to this port.
    Tcp(u16),
    /// Echo requests.
    Echo,
    /// Datagrams to ports from 33434 on, as it does by itself.
    Udp,
}

/// Who answered, hop by hop, up to the target; `None` is a hop that did not in time. At most three hops.
pub fn hops(client: &Host, to: IpAddr, question: Question) -> Result<Vec<Option<IpAddr>>> {
    let (to, port) = (to.to_string(), port(question));
    // Who is not to be answered need not be waited for so long.
    let patience = match question {
        Question::Tcp(_) | Question::Echo => "3",
        Question::Udp => "1",
    };
    let mut arguments = vec!["-n", "-q", "1", "-w", patience, "-m", HOPS];
    arguments.extend(match question {
        Question::Tcp(_) => vec!["-T", "-p", &port],
        Question::Echo => vec!["-I"],
        Question::Udp => vec![],
    });
    arguments.push(&to);
    let said = run(client, BOUND, "traceroute", &arguments)?;
    said.lines().skip(1).map(hop).collect()
}

fn port(question: Question) -> String {
    match question {
        Question::Tcp(port) => port.to_string(),
        Question::Echo | Question::Udp => String::new(),
    }
}

/// ` 1  10.77.0.100  0.231 ms` or ` 1  *`.
fn hop(line: &str) -> Result<Option<IpAddr>> {
    let word = line.split_whitespace().nth(1);
    match word.with_context(|| format!("traceroute said {line:?}"))? {
        "*" => Ok(None),
        address => {
            let address = address.parse();
            address
                .map(Some)
                .with_context(|| format!("traceroute said {line:?}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_is_an_address_or_silent() {
        let there = Some("10.77.0.100".parse().unwrap());
        assert_eq!(hop(" 1  10.77.0.100  0.231 ms").unwrap(), there);
        assert_eq!(hop(" 2  *").unwrap(), None);
        assert!(hop(" 3  nonsense").is_err() && hop("").is_err());
    }
}
