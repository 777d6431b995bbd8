//! How a client's packets get to the server, and where it sends them for that.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Where pages are asked for, and where they are.
pub(super) const HTTP: u16 = 8000;
/// Where datagrams are sent to, and where they arrive once they are translated.
pub(super) const DATAGRAMS: u16 = 9000;
pub(super) const TRANSLATED: u16 = 9001;

/// How the host of a way is wired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arms {
    /// By one link, which client and server share.
    One,
    /// By a link to the client, and one to the server.
    Two,
}

/// Who stands between client and server, each on a host of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A router, and nothing else.
    Routing,
    /// A holder of a VIP in mode `nat`.
    Vipd,
    /// The same, with `xdp = "force"`: it sends packets out of the interface on which they came in, so it needs [`Arms::One`].
    Xdp,
    /// A router that rewrites the destination by nftables and the kernel's conntrack.
    Nftables,
    /// A proxy.
    Haproxy,
    /// A proxy: nginx, with its module `stream`.
    Nginx,
}

impl Way {
    /// Those that forward packets.
    pub(super) fn packets(arms: Arms) -> &'static [Self] {
        match arms {
            Arms::One => &[Self::Routing, Self::Nftables, Self::Vipd, Self::Xdp],
            Arms::Two => &[Self::Routing, Self::Nftables, Self::Vipd],
        }
    }

    /// Those that requests are sent through.
    pub(super) const REQUESTS: [Self; 4] = [Self::Routing, Self::Vipd, Self::Haproxy, Self::Nginx];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Routing => "plain routing",
            Self::Vipd => "vipd nat, tc",
            Self::Xdp => "vipd nat, XDP",
            Self::Nftables => "nftables DNAT",
            Self::Haproxy => "haproxy, TCP",
            Self::Nginx => "nginx stream",
        }
    }

    /// The host's name in the lab.
    pub(super) fn host(self) -> &'static str {
        match self {
            Self::Routing => "router",
            Self::Vipd => "n1",
            Self::Xdp => "n2",
            Self::Nftables => "nft",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// Its number in names and addresses of its links.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Routing => 1,
            Self::Vipd => 2,
            Self::Nftables => 3,
            Self::Haproxy => 4,
            Self::Nginx => 5,
            Self::Xdp => 6,
        }
    }

    /// The client's address on the link that they share.
    pub(super) fn client(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 78, self.number(), 2)
    }

    /// Its own there.
    pub(super) fn front(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 78, self.number(), 1)
    }

    /// The address that it holds, if it is vipd: on the client's link, as with XDP it must be.
    pub(super) fn vip(self) -> Option<Ipv4Addr> {
        match self {
            Self::Vipd | Self::Xdp => Some(Ipv4Addr::new(10, 78, self.number(), 100)),
            Self::Routing | Self::Nftables | Self::Haproxy | Self::Nginx => None,
        }
    }

    /// Its own on the link that it shares with the server, where that is another one than the client's.
    pub(super) fn back(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 79, self.number(), 1)
    }

    /// The server's, there or behind the client.
    pub(super) fn server(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 79, self.number(), 2)
    }

    /// The address that the client uses.
    pub(super) fn target(self) -> Ipv4Addr {
        match (self, self.vip()) {
            (_, Some(vip)) => vip,
            (Self::Routing, None) => self.server(),
            (_, None) => self.front(),
        }
    }

    /// Where the client sends datagrams that the server shall see at [`TRANSLATED`].
    pub(super) fn datagrams(self) -> SocketAddrV4 {
        let port = match self {
            Self::Routing => TRANSLATED,
            Self::Vipd | Self::Xdp | Self::Nftables | Self::Haproxy | Self::Nginx => DATAGRAMS,
        };
        SocketAddrV4::new(self.target(), port)
    }
}
