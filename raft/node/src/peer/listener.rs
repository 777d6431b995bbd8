//! The accepting side: who may come in, and what they may ask.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vipd_core::codec::{Reader, Wire};
use vipd_core::id::NodeId;

use super::admission::{JoinAnswer, JoinAsk};
use super::frame::{LARGE, SMALL, read_frame, write_frame};
use super::hello::{Hello, Lane, PROTOCOL, Refused, Welcome, put_welcome};
use super::message::{Request, Response};
use super::tls::{HANDSHAKE, Tls, is_certificate_of};

/// How many connections may be greeting at once; more wait in the kernel's queue.
const GREETING: usize = 256;
/// How many requests of one connection are worked on at once.
const AT_ONCE: usize = 256;
/// How long one stranger's request to join may take.
const JOIN: Duration = Duration::from_secs(15);

/// The stream of an agent, from the moment it was greeted.
pub(crate) type Feeder = TlsStream<TcpStream>;

/// What the node does with what comes in.
pub(crate) trait Service: Send + Sync + 'static {
    /// This cluster and this node.
    fn me(&self) -> ([u8; 16], NodeId);
    /// Whether `node` was removed, as far as this node knows.
    fn was_removed(&self, node: NodeId) -> bool;
    /// Answers a member.
    fn answer(&self, from: NodeId, request: Request) -> impl Future<Output = Response> + Send;
    /// Feeds an agent until its stream breaks.
    fn feed(&self, from: NodeId, stream: Feeder) -> impl Future<Output = io::Result<()>> + Send;
    /// Admits a stranger, or says why not.
    fn admit(&self, ask: JoinAsk) -> impl Future<Output = Result<JoinAnswer, String>> + Send;
}

/// The running listener. Stops with [`Listener::stop`].
#[derive(Debug)]
pub(crate) struct Listener {
    addr: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Listener {
    /// Accepts on `socket` and hands everything to `service`.
    pub(crate) fn start(
        socket: TcpListener,
        tls: Tls,
        service: Arc<impl Service>,
    ) -> io::Result<Self> {
        let addr = socket.local_addr()?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (stopped, tracker) = (stop.clone(), tasks.clone());
        tasks.spawn(async move {
            let greeting = Arc::new(Semaphore::new(GREETING));
            let accept = async {
                loop {
                    let Ok(turn) = greeting.clone().acquire_owned().await else {
                        return;
                    };
                    match socket.accept().await {
                        Ok((stream, from)) => {
                            let (tls, service, stopped) =
                                (tls.clone(), service.clone(), stopped.clone());
                            tracker.spawn(async move {
                                let serve = serve(stream, &tls, service, turn);
                                if let Some(Err(error)) = stopped.run_until_cancelled(serve).await {
                                    tracing::debug!(%from, %error, "a connection ended");
                                }
                            });
                        }
                        Err(error) => {
                            tracing::warn!(%error, "cannot accept a connection");
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                    }
                }
            };
            stopped.run_until_cancelled(accept).await;
        });
        tasks.close();
        Ok(Self { addr, stop, tasks })
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes the listener and every connection, and waits until they are gone.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

async fn serve<S: Service>(
    stream: TcpStream,
    tls: &Tls,
    service: Arc<S>,
    turn: tokio::sync::OwnedSemaphorePermit,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let greeting = async {
        let mut stream = tls.acceptor.accept(stream).await?;
        let bytes = read_frame(&mut stream, SMALL).await?;
        let hello = Hello::from_bytes(&bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        let judged = judge(&stream, &hello, &*service);
        let welcome: Welcome = judged.as_ref().map(|_| ()).map_err(Clone::clone);
        write_frame(&mut stream, &put_welcome(&welcome)).await?;
        Ok::<_, io::Error>((stream, hello, judged))
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the caller did not greet in time");
    let (mut stream, hello, judged) = timeout(HANDSHAKE, greeting).await.map_err(late)??;
    drop(turn);
    match judged
        .map_err(|refused| io::Error::new(io::ErrorKind::PermissionDenied, refused.to_string()))?
    {
        None => timeout(JOIN, admit(&mut stream, &*service))
            .await
            .map_err(late)?,
        Some(from) => match hello.lane {
            Lane::Follow => service.feed(from, stream).await,
            Lane::Pulse | Lane::Log | Lane::Bulk | Lane::Join | Lane::Records => {
                answer_all(stream, service, from).await
            }
        },
    }
}

/// Who the caller is, if it may come in: a member by its certificate, or `None` for a stranger who may join.
fn judge<S: Service>(
    stream: &TlsStream<TcpStream>,
    hello: &Hello,
    service: &S,
) -> Result<Option<NodeId>, Refused> {
    if hello.protocol != PROTOCOL {
        return Err(Refused::Protocol { ours: PROTOCOL });
    }
    let Some(caller) = &hello.caller else {
        return match hello.lane {
            Lane::Join => Ok(None),
            Lane::Pulse | Lane::Log | Lane::Bulk | Lane::Follow | Lane::Records => {
                Err(Refused::NotYou)
            }
        };
    };
    let (cluster, me) = service.me();
    if caller.cluster != cluster {
        return Err(Refused::OtherCluster);
    }
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first);
    if !certificate.is_some_and(|certificate| is_certificate_of(certificate, &cluster, caller.from))
    {
        return Err(Refused::NotYou);
    }
    if caller.to != me {
        return Err(Refused::NotMe { me });
    }
    if service.was_removed(caller.from) {
        return Err(Refused::Removed);
    }
    Ok(Some(caller.from))
}

async fn admit<S: Service>(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    service: &S,
) -> io::Result<()> {
    let bytes = read_frame(stream, SMALL).await?;
    let ask = JoinAsk::from_bytes(&bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    let answer: Result<JoinAnswer, String> = service.admit(ask).await;
    write_frame(stream, &answer.to_bytes()).await?;
    // The caller closes when it has read the answer.
    drop(read_frame(stream, SMALL).await);
    Ok(())
}

async fn answer_all<S: Service>(
    stream: TlsStream<TcpStream>,
    service: Arc<S>,
    from: NodeId,
) -> io::Result<()> {
    let (mut input, mut output) = tokio::io::split(stream);
    let (out, mut queue) = mpsc::channel::<Vec<u8>>(AT_ONCE);
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let write = async {
        while let Some(frame) = queue.recv().await {
            write_frame(&mut output, &frame).await?;
        }
        Ok::<_, io::Error>(())
    };
    let read = async {
        loop {
            let frame = read_frame(&mut input, LARGE).await?;
            if service.was_removed(from) {
                // Its next greeting is told why.
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    Refused::Removed.to_string(),
                ));
            }
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return Ok(());
            };
            let (service, out) = (service.clone(), out.clone());
            tokio::spawn(async move {
                let reply = answer_one(&*service, from, &frame).await;
                // The connection may be gone by now.
                drop(out.send(reply).await);
                drop(slot);
            });
        }
    };
    tokio::select! {
        result = write => result,
        result = read => result,
    }
}

async fn answer_one<S: Service>(service: &S, from: NodeId, frame: &[u8]) -> Vec<u8> {
    let mut input = Reader::new(frame);
    let id = u64::decode(&mut input).unwrap_or(0);
    let response = match Request::decode(&mut input) {
        Ok(request) => service.answer(from, request).await,
        Err(error) => Response::Failed(format!("the request does not decode: {error}")),
    };
    let mut reply = id.to_be_bytes().to_vec();
    reply.append(&mut response.to_bytes());
    reply
}
