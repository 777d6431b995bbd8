//! The API's sockets and the thread that serves them: of its own, so that no request, however large its answer, keeps Raft
//! waiting. It sleeps while nobody asks.

use std::time::Duration;

use anyhow::Context as _;
use caps::CapSet;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;
use vipd_api::{Api, bind_tcp, bind_unix};
use vipd_raft::RaftNode;

use crate::config::{ApiListen, Checked};

/// Sockets of the API, bound before anything else is begun: a port in use is told at once and changes nothing.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    unix: Vec<UnixListener>,
    tls: Vec<TcpListener>,
    metrics: Option<TcpListener>,
}

impl Listeners {
    pub(super) async fn bind(config: &Checked) -> anyhow::Result<Self> {
        let mut bound = Self::default();
        for listen in &config.api {
            match listen {
                ApiListen::Unix(path) => bound.unix.push(bind_unix(path)?),
                ApiListen::Tcp(address) => bound.tls.push(bind_tcp(*address).await?),
            }
        }
        if let Some(address) = config.metrics {
            bound.metrics = Some(bind_tcp(address).await?);
        }
        Ok(bound)
    }
}

/// The API being served. Dropping it cuts off what is under way.
#[derive(Debug)]
pub(super) struct Serving {
    closing: CancellationToken,
    tasks: TaskTracker,
    /// There until it is dropped.
    runtime: Option<Runtime>,
}

impl Serving {
    /// Begins to serve.
    pub(super) fn begin(raft: &RaftNode, api: &Api, listeners: Listeners) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .thread_name("vipd-api")
            .worker_threads(1)
            // Programs that look after backends are started from here, and what vipd may do is not for them.
            .on_thread_start(keep_rights_from_children)
            .enable_all()
            .build()
            .context("cannot start the thread of the API")?;
        let on = &runtime.handle().clone();
        let serving = Self {
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            runtime: Some(runtime),
        };
        let (closing, tasks) = (&serving.closing, &serving.tasks);
        for listener in listeners.unix {
            let (api, closing) = (api.clone(), closing.clone());
            tasks.spawn_on(async move { api.serve_unix(listener, closing).await }, on);
        }
        if !listeners.tls.is_empty() {
            let (chain, key) = raft.certificate();
            let tls = vipd_api::tls_config(chain, key)?;
            for listener in listeners.tls {
                let (api, tls, closing) = (api.clone(), tls.clone(), closing.clone());
                tasks.spawn_on(
                    async move { api.serve_tls(listener, tls, closing).await },
                    on,
                );
            }
        }
        if let Some(listener) = listeners.metrics {
            let (api, closing) = (api.clone(), closing.clone());
            tasks.spawn_on(
                async move { api.serve_metrics(listener, closing).await },
                on,
            );
        }
        Ok(serving)
    }

    /// Has something run beside the API, on its thread, until the node ends.
    pub(super) fn beside(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            let closing = self.closing.clone();
            runtime.spawn(async move {
                closing.run_until_cancelled(work).await;
            });
        }
    }

    /// Takes no more requests and waits for those under way, so long at most. Whether all of them ended.
    pub(super) async fn end(self, patience: Duration) -> bool {
        self.closing.cancel();
        self.tasks.close();
        tokio::time::timeout(patience, self.tasks.wait())
            .await
            .is_ok()
    }
}

/// The rights of a service are *ambient*: whatever it starts has them too. Given up by this thread, for its children; what it
/// may do itself stays. (A reload starts the daemon's next life from the main thread.)
fn keep_rights_from_children() {
    if let Err(error) = caps::clear(None, CapSet::Ambient) {
        warn!("programs that look after backends have the rights of vipd: {error}");
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Not by dropping it: that would wait, which an asynchronous caller must not.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use caps::Capability::CAP_NET_RAW;

    use super::*;

    #[test]
    fn what_vipd_may_do_is_kept_and_not_for_its_children() {
        // Capabilities are a thread's own.
        let thread = std::thread::spawn(|| {
            let may = caps::has_cap(None, CapSet::Permitted, CAP_NET_RAW).unwrap();
            let raised = caps::raise(None, CapSet::Inheritable, CAP_NET_RAW)
                .and_then(|()| caps::raise(None, CapSet::Ambient, CAP_NET_RAW));
            assert_eq!(raised.is_ok(), may, "only who has it may pass it on");
            let permitted = caps::read(None, CapSet::Permitted).unwrap();
            keep_rights_from_children();
            assert!(caps::read(None, CapSet::Ambient).unwrap().is_empty());
            assert_eq!(caps::read(None, CapSet::Permitted).unwrap(), permitted);
            if may {
                assert!(caps::has_cap(None, CapSet::Effective, CAP_NET_RAW).unwrap());
            }
        });
        thread.join().unwrap();
    }
}
