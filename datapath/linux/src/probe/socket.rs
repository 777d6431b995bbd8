//! A packet socket that hears ARP and neighbour discovery on all interfaces, and sends.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    time::Instant,
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use socket2::{Domain, Socket, Type};

use crate::DatapathError;

/// Frames that are taken in before the clock is looked at, also once the time is over: more than the kernel keeps for a socket that
/// nobody reads (by default some 280 such frames, in 208 KiB), so that what came in time is heard.
const TOGETHER: usize = 512;

/// The longest frame of interest: no option of neighbour discovery matters.
const LONGEST: usize = 256;

/// For the kernel's packet filter: ARP, and ICMPv6 135 and 136, of this interface's own link and not of a VLAN above it,
/// which has an interface of its own. While it is listened to the host may have much other traffic.
static FILTER: [libc::sock_filter; 12] = [
    code(0x20, 0, 0, TAGGED),         // 0: whether it came with a VLAN's tag
    code(0x15, 0, 8, 0),              // 1: it did: to 10
    code(0x28, 0, 0, 12),             // 2: the frame's type
    code(0x15, 7, 0, 0x0806),         // 3: ARP: to 11
    code(0x15, 0, 5, 0x86dd),         // 4: no IPv6: to 10
    code(0x30, 0, 0, 20),             // 5: the next header
    code(0x15, 0, 3, 58),             // 6: no ICMPv6: to 10
    code(0x30, 0, 0, 54),             // 7: the message's type
    code(0x35, 0, 1, 135),            // 8: below a solicitation: to 10
    code(0x25, 0, 1, 136),            // 9: no advertisement: to 10, else to 11
    code(0x06, 0, 0, 0),              // 10: nothing of it
    code(0x06, 0, 0, LONGEST as u32), // 11: the frame
];

/// Where the filter finds that a frame had a tag: what the kernel knows beside the bytes.
const TAGGED: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG_PRESENT) as u32;

const fn code(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// The socket.
pub(super) struct Tap(Socket);

impl Tap {
    pub(super) fn open() -> Result<Self, DatapathError> {
        let failed = |source| DatapathError::system("open a packet socket that listens", source);
        // It hears nothing until it has its filter.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        attach_filter(&socket).map_err(failed)?;
        let all = libc::sockaddr_ll {
            sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
            ..link(0)
        };
        // SAFETY: the address is a sockaddr_ll of that size, which the kernel only reads.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const all).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        match bound {
            0 => Ok(Self(socket)),
            _ => Err(failed(io::Error::last_os_error())),
        }
    }

    /// Sends a frame by the interface of this index.
    pub(super) fn send(&self, index: u32, frame: &[u8]) -> io::Result<()> {
        let to = link(index);
        // SAFETY: frame and address outlive the call; the kernel only reads them.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        match usize::try_from(sent) {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }

    /// Hands every frame that is heard until then to `hear`, with the index of its interface.
    pub(super) fn listen(
        &self,
        until: Instant,
        mut hear: impl FnMut(u32, &[u8]),
    ) -> Result<(), DatapathError> {
        let failed = |source| DatapathError::system("listen to the link", source);
        loop {
            // A flood does not keep it here for longer.
            for _ in 0..TOGETHER {
                match self.receive().map_err(failed)? {
                    Some((index, frame)) => hear(index, &frame),
                    None => break,
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let timeout = PollTimeout::try_from(left.as_millis() as i32 + 1);
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout.unwrap_or(PollTimeout::ZERO)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
        }
    }

    /// The next frame that came from outside, if one is there, and the index of its interface.
    fn receive(&self) -> io::Result<Option<(u32, Vec<u8>)>> {
        let mut bytes = [0u8; LONGEST];
        let mut from = link(0);
        let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: buffer and address are writable for the lengths given.
        let read = unsafe {
            libc::recvfrom(
                self.0.as_raw_fd(),
                bytes.as_mut_ptr().cast(),
                bytes.len(),
                0,
                (&raw mut from).cast(),
                &raw mut length,
            )
        };
        let Ok(read) = usize::try_from(read) else {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                // An interface went down: others go on.
                Some(libc::EAGAIN | libc::EINTR | libc::ENETDOWN) => Ok(None),
                _ => Err(error),
            };
        };
        let frame = if from.sll_pkttype == libc::PACKET_OUTGOING {
            Vec::new()
        } else {
            bytes[..read.min(LONGEST)].to_vec()
        };
        Ok(Some((from.sll_ifindex as u32, frame)))
    }
}

fn attach_filter(socket: &Socket) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: FILTER.len() as u16,
        filter: FILTER.as_ptr().cast_mut(),
    };
    // SAFETY: the program names the filter's instructions, which outlive the call; the kernel only reads both.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    match set {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The index of an interface, in the network namespace of the thread that asks.
pub(super) fn index_of(interface: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(interface).ok()
}

/// An interface's address on the link layer.
fn link(index: u32) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}
