//! Many changes with one system call.
//!
//! The kernel carries out all messages of a datagram before `send` returns, and answers only those that failed (and
//! the last, which asks for it). So a thousand addresses cost eight system calls, and not a thousand round trips.

use std::{io, net::IpAddr};

use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
    },
    packet_route::RouteNetlinkMessage,
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use super::message;
use crate::DatapathError;

/// Messages in one datagram: the answers fit the default receive buffer even if all of them fail.
const CHUNK: usize = 128;
/// Longest answer: an error, without the message that it is about.
const ANSWER: usize = 8_192;

/// A change of one address on one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Puts the address on it.
    Put(IpAddr, u32),
    /// Takes it off; that it or its interface is gone is fine.
    Take(IpAddr, u32),
    /// Delivers it to this host, without its being on the interface; that this is so already is fine.
    Route(IpAddr, u32),
    /// Ends that; that it has ended is fine.
    Unroute(IpAddr, u32),
}

impl Change {
    fn request(self) -> (RouteNetlinkMessage, u16) {
        match self {
            Self::Put(address, ifindex) => (
                RouteNetlinkMessage::NewAddress(message::address(address, ifindex)),
                NLM_F_CREATE | NLM_F_EXCL,
            ),
            Self::Take(address, ifindex) => (
                RouteNetlinkMessage::DelAddress(message::address(address, ifindex)),
                0,
            ),
            Self::Route(address, ifindex) => (
                RouteNetlinkMessage::NewRoute(message::route(address, ifindex)),
                NLM_F_CREATE | NLM_F_EXCL,
            ),
            Self::Unroute(address, ifindex) => (
                RouteNetlinkMessage::DelRoute(message::route(address, ifindex)),
                0,
            ),
        }
    }

    /// Of what.
    pub(crate) fn address(self) -> IpAddr {
        match self {
            Self::Put(address, _)
            | Self::Take(address, _)
            | Self::Route(address, _)
            | Self::Unroute(address, _) => address,
        }
    }

    /// Whether this error leaves things as they were asked for.
    fn tolerates(self, errno: i32) -> bool {
        match self {
            Self::Put(..) => false,
            Self::Take(..) => [nix::libc::EADDRNOTAVAIL, nix::libc::ENODEV].contains(&errno),
            Self::Route(..) => errno == nix::libc::EEXIST,
            Self::Unroute(..) => [nix::libc::ESRCH, nix::libc::ENODEV].contains(&errno),
        }
    }

    /// The error of a change that failed, in operator's words.
    pub(crate) fn failed(self, error: io::Error) -> DatapathError {
        let doing = match self {
            Self::Put(address, ifindex) => format!("add {address} to interface {ifindex}"),
            Self::Take(address, ifindex) => format!("delete {address} from interface {ifindex}"),
            Self::Route(address, ifindex) => {
                format!("route {address} to this host by interface {ifindex}")
            }
            Self::Unroute(address, ifindex) => {
                format!("end the route of {address} to this host by interface {ifindex}")
            }
        };
        DatapathError::system(doing, error)
    }
}

/// A socket of its own in the network namespace of the thread that opened it.
pub(crate) struct Batch {
    socket: Socket,
    sequence: u32,
}

impl Batch {
    pub(crate) fn open() -> Result<Self, DatapathError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_cap_ack(true)?;
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        Ok(Self {
            socket: open().map_err(|source: io::Error| {
                DatapathError::system("open a netlink socket", source)
            })?,
            sequence: 0,
        })
    }

    /// Carries the changes out in their order; blocks for as long as the kernel works on them. Returns those that
    /// failed, by their place.
    pub(crate) fn run(&mut self, changes: &[Change]) -> Vec<(usize, io::Error)> {
        let mut failures = Vec::new();
        for (chunk, changes) in changes.chunks(CHUNK).enumerate() {
            let first = chunk * CHUNK;
            match self.exchange(changes) {
                Ok(failed) => failures.extend(failed.into_iter().map(|(i, e)| (first + i, e))),
                // Nobody knows which were done: all are said to have failed, and the audit reads what is.
                Err(error) => {
                    self.drain();
                    let all = (0..changes.len()).map(|i| (first + i, copy(&error)));
                    failures.extend(all);
                }
            }
        }
        failures
    }

    fn exchange(&mut self, changes: &[Change]) -> io::Result<Vec<(usize, io::Error)>> {
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::with_capacity(changes.len() * 96);
        for (i, change) in changes.iter().enumerate() {
            let (request, flags) = change.request();
            let mut message = NetlinkMessage::from(request);
            message.header.flags = NLM_F_REQUEST | flags;
            if i + 1 == changes.len() {
                message.header.flags |= NLM_F_ACK;
            }
            self.sequence = self.sequence.wrapping_add(1);
            message.header.sequence_number = self.sequence;
            message.finalize();
            let start = datagram.len();
            // Every netlink message starts at a multiple of four.
            datagram.resize((start + message.buffer_len()).next_multiple_of(4), 0);
            message.serialize(&mut datagram[start..]);
        }
        self.socket.send(&datagram, 0)?;
        self.answers(first, changes)
    }

    /// Everything is done by now, and all answers are there.
    fn answers(&mut self, first: u32, changes: &[Change]) -> io::Result<Vec<(usize, io::Error)>> {
        let mut failed = Vec::new();
        let mut buffer = [0; ANSWER];
        loop {
            let length = self.socket.recv(&mut &mut buffer[..], 0)?;
            let answer =
                NetlinkMessage::<RouteNetlinkMessage>::deserialize(&buffer[..length.min(ANSWER)])
                    .map_err(io::Error::other)?;
            let place = answer.header.sequence_number.wrapping_sub(first) as usize;
            let (NetlinkPayload::Error(error), Some(change)) = (answer.payload, changes.get(place))
            else {
                continue; // Of an earlier exchange that broke off.
            };
            // None is an acknowledgement. (rustc 1.95 miscompiles `code.map_or(0, |code| code.get().abs()) != 0` to true.)
            if let Some(code) = error.code
                && !change.tolerates(code.get().abs())
            {
                failed.push((place, error.to_io()));
            }
            if place + 1 == changes.len() {
                return Ok(failed);
            }
        }
    }

    fn drain(&mut self) {
        let mut buffer = [0; ANSWER];
        while self.socket.recv(&mut &mut buffer[..], 0).is_ok() {}
    }
}

fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
