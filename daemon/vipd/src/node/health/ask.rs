//! Asks one backend once.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use vipd_core::health::{Check, Question};

/// What it answered, in words, if that is well; else what is not.
pub(super) async fn ask(at: SocketAddr, check: &Check) -> Result<String, String> {
    let patience = Duration::from_millis(check.timeout.0);
    let late = |_| format!("{at} did not answer within {patience:?}");
    timeout(patience, once(at, &check.question))
        .await
        .map_err(late)?
}

async fn once(at: SocketAddr, question: &Question) -> Result<String, String> {
    let stream = TcpStream::connect(at)
        .await
        .map_err(|error| format!("connect to {at}: {error}"))?;
    match question {
        Question::Tcp => Ok(format!("{at} accepts connections")),
        Question::Http { path, status } => {
            let uri = path.parse().map_err(|error| format!("{path:?}: {error}"))?;
            let got = get(stream, at, uri)
                .await
                .map_err(|error| format!("GET http://{at}{path}: {error}"))?;
            let well = match *status {
                0 => (200..400).contains(&got),
                only => got == only,
            };
            let said = format!("GET http://{at}{path}: status {got}");
            if well { Ok(said) } else { Err(said) }
        }
    }
}

/// The status of the answer; the body is not read.
async fn get(stream: TcpStream, at: SocketAddr, uri: Uri) -> hyper::Result<u16> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with this request, answered or not.
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let mut request = Request::new(String::new());
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    // Digits, dots, colons and brackets are a header's value.
    if let Ok(host) = HeaderValue::try_from(at.to_string()) {
        headers.insert(HOST, host);
    }
    headers.insert(USER_AGENT, HeaderValue::from_static("vipd"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(sender.send_request(request).await?.status().as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use vipd_core::time::Millis;

    fn check(question: Question) -> Check {
        Check {
            question,
            port: 0,
            interval: Millis(1000),
            timeout: Millis(500),
            fall: 3,
            rise: 2,
        }
    }

    fn http(status: u16) -> Check {
        check(Question::Http {
            path: "/healthz?full=1".into(),
            status,
        })
    }

    /// A server that answers each connection with `answer`, or never if there is none; it returns what it was asked.
    async fn server(answer: Option<&'static str>) -> (SocketAddr, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 1024];
            let length = stream.read(&mut asked).await.unwrap();
            let Some(answer) = answer else {
                // Until the other side gives up.
                let _gone = stream.read(&mut [0; 1]).await;
                return String::new();
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        (at, task)
    }

    #[tokio::test]
    async fn http_is_well_by_its_status_and_asks_for_the_path() {
        let ok = "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n";
        let (at, asked) = server(Some(ok)).await;
        assert!(ask(at, &http(0)).await.unwrap().contains("status 204"));
        let asked = asked.await.unwrap();
        assert!(
            asked.starts_with("GET /healthz?full=1 HTTP/1.1\r\n"),
            "{asked}"
        );
        assert!(
            asked.to_lowercase().contains(&format!("host: {at}")),
            "{asked}"
        );

        let (at, _) = server(Some(ok)).await;
        assert!(
            ask(at, &http(200))
                .await
                .unwrap_err()
                .contains("status 204")
        );
        let (at, _) = server(Some("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")).await;
        assert!(ask(at, &http(0)).await.unwrap_err().contains("status 503"));
    }

    #[tokio::test]
    async fn who_refuses_speaks_something_else_or_says_nothing_is_not_well() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = closed.local_addr().unwrap();
        assert!(ask(at, &check(Question::Tcp)).await.is_ok());
        drop(closed);
        let refused = ask(at, &check(Question::Tcp)).await.unwrap_err();
        assert!(
            refused.starts_with(&format!("connect to {at}")),
            "{refused}"
        );
        let (at, _) = server(Some("SSH-2.0-OpenSSH\r\n")).await;
        assert!(ask(at, &http(0)).await.is_err());
        let (at, _) = server(None).await;
        assert!(
            ask(at, &http(0))
                .await
                .unwrap_err()
                .contains("within 500ms")
        );
    }
}
