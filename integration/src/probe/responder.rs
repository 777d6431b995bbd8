//! The service on each server: says the server's name, over UDP and over HTTP, on any address it has.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::libc::in6_pktinfo;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt,
    sockopt,
};

use super::{HTTP_PORT, UDP_PORT};
use crate::lab::NetNs;

const ANY: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
const TICK: Duration = Duration::from_millis(20);

/// The threads that serve on one host; they end on drop.
#[derive(Debug)]
pub struct Responder {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Responder {
    /// Starts to serve inside `ns`, as `host`.
    pub fn start(ns: &NetNs, host: &str) -> Result<Self> {
        // Both sockets take IPv4 too, as mapped addresses.
        let (udp, tcp) = ns.enter(|| {
            let udp =
                UdpSocket::bind((ANY, UDP_PORT)).with_context(|| format!("UDP port {UDP_PORT}"))?;
            let tcp = TcpListener::bind((ANY, HTTP_PORT))
                .with_context(|| format!("TCP port {HTTP_PORT}"))?;
            Ok((udp, tcp))
        })?;
        udp.set_read_timeout(Some(TICK))?;
        setsockopt(&udp, sockopt::Ipv6RecvPacketInfo, &true)?;
        tcp.set_nonblocking(true)?;

        let stop = Arc::new(AtomicBool::new(false));
        let (stop_udp, stop_tcp) = (Arc::clone(&stop), Arc::clone(&stop));
        let (name_udp, name_tcp) = (host.to_owned(), host.to_owned());
        let threads = vec![
            thread::Builder::new()
                .name(format!("{host}-udp"))
                .spawn(move || serve_udp(&udp, &name_udp, &stop_udp))?,
            thread::Builder::new()
                .name(format!("{host}-http"))
                .spawn(move || serve_http(&tcp, &name_tcp, &stop_tcp))?,
        ];
        Ok(Self { stop, threads })
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of the thread was already printed.
            let _ = thread.join();
        }
    }
}

/// Returns each datagram with the host's name behind it, from the very address it was sent to.
fn serve_udp(socket: &UdpSocket, host: &str, stop: &AtomicBool) {
    let mut buffer = [0_u8; 512];
    let mut control = nix::cmsg_space!(in6_pktinfo);
    while !stop.load(Ordering::Relaxed) {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let (length, from, to) = match recvmsg::<SockaddrIn6>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::empty(),
        ) {
            Ok(message) => {
                let to = message
                    .cmsgs()
                    .into_iter()
                    .flatten()
                    .find_map(|extra| match extra {
                        ControlMessageOwned::Ipv6PacketInfo(info) => Some(info),
                        _ => None,
                    });
                (message.bytes, message.address, to)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Err(e) => return eprintln!("the UDP responder of {host} ended: {e}"),
        };
        let (Some(from), Some(mut to)) = (from, to) else {
            continue;
        };
        // The route decides the way out, the address stays.
        to.ipi6_ifindex = 0;
        let reply = [
            IoSlice::new(&buffer[..length]),
            IoSlice::new(host.as_bytes()),
        ];
        // The address may be gone by now: then there is no answer, as for any server.
        let _ = sendmsg(
            socket.as_raw_fd(),
            &reply,
            &[ControlMessage::Ipv6PacketInfo(&to)],
            MsgFlags::empty(),
            Some(&from),
        );
    }
}

fn serve_http(listener: &TcpListener, host: &str, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            // One client that gives up is no reason to end.
            Ok((stream, _)) => drop(answer(stream, host)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(2))
            }
            Err(_) => thread::sleep(TICK),
        }
    }
}

fn answer(mut stream: TcpStream, host: &str) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut request = [0_u8; 1024];
    let _ = stream.read(&mut request)?;
    let (at, client) = (
        shown(stream.local_addr()?.ip()),
        shown(stream.peer_addr()?.ip()),
    );
    let body = format!("{host} answered at {at} for {client}\n");
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Host: {host}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// `::ffff:10.0.0.1` is shown as `10.0.0.1`.
fn shown(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// An address as a dual-stack socket wants it.
pub(super) fn mapped(address: IpAddr, port: u16) -> SocketAddrV6 {
    let ip = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    SocketAddrV6::new(ip, port, 0, 0)
}
