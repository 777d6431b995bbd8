//! One open connection to a peer, with any number of requests under way.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use vipd_core::codec::{Reader, Wire};

use super::frame::{LARGE, read_frame, write_frame_telling};
use super::message::{Request, Response};

/// How long a peer that owes an answer may be silent, and take nothing, before the connection counts as dead.
const DEAD_AFTER: Duration = Duration::from_millis(500);

/// The caller's end of a connection. It closes when dropped.
#[derive(Debug)]
pub(super) struct Conn {
    out: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Arc<Waiting>,
    next: AtomicU64,
    closed: CancellationToken,
}

/// Who waits for which reply, and since when the peer has been silent.
#[derive(Debug, Default)]
struct Waiting(Mutex<WaitingState>);

#[derive(Debug, Default)]
struct WaitingState {
    replies: HashMap<u64, oneshot::Sender<Vec<u8>>>,
    silent_since: Option<Instant>,
    last_heard: Option<Instant>,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, WaitingState> {
        // Every section is a map operation and an assignment; a panic between them leaves both usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer takes what is sent to it.
    fn moves(&self) {
        if let Some(since) = &mut self.lock().silent_since {
            *since = Instant::now();
        }
    }
}

/// Why a request on an open connection has no reply.
#[derive(Debug)]
pub(super) enum NoReply {
    /// Not in time; it may still be carried out.
    Late,
    /// The connection ended; it may have been carried out.
    Closed,
    /// The reply does not decode.
    Garbled(String),
}

impl Conn {
    /// Runs the connection over a greeted stream, until it breaks or is dropped.
    pub(super) fn start(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (mut input, mut output) = tokio::io::split(stream);
        let (out, mut queue) = mpsc::unbounded_channel::<Vec<u8>>();
        let waiting = Arc::new(Waiting::default());
        let closed = CancellationToken::new();
        let (stop, told) = (closed.clone(), waiting.clone());
        let progress = waiting.clone();
        tokio::spawn(async move {
            let write = async {
                while let Some(frame) = queue.recv().await {
                    write_frame_telling(&mut output, &frame, || progress.moves()).await?;
                }
                Ok::<_, io::Error>(())
            };
            let read = async {
                loop {
                    let frame = read_frame(&mut input, LARGE).await?;
                    deliver(&told, &frame);
                }
                #[allow(unreachable_code)] // gives the block its type
                Ok::<_, io::Error>(())
            };
            tokio::select! {
                _ = write => {}
                _ = read => {}
                () = stop.cancelled() => {}
            }
            stop.cancel();
            told.lock().replies.clear();
        });
        Self {
            out,
            waiting,
            next: AtomicU64::new(1),
            closed,
        }
    }

    /// Resolves when the connection has ended.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// How long ago the peer was last heard; `None` if never.
    pub(super) fn heard(&self) -> Option<Duration> {
        self.waiting.lock().last_heard.map(|at| at.elapsed())
    }

    /// Sends `request` and waits at most `patience` for the reply.
    pub(super) async fn call(
        &self,
        request: &Request,
        patience: Duration,
    ) -> Result<Response, NoReply> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut frame = id.to_be_bytes().to_vec();
        frame.append(&mut request.to_bytes());
        let (tell, told) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock();
            waiting.replies.insert(id, tell);
            waiting.silent_since.get_or_insert_with(Instant::now);
        }
        let pending = Pending {
            id,
            waiting: &self.waiting,
        };
        if self.closed.is_cancelled() || self.out.send(frame).is_err() {
            return Err(NoReply::Closed);
        }
        let reply = tokio::time::timeout(patience, told).await;
        drop(pending);
        match reply {
            Ok(Ok(bytes)) => {
                Response::from_bytes(&bytes).map_err(|error| NoReply::Garbled(error.to_string()))
            }
            Ok(Err(_)) => Err(NoReply::Closed),
            Err(_) => {
                let silent = self
                    .waiting
                    .lock()
                    .silent_since
                    .is_some_and(|since| since.elapsed() >= DEAD_AFTER);
                if silent {
                    self.closed.cancel();
                }
                Err(NoReply::Late)
            }
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

/// Forgets a request that nobody waits for any more, also when its future is dropped.
struct Pending<'a> {
    id: u64,
    waiting: &'a Waiting,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.waiting.lock().replies.remove(&self.id);
    }
}

