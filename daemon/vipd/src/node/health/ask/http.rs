//! `GET` over HTTP/1.1, in the clear or over TLS.

use std::net::SocketAddr;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;
use vipd_core::health::{Http, Tls};

use super::trust::Trust;

/// What the answer was, in words, if it is well; else what is not.
pub(super) async fn get(
    stream: TcpStream,
    at: SocketAddr,
    get: &Http,
    trust: &Trust,
) -> Result<String, String> {
    let scheme = match get.tls {
        Tls::Plain => "http",
        Tls::Verified | Tls::Unverified => "https",
    };
    let asked = format!("GET {scheme}://{at}{}", get.path);
    let answer = match get.tls {
        Tls::Plain => judge(stream, at, get).await,
        Tls::Verified | Tls::Unverified => match trust.handshake(stream, at, get).await {
            Ok(stream) => judge(stream, at, get).await,
            Err(why) => Err(why),
        },
    };
    match answer {
        Ok(said) => Ok(format!("{asked}: {said}")),
        Err(why) => Err(format!("{asked}: {why}")),
    }
}

async fn judge<S>(stream: S, at: SocketAddr, get: &Http) -> Result<String, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    // Ends with this request, answered or not.
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = request(at, get)?;
    let answer = sender.send_request(request).await.map_err(failed)?;
    let status = answer.status().as_u16();
    if !get.statuses.contains(status) {
        return Err(format!("status {status}"));
    }
    if !get.body.is_empty()
        && !contains(answer, get.body.as_bytes())
            .await
            .map_err(failed)?
    {
        return Err(format!(
            "status {status}, and {:?} is not in the first {} KiB of the body",
            get.body,
            Http::READ / 1024
        ));
    }
    Ok(format!("status {status}"))
}

fn request(at: SocketAddr, get: &Http) -> Result<Request<String>, String> {
    let path = &get.path;
    let uri: Uri = path.parse().map_err(|error| format!("{path:?}: {error}"))?;
    let host = match get.host.as_str() {
        "" => at.to_string(),
        host => host.to_owned(),
    };
    let host = HeaderValue::try_from(&host).map_err(|error| format!("{host:?}: {error}"))?;
    let mut request = Request::new(String::new());
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(HOST, host);
    headers.insert(USER_AGENT, HeaderValue::from_static("vipd"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

/// Reads until it is found, but no further than [`Http::READ`].
async fn contains(answer: Response<Incoming>, text: &[u8]) -> hyper::Result<bool> {
    let mut body = answer.into_body();
    let mut read: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        // What was looked at before need not be again, but for what may begin in it.
        let from = (read.len() + 1).saturating_sub(text.len());
        let room = Http::READ - read.len();
        read.extend_from_slice(&data[..data.len().min(room)]);
        if read[from.min(read.len())..]
            .windows(text.len())
            .any(|it| it == text)
        {
            return Ok(true);
        }
        if read.len() == Http::READ {
            break;
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::super::tests::ask;
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use vipd_core::health::{Question, Statuses};

    fn healthz() -> Http {
        Http {
            path: "/healthz?full=1".into(),
            ..Http::default()
        }
    }

    /// A server that answers each connection with `answer`, or never if there is none; it returns what it was asked.
    async fn server(answer: Option<String>) -> (SocketAddr, tokio::task::JoinHandle<String>) {
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
            // The other side may have heard enough before all of it is written.
            let _enough = stream.write_all(answer.as_bytes()).await;
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        (at, task)
    }

    async fn answered(with: &str, get: Http) -> Result<String, String> {
        let (at, _) = server(Some(with.to_owned())).await;
        ask(at, Question::Http { get }).await
    }

    const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n";

    #[tokio::test]
    async fn it_asks_for_the_path_as_the_host_that_it_is_told() {
        for (host, header) in [("", None), ("www.example", Some("www.example"))] {
            let (at, asked) = server(Some(NO_CONTENT.to_owned())).await;
            let get = Http {
                host: host.into(),
                ..healthz()
            };
            let said = ask(at, Question::Http { get }).await.unwrap();
            assert!(said.contains("status 204"), "{said}");
            let asked = asked.await.unwrap();
            assert!(
                asked.starts_with("GET /healthz?full=1 HTTP/1.1\r\n"),
                "{asked}"
            );
            let header = header.map_or(at.to_string(), str::to_owned);
            let wanted = format!("host: {header}\r\n");
            assert!(asked.to_lowercase().contains(&wanted), "{asked}");
        }
    }

    #[tokio::test]
    async fn it_is_well_by_its_status() {
        let of = |ranges: &[(u16, u16)]| Http {
            statuses: Statuses {
                ranges: ranges.to_vec(),
            },
            ..healthz()
        };
        let lost = "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";
        assert!(answered(NO_CONTENT, of(&[])).await.is_ok());
        assert!(answered(lost, of(&[(200, 299), (503, 503)])).await.is_ok());
        let refused = answered(NO_CONTENT, of(&[(200, 200)])).await.unwrap_err();
        assert!(refused.ends_with("status 204"), "{refused}");
        let refused = answered(lost, of(&[])).await.unwrap_err();
        assert!(refused.ends_with("status 503"), "{refused}");
    }

    #[tokio::test]
    async fn a_text_is_found_in_the_body_within_bounds() {
        let body = |before: usize, text: &str| {
            let body = format!("{}{text}", "x".repeat(before));
            let length = body.len();
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
        };
        let looks = || Http {
            body: "ready".into(),
            ..healthz()
        };
        assert!(answered(&body(0, "ready"), looks()).await.is_ok());
        // Over many reads, and with the end of one in its middle.
        assert!(answered(&body(60_000, "ready."), looks()).await.is_ok());
        for far in [body(0, "not yet"), body(Http::READ, "ready")] {
            let refused = answered(&far, looks()).await.unwrap_err();
            assert!(refused.contains("\"ready\" is not in"), "{refused}");
        }
    }

    #[tokio::test]
    async fn who_speaks_something_else_or_says_nothing_is_not_well() {
        assert!(answered("SSH-2.0-OpenSSH\r\n", healthz()).await.is_err());
        let (at, _) = server(None).await;
        let late = ask(at, Question::Http { get: healthz() }).await;
        assert!(late.unwrap_err().contains("within 500ms"));
    }
}
