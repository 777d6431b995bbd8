//! What was read, kept in line with what the kernel tells since.
//!
//! Reading ten thousand addresses costs tens of milliseconds, and an audit asks twice a second. So everything is read
//! once, then what the kernel multicasts is applied to it; an overrun, or half a minute, has it read anew.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    net::IpAddr,
    time::{Duration, Instant},
};

use rtnetlink::{
    MulticastGroup,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
    sys::Socket,
};

use super::{
    dump::{Dump, Links},
    listen, message,
};
use crate::{DatapathError, plan::Presence};

/// How long the kernel's word is taken for everything.
const TRUST: Duration = Duration::from_secs(30);
/// Room for what the kernel tells while ten thousand addresses come, bytes.
const ROOM: usize = 8 << 20;
/// What it mirrors.
const GROUPS: [MulticastGroup; 4] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Tc,
];
/// Longest message that is looked into; of those about links the header is enough.
const LONGEST: usize = 8_192;

// Types of messages, as in linux/rtnetlink.h.
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_DELQDISC: u16 = 37;
const RTM_DELTFILTER: u16 = 45;

/// Interfaces and addresses as the kernel has them.
pub(crate) struct Mirror {
    dump: Dump,
    told: Socket,
    pub(crate) links: Links,
    /// Whether vipd added it, by the kernel's record; by address, interface and prefix length.
    pub(crate) addresses: BTreeMap<(IpAddr, u32, u8), bool>,
    read: Option<Instant>,
}

/// What is new since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Everything was read anew.
    pub(crate) all: bool,
    /// An interface changed.
    pub(crate) links: bool,
    /// An address came or went.
    pub(crate) addresses: bool,
    /// A filter or its queueing discipline went.
    pub(crate) filters: bool,
}

impl News {
    /// Whether there is any.
    pub(crate) fn any(self) -> bool {
        self.all || self.links || self.addresses || self.filters
    }
}

impl Mirror {
    pub(crate) fn open() -> Result<Self, DatapathError> {
        let told = listen(ROOM, &GROUPS).map_err(|source| {
            DatapathError::system("listen to the kernel's news of interfaces", source)
        })?;
        Ok(Self {
            dump: Dump::open()?,
            told,
            links: Links::default(),
            addresses: BTreeMap::new(),
            read: None,
        })
    }

    /// Catches up with the kernel.
    pub(crate) async fn refresh(&mut self) -> Result<News, DatapathError> {
        // What is told from here on is newer than what is read below, and applied at the next look.
        let told = self.hear();
        let news = match (told, self.read) {
            (Ok(news), Some(read)) if read.elapsed() < TRUST => news,
            _ => News {
                all: true,
                links: true,
                addresses: true,
                filters: true,
            },
        };
        if news.all {
            self.read = None;
            let addresses = self.dump.addresses().await?;
            self.addresses = addresses
                .into_iter()
                .map(|(address, prefix, at)| ((address, at.ifindex, prefix), at.ours))
                .collect();
        }
        if news.links {
            let links = self.dump.links().await;
            self.links = links.inspect_err(|_| self.read = None)?;
        }
        if news.all {
            self.read = Some(Instant::now());
        }
        Ok(news)
    }

    /// The routes by which vipd delivers addresses to this host.
    pub(crate) async fn our_routes(&self) -> Result<Vec<(IpAddr, u32)>, DatapathError> {
        self.dump.our_routes().await
    }

    /// Whether both filters of this handle are on the interface.
    pub(crate) async fn has_filters(&self, ifindex: u32, handle: u32) -> bool {
        self.dump.has_filters(ifindex, handle).await
    }

    /// Applies what the kernel has told. An error: something was missed.
    fn hear(&mut self) -> io::Result<News> {
        let mut news = News::default();
        let mut buffer = vec![0; LONGEST];
        loop {
            let length = match self.told.recv(&mut &mut buffer[..], 0) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(news),
                Err(error) => {
                    self.forget_the_rest(&mut buffer);
                    return Err(error);
                }
            };
            self.apply(buffer.get(..length).unwrap_or(&buffer), &mut news)?;
        }
    }

    fn forget_the_rest(&mut self, buffer: &mut [u8]) {
        while match self.told.recv(&mut &mut *buffer, 0) {
            Ok(_) => true,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        } {}
    }

    fn apply(&mut self, datagram: &[u8], news: &mut News) -> io::Result<()> {
        let Some(kind) = datagram.get(4..6) else {
            return Ok(()); // not even a header
        };
        match u16::from_ne_bytes([kind[0], kind[1]]) {
            // Links are read anew as a whole, so that one place reads them.
            RTM_NEWLINK | RTM_DELLINK => {
                news.links = true;
                return Ok(());
            }
            RTM_DELQDISC | RTM_DELTFILTER => {
                news.filters = true;
                return Ok(());
            }
            RTM_NEWADDR | RTM_DELADDR => {}
            _ => return Ok(()),
        }
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram)
            .map_err(io::Error::other)?;
        let NetlinkPayload::InnerMessage(message) = message.payload else {
            return Ok(());
        };
        match message {
            RouteNetlinkMessage::NewAddress(message) => {
                let (address, prefix, Presence { ifindex, ours }) =
                    message::read(&message).ok_or(ErrorKind::InvalidData)?;
                let before = self.addresses.insert((address, ifindex, prefix), ours);
                news.addresses |= before != Some(ours);
            }
            RouteNetlinkMessage::DelAddress(message) => {
                let (address, prefix, at) =
                    message::read(&message).ok_or(ErrorKind::InvalidData)?;
                let gone = self.addresses.remove(&(address, at.ifindex, prefix));
                news.addresses |= gone.is_some();
            }
            _ => {}
        }
        Ok(())
    }
}
