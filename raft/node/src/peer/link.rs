//! A lane to one peer that connects by itself when somebody has something to say.
//!
//! Dialling happens in a task of its own: a caller with 25 ms of patience neither delays nor aborts a handshake.
//! While a peer cannot be reached, callers hear so at once, and one attempt is made after each short pause.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::conn::{Conn, NoReply};
use super::frame::{SMALL, read_frame, write_frame};
use super::hello::{Caller, Hello, Lane, PROTOCOL, Refused, get_welcome};
use super::message::{Request, Response};
use super::tls::{HANDSHAKE, Tls, open_stream};
use crate::cadence;
use crate::identity::node_server_name;
use std::net::SocketAddr;
use vipd_core::codec::Wire;
use vipd_core::id::NodeId;

/// The pause after a failed attempt, doubled each time up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(160);
/// An idle connection is tried this often, so that the next caller does not find it dead.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// Why a peer did not answer.
#[derive(Clone, Debug)]
pub(crate) enum CallError {
    /// It was never asked.
    Unreachable(String),
    /// It was asked; whether it did anything is not known.
    Unknown(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) | Self::Unknown(why) => f.write_str(why),
        }
    }
}

/// What a dialler needs.
pub(super) struct Dial {
    pub(super) tls: Tls,
    pub(super) cluster: [u8; 16],
    pub(super) me: NodeId,
    /// Looks up where a node is reached now.
    pub(super) resolve: Box<dyn Fn(NodeId) -> Option<SocketAddr> + Send + Sync>,
    /// Called when a peer says that this node was removed.
    pub(super) removed: Box<dyn Fn() + Send + Sync>,
    /// Where lanes live, whoever is the first to use one.
    pub(super) runtime: Handle,
}

#[derive(Clone, Debug)]
enum State {
    Idle,
    Up(Arc<Conn>),
    Down(String),
}

/// One lane to one peer.
pub(crate) struct Link {
    target: NodeId,
    state: watch::Receiver<State>,
    wanted: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Link {
    pub(super) fn new(dial: Arc<Dial>, target: NodeId, lane: Lane) -> Self {
        let (report, state) = watch::channel(State::Idle);
        let wanted = Arc::new(Notify::new());
        let runtime = dial.runtime.clone();
        let task = runtime.spawn(keep(dial, target, lane, wanted.clone(), report));
        Self {
            target,
            state,
            wanted,
            task,
        }
    }

    /// Asks the peer and waits at most `patience`, connecting included.
    pub(crate) async fn call(
        &self,
        request: &Request,
        patience: Duration,
    ) -> Result<Response, CallError> {
        let deadline = Instant::now() + patience;
        let conn = self
            .connected(deadline)
            .await
            .map_err(CallError::Unreachable)?;
        let left = deadline.saturating_duration_since(Instant::now());
        conn.call(request, left).await.map_err(|error| {
            CallError::Unknown(match error {
                NoReply::Late => format!("node {} did not answer within {patience:?}", self.target),
                NoReply::Closed => format!("the connection to node {} broke", self.target),
                NoReply::Garbled(why) => {
                    format!("the reply of node {} is garbled: {why}", self.target)
                }
            })
        })
    }

    /// Connects now if it is not connected, so that whoever calls later need not wait for a handshake. Whether it is.
    pub(crate) fn warm(&self) -> bool {
        let up = matches!(&*self.state.borrow(), State::Up(conn) if !conn.is_closed());
        if !up {
            self.wanted.notify_one();
        }
        up
    }

    async fn connected(&self, deadline: Instant) -> Result<Arc<Conn>, String> {
        let mut state = self.state.clone();
        loop {
            match &*state.borrow_and_update() {
                State::Up(conn) if !conn.is_closed() => return Ok(conn.clone()),
                State::Down(why) => return Err(why.clone()),
                State::Up(_) | State::Idle => {}
            }
            self.wanted.notify_one();
            match timeout_at(deadline, state.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(format!("the link to node {} is shut down", self.target)),
                Err(_) => return Err(format!("no connection to node {} in time", self.target)),
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task of a link: dial when wanted, watch over the connection, pause after a failure.
async fn keep(
    dial: Arc<Dial>,
    target: NodeId,
    lane: Lane,
    wanted: Arc<Notify>,
    state: watch::Sender<State>,
) {
    let mut pause = PAUSE;
    loop {
        wanted.notified().await;
        match connect(&dial, target, lane).await {
            Ok(conn) => {
                pause = PAUSE;
                let conn = Arc::new(conn);
                state.send_replace(State::Up(conn.clone()));
                watch_over(&conn).await;
                state.send_replace(State::Idle);
            }
            Err(error) => {
                tracing::debug!(node = %target, ?lane, %error, "cannot connect");
                state.send_replace(State::Down(format!(
                    "node {target} cannot be reached: {error}"
                )));
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
                state.send_replace(State::Idle);
            }
        }
    }
}

async fn watch_over(conn: &Conn) {
    loop {
        tokio::select! {
            () = conn.closed() => return,
            () = sleep_until(cadence::next(KEEPALIVE)) => {}
        }
        if conn.heard().is_none_or(|ago| ago >= KEEPALIVE)
            && let Err(error) = conn.call(&Request::Ping, KEEPALIVE).await
        {
            match error {
                // Behind a snapshot that it is still taking.
                NoReply::Late if !conn.is_closed() => {}
                NoReply::Late | NoReply::Closed | NoReply::Garbled(_) => return,
            }
        }
    }
}

async fn connect(dial: &Dial, target: NodeId, lane: Lane) -> io::Result<Conn> {
    Ok(Conn::start(greet(dial, target, lane).await?))
}

/// A greeted stream to `target`.
pub(super) async fn greet(
    dial: &Dial,
    target: NodeId,
    lane: Lane,
) -> io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    let Some(addr) = (dial.resolve)(target) else {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "its address is not known",
        ));
    };
    let name = node_server_name(&dial.cluster, target);
    let mut stream = open_stream(&dial.tls.connector, addr, name, Duration::ZERO).await?;
    let caller = Caller {
        cluster: dial.cluster,
        from: dial.me,
        to: target,
    };
    let hello = Hello {
        protocol: PROTOCOL,
        lane,
        caller: Some(caller),
    };
    let exchange = async {
        write_frame(&mut stream, &hello.to_bytes()).await?;
        read_frame(&mut stream, SMALL).await
    };
    let late = || {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("{addr} accepts connections but does not answer"),
        )
    };
    let reply = timeout(HANDSHAKE, exchange).await.map_err(|_| late())??;
    match get_welcome(&reply)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?
    {
        Ok(()) => Ok(stream),
        Err(refused) => {
            if refused == Refused::Removed {
                (dial.removed)();
            }
            Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{addr} refuses: {refused}"),
            ))
        }
    }
}
