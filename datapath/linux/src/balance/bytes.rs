//! Between the words of the daemon and the keys of the maps.

use std::net::IpAddr;

use vipd_datapath_common::{
    AddressKey,
    balance::{Backend, Flow, Range, ServiceKey, backend_flags, flow_flags, service_flags},
};

use super::{
    Dispatch, Forward, Frontend, Protocol,
    goal::{Prefix, Reach, Spot},
};

impl From<Frontend> for ServiceKey {
    fn from(frontend: Frontend) -> Self {
        Self {
            address: AddressKey::from(frontend.address),
            port: frontend.port.to_be_bytes(),
            protocol: frontend.protocol.number(),
            reserved: 0,
        }
    }
}

impl Frontend {
    /// The service of a key; `None` if its protocol is none that is balanced.
    pub(crate) fn of(key: &ServiceKey) -> Option<Self> {
        Some(Self {
            address: IpAddr::from(key.address),
            port: u16::from_be_bytes(key.port),
            protocol: Protocol::of(key.protocol)?,
        })
    }
}

impl Forward {
    /// What a service says of it.
    pub(crate) const fn flags(self) -> u32 {
        match self {
            Self::Nat => service_flags::NAT,
            Self::Dsr(Dispatch::L2) => service_flags::DSR,
            Self::Dsr(Dispatch::Ipip) => service_flags::DSR | service_flags::IPIP,
            Self::Dsr(Dispatch::Gue) => service_flags::DSR | service_flags::GUE,
        }
    }

    /// That of a service with these flags.
    pub(crate) const fn of_service(flags: u32) -> Self {
        if flags & service_flags::DSR == 0 {
            Self::Nat
        } else if flags & service_flags::IPIP != 0 {
            Self::Dsr(Dispatch::Ipip)
        } else if flags & service_flags::GUE != 0 {
            Self::Dsr(Dispatch::Gue)
        } else {
            Self::Dsr(Dispatch::L2)
        }
    }

    /// That of a flow.
    pub(crate) const fn of_flow(flow: &Flow) -> Self {
        if !flow.has(flow_flags::DSR) {
            Self::Nat
        } else if flow.has(flow_flags::IPIP) {
            Self::Dsr(Dispatch::Ipip)
        } else if flow.has(flow_flags::GUE) {
            Self::Dsr(Dispatch::Gue)
        } else {
            Self::Dsr(Dispatch::L2)
        }
    }
}

impl Spot {
    /// Whose entry this is.
    pub(crate) fn of(backend: &Backend) -> Self {
        Self {
            address: IpAddr::from(backend.address),
            port: u16::from_be_bytes(backend.port),
        }
    }

    /// Its entry under a number.
    pub(crate) fn entry(self, number: u32, reach: Option<Reach>) -> Backend {
        let local = reach.is_some_and(|reach| reach.local);
        let front = if self.address.is_ipv4() { 96 } else { 0 };
        let link = reach.and_then(|reach| reach.link).map_or(0, |length| {
            (front + u16::from(length)) << backend_flags::LINK.trailing_zeros()
        });
        Backend {
            address: AddressKey::from(self.address),
            source: reach
                .and_then(|reach| reach.source)
                .map_or(AddressKey { octets: [0; 16] }, AddressKey::from),
            port: self.port.to_be_bytes(),
            flags: link
                | if local { backend_flags::LOCAL } else { 0 }
                | if local && self.address.is_loopback() {
                    backend_flags::LOOPBACK
                } else {
                    0
                },
            ifindex: reach.map_or(0, |reach| reach.ifindex),
            id: number,
            mtu: reach.and_then(|reach| reach.mtu).unwrap_or(0),
        }
    }
}

impl Prefix {
    /// The key of a service's prefix: how many bits of it count, and the rest.
    pub(crate) fn key(self, service: u32) -> (u32, Range) {
        let front = match self.address {
            IpAddr::V4(_) => Range::IN_FRONT_OF_V4,
            IpAddr::V6(_) => Range::IN_FRONT_OF_V6,
        };
        let address = AddressKey::from(self.address);
        (front + u32::from(self.length), Range { service, address })
    }

    /// The prefix of a key, and whose it is; `None` if there is no such prefix.
    pub(crate) fn of(bits: u32, range: Range) -> Option<(u32, Self)> {
        let address = IpAddr::from(range.address);
        let front = match address {
            IpAddr::V4(_) => Range::IN_FRONT_OF_V4,
            IpAddr::V6(_) => Range::IN_FRONT_OF_V6,
        };
        let length = u8::try_from(bits.checked_sub(front)?).ok()?;
        Some((range.service, Self { address, length }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_found_again_in_its_key() {
        let prefixes = [
            ("10.1.2.3", 8),
            ("10.1.2.3", 32),
            ("0.0.0.0", 0),
            ("2001:db8::1", 32),
            ("::", 0),
            ("2001:db8::1", 128),
        ];
        for (address, length) in prefixes {
            let prefix = Prefix::new(address.parse().unwrap(), length);
            let (bits, range) = prefix.key(7);
            assert!(bits <= Range::BITS);
            assert_eq!(Prefix::of(bits, range), Some((7, prefix)));
        }
    }

    #[test]
    fn how_a_service_forwards_is_found_again_in_its_flags() {
        let dsr = [Dispatch::L2, Dispatch::Ipip, Dispatch::Gue].map(Forward::Dsr);
        for how in [Forward::Nat].into_iter().chain(dsr) {
            let others = service_flags::BY_CLIENT | service_flags::RANGES;
            assert_eq!(Forward::of_service(how.flags() | others), how);
        }
    }

    #[test]
    fn bits_behind_a_prefix_say_nothing() {
        let prefix = |address: &str, length| Prefix::new(address.parse().unwrap(), length);
        assert_eq!(prefix("10.1.2.3", 8), prefix("10.0.0.0", 8));
        assert_eq!(prefix("10.1.2.3", 0), prefix("0.0.0.0", 0));
        assert_eq!(prefix("2001:db8::1", 32), prefix("2001:db8::", 32));
        assert_eq!(prefix("10.1.2.3", 99), prefix("10.1.2.3", 32));
    }
}
