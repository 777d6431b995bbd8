//! A packet socket that only sends.

use std::{io, net::IpAddr, os::fd::AsRawFd};

use nix::libc;
use socket2::{Domain, Socket, Type};
use vipd_datapath_common::frame::{Advertisement, Arp};

use super::schedule::{Announcement, Form};
use crate::DatapathError;

/// Sends announcements in the network namespace of the thread that opened it. The frames pass
/// the egress programs, as all frames do.
pub(crate) struct Sender(Socket);

/// A frame and the interface that it leaves by.
struct Frame {
    ifindex: u32,
    protocol: i32,
    bytes: Vec<u8>,
}

impl Sender {
    pub(crate) fn open() -> Result<Self, DatapathError> {
        // Protocol 0: it receives nothing.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
            .map_err(|source| DatapathError::system("open a packet socket", source))?;
        Ok(Self(socket))
    }

    /// Sends them all, with one system call as long as none fails. Those that fail (the link is down, or its queue
    /// full) are left out: the schedule comes back to them.
    pub(crate) fn announce(&self, announcements: &[Announcement]) {
        let frames: Vec<Frame> = announcements.iter().flat_map(frames).collect();
        let mut rest = &frames[..];
        while let Some((first, others)) = rest.split_first() {
            match self.send(rest) {
                Ok(sent) => rest = rest.get(sent.max(1)..).unwrap_or_default(),
                Err(error) => {
                    tracing::debug!(ifindex = first.ifindex, %error, "not announced");
                    rest = others;
                }
            }
        }
    }

    /// How many left.
    fn send(&self, frames: &[Frame]) -> io::Result<usize> {
        let mut targets: Vec<libc::sockaddr_ll> = frames.iter().map(link).collect();
        let mut parts: Vec<libc::iovec> = frames
            .iter()
            .map(|frame| libc::iovec {
                iov_base: frame.bytes.as_ptr().cast_mut().cast(),
                iov_len: frame.bytes.len(),
            })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = targets
            .iter_mut()
            .zip(&mut parts)
            .map(|(target, part)| {
                // SAFETY: plain integers and pointers, for which zero is a value.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_name = (&raw mut *target).cast();
                message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_ll>() as u32;
                message.msg_hdr.msg_iov = part;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        // SAFETY: every header names one target, one part and the bytes of one frame, all of which outlive the call;
        // the kernel only reads what they point to.
        let sent = unsafe {
            libc::sendmmsg(
                self.0.as_raw_fd(),
                messages.as_mut_ptr(),
                messages.len() as u32,
                0,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

fn frames(announcement: &Announcement) -> Vec<Frame> {
    let Announcement {
        address,
        target,
        form,
    } = *announcement;
    let frame = |protocol, bytes: &[u8]| Frame {
        ifindex: target.ifindex,
        protocol,
        bytes: bytes.to_vec(),
    };
    match address {
        IpAddr::V4(v4) => {
            let operations: &[u8] = match form {
                Form::Request => &[Arp::REQUEST],
                Form::Reply => &[Arp::REPLY],
                Form::Both => &[Arp::REQUEST, Arp::REPLY],
            };
            let arp = |operation: &u8| {
                let arp = Arp::gratuitous(*operation, v4.octets(), target.mac);
                frame(libc::ETH_P_ARP, &arp.frame())
            };
            operations.iter().map(arp).collect()
        }
        IpAddr::V6(v6) => {
            let advertisement = Advertisement::unsolicited(v6.octets(), target.mac, target.router);
            vec![frame(libc::ETH_P_IPV6, &advertisement.frame())]
        }
    }
}

/// The address of an interface on the link layer.
fn link(frame: &Frame) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (frame.protocol as u16).to_be(),
        sll_ifindex: frame.ifindex as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}
