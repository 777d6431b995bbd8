//! A datagram, and what comes back.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;
use vipd_core::health::Udp;

use super::{Call, is_here};

/// The longest answer that is looked at, in bytes; the rest of a longer one is not.
const LONGEST: usize = 4096;

/// What came back, in words, if that is well; else what is not.
pub(super) async fn ask(call: &Call, asked: &Udp, patience: Duration) -> Result<String, String> {
    let at = call.at;
    let failed = |error: io::Error| format!("a datagram to {at}: {error}");
    let socket = socket(call).await.map_err(failed)?;
    socket.send(&asked.send).await.map_err(failed)?;
    match (
        timeout(patience, heard(&socket, asked)).await,
        &asked.answer,
    ) {
        (Ok(Ok(length)), _) => Ok(format!("{at} answered {length} bytes")),
        (Ok(Err(error)), _) => Err(failed(error)),
        (Err(_), None) => Ok(format!("{at} is silent, and nobody says it is unreachable")),
        (Err(_), Some(_)) => Err(format!(
            "{at} did not answer as expected within {patience:?}"
        )),
    }
}

async fn socket(call: &Call) -> io::Result<UdpSocket> {
    let any = match call.at {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = match call.from {
        None => UdpSocket::bind((any, 0)).await?,
        Some(from) => match UdpSocket::bind((from, 0)).await {
            Ok(socket) => socket,
            Err(error) => {
                is_here(Err(error))?;
                UdpSocket::bind((any, 0)).await?
            }
        },
    };
    // So that only it is heard, and "unreachable" is an error.
    socket.connect(call.at).await?;
    Ok(socket)
}

/// The length of the first answer that is as expected.
async fn heard(socket: &UdpSocket, asked: &Udp) -> io::Result<usize> {
    let mut answer = vec![0; LONGEST];
    loop {
        let length = socket.recv(&mut answer).await?;
        let wanted = asked.answer.as_deref().unwrap_or_default();
        let found = || {
            answer[..length]
                .windows(wanted.len())
                .any(|it| it == wanted)
        };
        if wanted.is_empty() || found() {
            return Ok(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ask;
    use super::*;
    use vipd_core::health::Question;

    fn question(answer: Option<&[u8]>) -> Question {
        Question::Udp {
            datagram: Udp {
                send: b"ping".to_vec(),
                answer: answer.map(<[u8]>::to_vec),
            },
        }
    }

    /// Somebody who answers what he is sent, twice.
    async fn echo() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut asked = [0; 64];
            let (length, from) = socket.recv_from(&mut asked).await.unwrap();
            for reply in [b"not this".as_slice(), &asked[..length]] {
                socket.send_to(reply, from).await.unwrap();
            }
        });
        at
    }

    #[tokio::test]
    async fn an_answer_that_contains_what_is_expected_is_well() {
        for (wanted, bytes) in [(b"pin".as_slice(), 4), (b"", 8)] {
            let said = ask(echo().await, question(Some(wanted))).await.unwrap();
            assert!(said.ends_with(&format!("answered {bytes} bytes")), "{said}");
        }
        let late = ask(echo().await, question(Some(b"pong")))
            .await
            .unwrap_err();
        assert!(late.contains("as expected within 500ms"), "{late}");
    }

    #[tokio::test]
    async fn silence_is_well_if_nothing_is_expected_and_unreachable_never_is() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = silent.local_addr().unwrap();
        assert!(ask(at, question(None)).await.unwrap().contains("silent"));
        assert!(ask(at, question(Some(b""))).await.is_err());
        drop(silent);
        let refused = ask(at, question(None)).await.unwrap_err();
        assert!(refused.contains("refused"), "{refused}");
    }
}
