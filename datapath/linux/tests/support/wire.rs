//! What the client hears: a packet socket that remembers all frames.

use std::{
    io::{ErrorKind, Read},
    net::IpAddr,
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};
use vipd_datapath_common::frame::{Advertisement, Arp};

use super::Net;

/// A tap in the client's namespace.
pub struct Tap(Receiver<Vec<u8>>);

impl Tap {
    pub fn at_client(net: &Net) -> Self {
        let (sender, receiver) = channel();
        let mut socket = net.at_client(|| {
            let all = Protocol::from(i32::from((nix::libc::ETH_P_ALL as u16).to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(50)))
                .unwrap();
            socket
        });
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            loop {
                match socket.read(&mut buffer) {
                    Ok(length) => {
                        if sender.send(buffer[..length].to_vec()).is_err() {
                            return;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        // An empty frame asks whether anybody still listens.
                        if sender.send(Vec::new()).is_err() {
                            return;
                        }
                    }
                    Err(_) => return,
                }
            }
        });
        Self(receiver)
    }

    /// Frames that come within `time` and that `wanted` accepts, with their time of arrival.
    pub fn collect(
        &self,
        time: Duration,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Vec<(Duration, Vec<u8>)> {
        let start = Instant::now();
        let mut frames = Vec::new();
        while let Some(left) = time.checked_sub(start.elapsed()) {
            match self.0.recv_timeout(left) {
                Ok(frame) if wanted(&frame) => frames.push((start.elapsed(), frame)),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        frames
    }
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
