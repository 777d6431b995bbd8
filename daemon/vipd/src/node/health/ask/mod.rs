//! Asks one backend once.

mod exec;
mod http;
mod trust;
mod udp;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use vipd_core::health::{Check, Question};

use exec::Programs;
use trust::Trust;

/// What is needed for asking, the same for all.
#[derive(Debug)]
pub(super) struct Asker {
    trust: Trust,
    programs: Programs,
    /// Ports at which backends may be at loopback addresses.
    loopback: BTreeSet<u16>,
}

/// Whom to ask, and as whom.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Where it is.
    pub(super) at: SocketAddr,
    /// The address to ask from, as clients' packets come from it; the host's own where there is none, or where it is not on
    /// this host (any more).
    pub(super) from: Option<IpAddr>,
    /// Whose backend it is, for programs.
    pub(super) vip: String,
}

impl Asker {
    /// `exec_dir` is where programs may be run from; nowhere without. `loopback`: the ports at which loopback addresses may be
    /// asked, since the answer is for whoever writes VIPs.
    pub(super) fn new(exec_dir: Option<PathBuf>, loopback: BTreeSet<u16>) -> Arc<Self> {
        Arc::new(Self {
            trust: Trust::default(),
            programs: Programs::new(exec_dir),
            loopback,
        })
    }

    /// What it answered, in words, if that is well; else what is not.
    pub(super) async fn ask(&self, call: &Call, check: &Check) -> Result<String, String> {
        let patience = Duration::from_millis(check.timeout.0);
        let at = call.at;
        if at.ip().is_loopback() && !self.loopback.contains(&at.port()) {
            return Err(format!(
                "{at} is not asked: vipd.toml of this node does not name port {} in loopback_ports under [balance]",
                at.port()
            ));
        }
        let late = |_| format!("{at} did not answer within {patience:?}");
        match &check.question {
            Question::Tcp => {
                let connected = timeout(patience, connect(call)).await.map_err(late)?;
                connected.map(|_| format!("{at} accepts connections"))
            }
            Question::Http { get } => {
                let asked = async { http::get(connect(call).await?, at, get, &self.trust).await };
                timeout(patience, asked).await.map_err(late)?
            }
            Question::Udp { datagram } => udp::ask(call, datagram, patience).await,
            Question::Exec { program } => self.programs.run(call, program, patience).await,
        }
    }
}

async fn connect(Call { at, from, .. }: &Call) -> Result<TcpStream, String> {
    let failed = |error: io::Error| format!("connect to {at}: {error}");
    let socket = match at {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(failed)?;
    if let Some(from) = from {
        // Else each would need a port that no other socket of the address has, and keep it for a minute.
        setsockopt(&socket, IpBindAddressNoPort, &true).map_err(|no| failed(no.into()))?;
        is_here(socket.bind(SocketAddr::new(*from, 0))).map_err(failed)?;
    }
    socket.connect(*at).await.map_err(failed)
}

/// An address that is not on this host (yet, or any more) is not asked from; that is no fault of the backend's.
fn is_here(bound: io::Result<()>) -> io::Result<()> {
    match bound {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;
    use vipd_core::health::AllDown;
    use vipd_core::time::Millis;

    pub(super) fn check(question: Question) -> Check {
        Check {
            question,
            port: 0,
            interval: Millis(1000),
            timeout: Millis(500),
            fall: 3,
            rise: 2,
            all_down: AllDown::Keep,
        }
    }

    pub(super) fn to(at: SocketAddr) -> Call {
        Call {
            at,
            from: None,
            vip: "www".into(),
        }
    }

    pub(super) fn anywhere() -> BTreeSet<u16> {
        (1..=u16::MAX).collect()
    }

    #[tokio::test]
    async fn a_loopback_address_is_asked_at_the_ports_that_the_node_names_alone() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = server.local_addr().unwrap();
        let ask = async |ports: &[u16]| {
            let asker = Asker::new(None, ports.iter().copied().collect());
            asker.ask(&to(at), &check(Question::Tcp)).await
        };
        assert!(ask(&[at.port()]).await.is_ok());
        let why = ask(&[1]).await.unwrap_err();
        assert!(why.contains("loopback_ports under [balance]"), "{why}");
    }

    pub(super) async fn ask(at: SocketAddr, question: Question) -> Result<String, String> {
        Asker::new(None, anywhere())
            .ask(&to(at), &check(question))
            .await
    }

    #[tokio::test]
    async fn who_refuses_connections_is_not_well() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = closed.local_addr().unwrap();
        assert!(ask(at, Question::Tcp).await.is_ok());
        drop(closed);
        let refused = ask(at, Question::Tcp).await.unwrap_err();
        assert!(
            refused.starts_with(&format!("connect to {at}")),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn it_asks_from_the_address_that_it_is_given_if_that_is_here() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = server.local_addr().unwrap();
        for (from, seen) in [
            ("127.0.0.9", "127.0.0.9"),
            // Of another host: it asks as itself.
            ("192.0.2.1", "127.0.0.1"),
        ] {
            let call = Call {
                from: Some(from.parse().unwrap()),
                ..to(at)
            };
            let (asker, check) = (Asker::new(None, anywhere()), check(Question::Tcp));
            let (asked, accepted) = tokio::join!(asker.ask(&call, &check), server.accept());
            assert_eq!(asked, Ok(format!("{at} accepts connections")));
            assert_eq!(accepted.unwrap().1.ip().to_string(), seen);
        }
    }
}
