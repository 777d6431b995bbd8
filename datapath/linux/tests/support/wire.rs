//! What the client hears: a packet socket that remembers all frames.

use std::{
    io::{ErrorKind, Read},
    net::IpAddr,
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use vipd_datapath_common::frame::{Advertisement, Arp};

use super::{Net, boottime_ns};

/// A tap in the client's namespace.
pub struct Tap(Receiver<(u64, Vec<u8>)>);

impl Tap {
    pub fn at_client(net: &Net) -> Self {
        let (sender, receiver) = channel();
        let mut socket = net.at_client(|| {
            let all = Protocol::from(i32::from((nix::libc::ETH_P_ALL as u16).to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(50)))
                .unwrap();
            // Room for a burst of ten thousand while this process does something else.
            setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20)).unwrap();
            socket
        });
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            loop {
                match socket.read(&mut buffer) {
                    Ok(length) => {
                        if sender
                            .send((boottime_ns(), buffer[..length].to_vec()))
                            .is_err()
                        {
                            return;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        // An empty frame asks whether anybody still listens.
                        if sender.send((0, Vec::new())).is_err() {
                            return;
                        }
                    }
                    Err(_) => return,
                }
            }
        });
        Self(receiver)
    }

    /// Frames that came or come within `time` and that `wanted` accepts, with their time of
    /// arrival (CLOCK_BOOTTIME ns).
    pub fn collect(&self, time: Duration, wanted: impl Fn(&[u8]) -> bool) -> Vec<(u64, Vec<u8>)> {
        let start = Instant::now();
        let mut frames = Vec::new();
        while let Some(left) = time.checked_sub(start.elapsed()) {
            match self.0.recv_timeout(left) {
                Ok((at, frame)) if wanted(&frame) => frames.push((at, frame)),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        frames
    }
}

/// Sends a frame from the client.
pub fn send_from_client(net: &Net, frames: Vec<Vec<u8>>) {
    net.at_client(move || {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
        let ifindex = nix::net::if_::if_nametoindex("lan").unwrap();
        let mut storage = SockAddrStorage::zeroed();
        // SAFETY: a sockaddr_ll fits into the storage.
        let address = unsafe { storage.view_as::<nix::libc::sockaddr_ll>() };
        address.sll_family = nix::libc::AF_PACKET as u16;
        address.sll_ifindex = ifindex as i32;
        let length = size_of::<nix::libc::sockaddr_ll>() as u32;
        // SAFETY: family and length are those of the sockaddr_ll just written.
        let address = unsafe { SockAddr::new(storage, length) };
        for frame in frames {
            socket.send_to(&frame, &address).unwrap();
        }
    });
}

/// Whether a frame announces the address: gratuitous ARP or unsolicited advertisement.
pub fn announces(address: IpAddr, mac: [u8; 6]) -> impl Fn(&[u8]) -> bool {
    move |frame| match address {
        IpAddr::V4(v4) => [Arp::REQUEST, Arp::REPLY]
            .iter()
            .any(|operation| Arp::gratuitous(*operation, v4.octets(), mac).frame() == frame),
        IpAddr::V6(v6) => Advertisement::unsolicited(v6.octets(), mac, false).frame() == frame,
    }
}
