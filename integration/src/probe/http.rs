//! A browser of sorts: asks a web page through the VIP again and again, a new connection each time.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

use super::HTTP_PORT;
use crate::lab::Host;

const PERIOD: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_millis(100);

/// Pages fetched and not fetched so far, and who served the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// Fetched.
    pub served: u64,
    /// Given up after 100 ms, or refused.
    pub failed: u64,
    /// The server's name on the last page fetched.
    pub last: Option<String>,
}

/// A client that fetches a page every 20 ms, until dropped.
#[derive(Debug)]
pub struct Browser {
    stop: Arc<AtomicBool>,
    pages: Arc<Mutex<Pages>>,
    thread: Option<JoinHandle<()>>,
}

impl Browser {
    /// Starts to fetch from `address` on `client`.
    pub fn start(client: &Host, address: IpAddr) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let pages = Arc::new(Mutex::new(Pages::default()));
        let (own_stop, own_pages) = (Arc::clone(&stop), Arc::clone(&pages));
        let thread = client.netns()?.thread("browser", move || {
            while !own_stop.load(Ordering::Relaxed) {
                let fetched = fetch(address);
                {
                    let mut pages = own_pages.lock().unwrap_or_else(PoisonError::into_inner);
                    match fetched {
                        Ok(host) => {
                            pages.served += 1;
                            pages.last = Some(host);
                        }
                        Err(_) => pages.failed += 1,
                    }
                }
                thread::sleep(PERIOD);
            }
        })?;
        Ok(Self {
            stop,
            pages,
            thread: Some(thread),
        })
    }

    /// The count so far.
    pub fn pages(&self) -> Pages {
        self.pages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was already printed.
            let _ = thread.join();
        }
    }
}

/// One page; the name of the server that sent it.
fn fetch(address: IpAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, HTTP_PORT), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: vip\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.take(4096).read_to_string(&mut page)?;
    let host = page.lines().find_map(|line| line.strip_prefix("X-Host: "));
    host.map(str::to_owned)
        .ok_or_else(|| anyhow::anyhow!("a page without a host name"))
}