fn deliver(waiting: &Waiting, frame: &[u8]) {
    let mut input = Reader::new(frame);
    let Ok(id) = u64::decode(&mut input) else {
        return;
    };
    let mut waiting = waiting.lock();
    let now = Instant::now();
    waiting.last_heard = Some(now);
    let tell = waiting.replies.remove(&id);
    waiting.silent_since = (!waiting.replies.is_empty()).then_some(now);
    if let Some(tell) = tell {
        // Whoever asked may be gone by now.
        drop(tell.send(frame[8..].to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::sleep;

    use super::*;
    use crate::types::{SnapshotMeta, Vote};

    const PATIENCE: Duration = Duration::from_secs(20);
    const PIECE: usize = 64 * 1024;

    fn large() -> Request {
        Request::Snapshot {
            vote: Vote::new(1, 1),
            meta: SnapshotMeta::default(),
            body: vec![7; 40 * PIECE].into(),
        }
    }

    /// The head of the next frame: how much is left of it, and the number of its request.
    async fn head(stream: &mut DuplexStream) -> (usize, u64) {
        let len = stream.read_u32().await.unwrap() as usize;
        (len - 8, stream.read_u64().await.unwrap())
    }

    /// Takes the rest of a frame in pieces, with a pause after each.
    async fn take_slowly(stream: &mut DuplexStream, mut left: usize, pause: Duration) {
        let mut piece = vec![0; PIECE];
        while left > 0 {
            let n = left.min(PIECE);
            stream.read_exact(&mut piece[..n]).await.unwrap();
            left -= n;
            sleep(pause).await;
        }
    }

    #[tokio::test]
    async fn a_peer_that_takes_a_large_request_slowly_is_not_given_up() {
        let (ours, mut theirs) = duplex(1024);
        let conn = Arc::new(Conn::start(ours));
        let asked = conn.clone();
        let snapshot = tokio::spawn(async move { asked.call(&large(), PATIENCE).await });
        let (left, id) = head(&mut theirs).await;
        let slow = tokio::spawn(async move {
            take_slowly(&mut theirs, left, Duration::from_millis(50)).await;
            let mut reply = id.to_be_bytes().to_vec();
            reply.append(&mut Response::Done.to_bytes());
            let n = u32::try_from(reply.len()).unwrap();
            theirs.write_all(&n.to_be_bytes()).await.unwrap();
            theirs.write_all(&reply).await.unwrap();
            theirs
        });
        // What watches over the connection asks behind it, and is not answered in time.
        let ping = conn.call(&Request::Ping, DEAD_AFTER * 2).await;
        assert!(matches!(ping, Err(NoReply::Late)), "{ping:?}");
        assert!(!conn.is_closed());
        let reply = snapshot.await.unwrap();
        assert!(matches!(reply, Ok(Response::Done)), "{reply:?}");
        drop(slow.await.unwrap());
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_more_is_given_up() {
        let (ours, mut theirs) = duplex(1024);
        let conn = Arc::new(Conn::start(ours));
        let asked = conn.clone();
        let snapshot = tokio::spawn(async move { asked.call(&large(), PATIENCE).await });
        head(&mut theirs).await;
        let ping = conn.call(&Request::Ping, DEAD_AFTER * 2).await;
        assert!(matches!(ping, Err(NoReply::Late)), "{ping:?}");
        assert!(conn.is_closed());
        let reply = snapshot.await.unwrap();
        assert!(matches!(reply, Err(NoReply::Closed)), "{reply:?}");
        drop(theirs);
    }
}
