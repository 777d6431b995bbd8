//! Long TCP connections: downloads that never end, and idle ones that say a word when asked. What they carry is known
//! byte by byte, so that a connection that was cut, mixed up or answered by somebody else is seen.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::STREAM_PORT;
use super::responder::mapped;
use crate::lab::{Host, NetNs};

/// Between two pieces of a download.
const TICK: Duration = Duration::from_millis(20);
/// Bytes of a piece: 200 downloads are 10 MB/s.
const PIECE: usize = 1024;
/// How long a connection may take to open, and an idle one to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// First byte of a connection: what it is for.
const DOWNLOAD: u8 = b'd';
const ECHO: u8 = b'e';

/// The byte at `offset` of every download. Its period, 65,536 times 251, is longer than any test.
fn byte_at(offset: u64) -> u8 {
    ((offset % 251) ^ (offset >> 8)) as u8
}

/// The server side, on one host; ends on drop.
#[derive(Debug)]
pub struct Streamer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Streamer {
    /// Serves on [`STREAM_PORT`] of every address of `ns`.
    pub fn start(ns: &NetNs) -> Result<Self> {
        let listener = ns.enter(|| {
            TcpListener::bind((Ipv6Addr::UNSPECIFIED, STREAM_PORT))
                .with_context(|| format!("TCP port {STREAM_PORT}"))
        })?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("streamer".to_owned())
            .spawn(move || serve(&listener, &told))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Streamer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was already printed.
            let _ = thread.join();
        }
    }
}

/// One connection, as the server knows it.
struct Served {
    stream: TcpStream,
    kind: Option<u8>,
    sent: u64,
}

fn serve(listener: &TcpListener, stop: &AtomicBool) {
    let mut connections: Vec<Served> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        while let Ok((stream, _)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                connections.push(Served {
                    stream,
                    kind: None,
                    sent: 0,
                });
            }
        }
        connections.retain_mut(|served| match served.go_on() {
            Ok(open) => open,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        });
        thread::sleep(TICK);
    }
}

impl Served {
    /// Says the next piece, or repeats what was heard; whether the client is still there.
    fn go_on(&mut self) -> io::Result<bool> {
        if self.kind.is_none() {
            let mut kind = [0];
            if self.stream.read(&mut kind)? == 0 {
                return Ok(false);
            }
            self.kind = Some(kind[0]);
        }
        if self.kind == Some(DOWNLOAD) {
            let piece: Vec<u8> = (self.sent..).take(PIECE).map(byte_at).collect();
            self.sent += self.stream.write(&piece)? as u64;
            return Ok(true);
        }
        let mut heard = [0; 64];
        let length = self.stream.read(&mut heard)?;
        // A word is far smaller than the socket's buffer.
        self.stream.write_all(&heard[..length])?;
        Ok(length > 0)
    }
}

/// The client side: downloads that are read all the time, and idle connections.
#[derive(Debug)]
pub struct Conversations {
    stop: Arc<AtomicBool>,
    heard: Arc<Mutex<Heard>>,
    idle: Vec<TcpStream>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Heard {
    bytes: Vec<u64>,
    failures: Vec<String>,
}

impl Conversations {
    /// Opens so many downloads and idle connections from `client` to `address`, port [`STREAM_PORT`].
    pub fn start(client: &Host, address: IpAddr, downloads: usize, idle: usize) -> Result<Self> {
        let open = |kind: u8| -> Result<TcpStream> {
            let to = SocketAddr::V6(mapped(address, STREAM_PORT));
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE)
                .with_context(|| format!("connect to {address}, port {STREAM_PORT}"))?;
            stream.write_all(&[kind])?;
            Ok(stream)
        };
        let (mut streams, idle) = client.netns()?.enter(|| {
            let all = |kind, n| (0..n).map(|_| open(kind)).collect::<Result<Vec<_>>>();
            Ok((all(DOWNLOAD, downloads)?, all(ECHO, idle)?))
        })?;
        for stream in &streams {
            stream.set_nonblocking(true)?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let heard = Arc::new(Mutex::new(Heard {
            bytes: vec![0; downloads],
            failures: Vec::new(),
        }));
        let (told, noted) = (Arc::clone(&stop), Arc::clone(&heard));
        let thread = thread::Builder::new()
            .name("downloads".to_owned())
            .spawn(move || {
                while !told.load(Ordering::Relaxed) {
                    let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                    listen(&mut streams, &mut noted);
                    drop(noted);
                    thread::sleep(TICK / 2);
                }
            })?;
        Ok(Self {
            stop,
            heard,
            idle,
            thread: Some(thread),
        })
    }

    /// Bytes that each download has brought so far, all of them right.
    pub fn bytes(&self) -> Result<Vec<u64>> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(heard.failures.is_empty(), "{:?}", heard.failures);
        Ok(heard.bytes.clone())
    }

    /// Waits until every download has brought more than it had `before`; fails at once if one was cut or is wrong.
    pub fn wait_until_all_go_on(&self, before: &[u64], bound: Duration) -> Result<()> {
        let until = Instant::now() + bound;
        loop {
            let now = self.bytes()?;
            let stuck: Vec<usize> = (0..now.len()).filter(|&i| now[i] <= before[i]).collect();
            if stuck.is_empty() {
                return Ok(());
            }
            if Instant::now() > until {
                bail!(
                    "{} of {} downloads did not go on within {bound:?}: {stuck:?}",
                    stuck.len(),
                    now.len()
                );
            }
            thread::sleep(TICK);
        }
    }

    /// Every idle connection says a word and hears it again.
    pub fn ask_the_idle(&mut self) -> Result<()> {
        for (number, stream) in self.idle.iter_mut().enumerate() {
            let word = format!("still there {number}?");
            stream.set_read_timeout(Some(PATIENCE))?;
            stream
                .write_all(word.as_bytes())
                .with_context(|| format!("idle connection {number}"))?;
            let mut answer = vec![0; word.len()];
            stream
                .read_exact(&mut answer)
                .with_context(|| format!("idle connection {number} does not answer"))?;
            ensure!(
                answer == word.as_bytes(),
                "idle connection {number} says {answer:?}"
            );
        }
        Ok(())
    }
}

impl Drop for Conversations {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was already printed.
            let _ = thread.join();
        }
    }
}

/// Reads what is there, and compares.
fn listen(streams: &mut [TcpStream], heard: &mut Heard) {
    let mut buffer = [0; 16 * PIECE];
    for (number, stream) in streams.iter_mut().enumerate() {
        let failed = match stream.read(&mut buffer) {
            Ok(0) => "was closed".to_owned(),
            Ok(length) => {
                let from = heard.bytes[number];
                let wrong = (from..)
                    .zip(&buffer[..length])
                    .find(|(offset, byte)| byte_at(*offset) != **byte);
                match wrong {
                    None => {
                        heard.bytes[number] += length as u64;
                        continue;
                    }
                    Some((offset, byte)) => format!("has {byte} at {offset}"),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => format!("failed: {error}"),
        };
        if heard.failures.len() < 5 {
            heard.failures.push(format!("download {number} {failed}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_out_of_its_place_is_seen() {
        let piece: Vec<u8> = (0..100_000).map(byte_at).collect();
        for shift in [1, 250, 251, 256, PIECE, 65_536] {
            assert_ne!(piece[..1000], piece[shift..shift + 1000], "{shift}");
        }
    }
}
