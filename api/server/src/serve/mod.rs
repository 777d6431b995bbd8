//! Listeners and connections. A slow or silent client costs one connection of its own listener, for a bounded
//! time: handshake, request head, answer and every write have an end.

mod listen;
mod patience;
mod tls;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::access::Origin;
use crate::room::Places;
use crate::routes::Api;
use patience::Patient;

pub use listen::{ListenError, bind_tcp, bind_unix};
pub use tls::tls_config;

/// Connections that one listener keeps at a time; further ones wait in the kernel's backlog.
const CONNECTIONS: usize = 512;
/// The longest until a request's head is complete, also on an idle connection.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// The longest TLS handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// The longest that a client may refuse to read.
const WRITE_WITHIN: Duration = Duration::from_secs(20);
/// The longest that requests in flight may take when the node stops.
const DRAIN_WITHIN: Duration = Duration::from_secs(1);
/// Pause after a failed accept (out of descriptors), which would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Api {
    /// Serves everything on a unix socket until `stop`. Whoever may open the socket may do everything.
    pub async fn serve_unix(self, listener: UnixListener, stop: CancellationToken) {
        let open = async |stream| Ok::<_, io::Error>(stream);
        serve(listener, open, self.full, stop).await;
    }

    /// Serves everything over TLS until `stop`; a bearer token decides what is allowed.
    pub async fn serve_tls(
        self,
        listener: TcpListener,
        config: Arc<ServerConfig>,
        stop: CancellationToken,
    ) {
        let tls = TlsAcceptor::from(config);
        let open = move |stream| {
            let handshake = tls.accept(stream);
            async { tokio::time::timeout(HANDSHAKE_WITHIN, handshake).await? }
        };
        serve(listener, open, self.full, stop).await;
    }

    /// Serves `/metrics`, `/healthz` and `/readyz`, and nothing else, over plain HTTP until `stop`.
    pub async fn serve_metrics(self, listener: TcpListener, stop: CancellationToken) {
        let open = async |stream| Ok::<_, io::Error>(stream);
        serve(listener, open, self.monitoring, stop).await;
    }
}

/// A listening socket.
trait Listener: Send + Sync {
    /// What it accepts.
    type Stream: Send;

    /// The next connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Who is at its other end.
    fn origin(stream: &Self::Stream) -> io::Result<Origin>;

    /// By what connections of the same client are known.
    fn client(stream: &Self::Stream) -> io::Result<String>;
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }

    fn origin(stream: &UnixStream) -> io::Result<Origin> {
        let uid = stream.peer_cred()?.uid();
        Ok(Origin::Unix { uid })
    }

    fn client(stream: &UnixStream) -> io::Result<String> {
        let uid = stream.peer_cred()?.uid();
        Ok(format!("uid/{uid}"))
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn origin(_: &TcpStream) -> io::Result<Origin> {
        Ok(Origin::Network)
    }

    fn client(stream: &TcpStream) -> io::Result<String> {
        Ok(stream.peer_addr()?.ip().to_string())
    }
}

/// Accepts until `stop`, then lets requests in flight end.
async fn serve<L: Listener, T, O>(
    listener: L,
    open: impl Fn(L::Stream) -> O + Send,
    router: Router,
    stop: CancellationToken,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    O: Future<Output = io::Result<T>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    // One client has half of them at most; what it opens beyond that is closed at once.
    let shares = Places::new("connections open", CONNECTIONS);
    let graceful = GracefulShutdown::new();
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            break;
        };
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = Listener::accept(&listener) => accepted,
        };
        let accepted =
            accepted.and_then(|stream| Ok((L::origin(&stream)?, L::client(&stream)?, stream)));
        let (origin, client, stream) = match accepted {
            Ok((origin, client, stream)) => (origin, client, open(stream)),
            Err(error) => {
                tracing::warn!(%error, "API: cannot accept a connection; raise LimitNOFILE if descriptors ran out");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let share = match shares.take(&client) {
            Ok(share) => share,
            Err(why) => {
                tracing::debug!(%why, "API: a connection is closed");
                continue;
            }
        };
        let (router, watcher) = (router.clone(), graceful.watcher());
        connections.spawn(async move {
            let _held = (permit, share);
            match stream.await {
                Ok(stream) => connection(stream, origin, router, watcher).await,
                Err(error) => tracing::debug!(%error, "API: handshake failed"),
            }
        });
    }
    // Streams of events have no end of their own: what is left after this is cut off with the set.
    let _cut_off = tokio::time::timeout(DRAIN_WITHIN, graceful.shutdown()).await;
}

async fn connection<T>(stream: T, origin: Origin, router: Router, watcher: Watcher)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Around the router, not into each of its routes: this is done for every connection.
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(origin);
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(Patient::new(stream, WRITE_WITHIN)), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "API: connection ended");
    }
}
