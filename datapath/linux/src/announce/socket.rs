//! A packet socket that only sends.

use std::{io, net::IpAddr};

use nix::libc;
use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};
use vipd_datapath_common::frame::{Advertisement, Arp};

use super::Target;
use crate::DatapathError;

/// Sends announcements in the network namespace of the thread that opened it. The frames pass
/// the egress programs, as all frames do.
pub(crate) struct Sender(Socket);

impl Sender {
    pub(crate) fn open() -> Result<Self, DatapathError> {
        // Protocol 0: it receives nothing.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
            .map_err(|source| DatapathError::system("open a packet socket", source))?;
        Ok(Self(socket))
    }

    /// Announces an address: both forms of gratuitous ARP, or one advertisement.
    pub(crate) fn announce(&self, address: IpAddr, target: Target) -> io::Result<()> {
        match address {
            IpAddr::V4(v4) => {
                for operation in [Arp::REQUEST, Arp::REPLY] {
                    let arp = Arp::gratuitous(operation, v4.octets(), target.mac);
                    self.send(target.ifindex, libc::ETH_P_ARP, &arp.frame())?;
                }
                Ok(())
            }
            IpAddr::V6(v6) => {
                let advertisement =
                    Advertisement::unsolicited(v6.octets(), target.mac, target.router);
                self.send(target.ifindex, libc::ETH_P_IPV6, &advertisement.frame())
            }
        }
    }

    fn send(&self, ifindex: u32, protocol: i32, frame: &[u8]) -> io::Result<()> {
        self.0.send_to(frame, &link(ifindex, protocol)).map(drop)
    }
}

/// The address of an interface on the link layer.
fn link(ifindex: u32, protocol: i32) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: the storage is large enough for a sockaddr_ll, which is plain integers.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (protocol as u16).to_be();
    address.sll_ifindex = ifindex as i32;
    // SAFETY: family and length are those of the sockaddr_ll just written.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as u32) }
}
