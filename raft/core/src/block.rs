//! A block: a run of addresses of one family that a pool hands out.

use alloc::string::{String, ToString};
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::codec::{DecodeError, Reader, Wire, Writer, wire_enum};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

wire_enum!(Family { 0 => V4, 1 => V6 });

impl Family {
    /// Both families, IPv4 first.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of `address`.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// How many bits an address has.
    #[must_use]
    pub fn bits(self) -> u32 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The address with this number.
    ///
    /// # Panics
    /// If a number above 2^32 is asked for as IPv4; numbers come from addresses of the same family.
    #[must_use]
    pub fn address(self, number: u128) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::from(
                u32::try_from(number).expect("an IPv4 number came from an IPv4 address"),
            )
            .into(),
            Self::V6 => Ipv6Addr::from(number).into(),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        })
    }
}

/// The number of an address within its family.
#[must_use]
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// A run of addresses, never empty, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// All addresses of a prefix; its host bits are zero.
    Cidr(IpNet),
    /// `start` to `stop`, both included.
    Range {
        /// The first address.
        start: IpAddr,
        /// The last address, of the same family and not below `start`.
        stop: IpAddr,
    },
}

/// Why a text or pair of addresses is no [`Block`]; each names the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidBlock {
    /// Neither a prefix, a range nor an address.
    Unparsable(String),
    /// A prefix with host bits; the prefix meant.
    HostBits(String, String),
    /// The first address is above the last.
    Backwards(String),
    /// The two ends are of different families.
    MixedFamilies(String),
    /// It holds addresses that no host may announce; which.
    NotForHosts(String, &'static str),
}

/// What no host may announce: first, last, and what they are. IPv4-mapped ones would be the IPv4 address itself.
const NOT_FOR_HOSTS: [(IpAddr, IpAddr, &str); 10] = [
    (
        v4(0, 0, 0, 0),
        v4(0, 255, 255, 255),
        "\"this network\" addresses (0.0.0.0/8)",
    ),
    (
        v4(127, 0, 0, 0),
        v4(127, 255, 255, 255),
        "loopback addresses (127.0.0.0/8)",
    ),
    (
        v4(169, 254, 0, 0),
        v4(169, 254, 255, 255),
        "link-local addresses (169.254.0.0/16)",
    ),
    (
        v4(224, 0, 0, 0),
        v4(239, 255, 255, 255),
        "multicast addresses (224.0.0.0/4)",
    ),
    (
        v4(255, 255, 255, 255),
        v4(255, 255, 255, 255),
        "the broadcast address",
    ),
    (v6(0, 0), v6(0, 0), "the unspecified address (::)"),
    (v6(0, 1), v6(0, 1), "the loopback address (::1)"),
    (
        v6(0, 0xffff_0000_0000),
        v6(0, 0xffff_ffff_ffff),
        "IPv4-mapped addresses (::ffff:0:0/96): write them as IPv4",
    ),
    (
        v6(0xfe80 << 112, 0),
        v6(0xfebf << 112, (1 << 112) - 1),
        "link-local addresses (fe80::/10)",
    ),
    (
        v6(0xff00 << 112, 0),
        v6(0xffff << 112, (1 << 112) - 1),
        "multicast addresses (ff00::/8)",
    ),
];

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(high: u128, low: u128) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(high | low))
}

impl fmt::Display for InvalidBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unparsable(b) => {
                write!(
                    f,
                    "block {b:?} is not a prefix (10.0.0.0/24), a range (10.0.0.1-10.0.0.9) or an address"
                )
            }
            Self::HostBits(b, meant) => write!(f, "block {b} has host bits set: write {meant}"),
            Self::Backwards(b) => write!(f, "block {b} ends before it starts: swap start and stop"),
            Self::MixedFamilies(b) => {
                write!(f, "block {b} mixes IPv4 and IPv6: make one block of each")
            }
            Self::NotForHosts(b, what) => {
                write!(f, "block {b} holds {what}, which no host may announce")
            }
        }
    }
}

impl core::error::Error for InvalidBlock {}

impl Block {
    /// Parses `10.0.0.0/24`, `10.0.0.1-10.0.0.9` or `10.0.0.1`.
    ///
    /// # Errors
    /// [`InvalidBlock`].
    pub fn parse(text: &str) -> Result<Self, InvalidBlock> {
        let unparsable = || InvalidBlock::Unparsable(text.into());
        if let Some((start, stop)) = text.split_once('-') {
            let start = start.trim().parse().map_err(|_| unparsable())?;
            let stop = stop.trim().parse().map_err(|_| unparsable())?;
            Self::range(start, stop)
        } else if text.contains('/') {
            Self::cidr(text.parse().map_err(|_| unparsable())?)
        } else {
            let address = text.parse().map_err(|_| unparsable())?;
            Self::range(address, address)
        }
    }

    /// All addresses of a prefix.
    ///
    /// # Errors
    /// [`InvalidBlock::HostBits`] and [`InvalidBlock::NotForHosts`].
    pub fn cidr(net: IpNet) -> Result<Self, InvalidBlock> {
        if net == net.trunc() {
            Self::Cidr(net).for_hosts()
        } else {
            let meant = net.trunc().to_string();
            Err(InvalidBlock::HostBits(net.to_string(), meant))
        }
    }

    /// The block from `start` to `stop`, both included.
    ///
    /// # Errors
    /// [`InvalidBlock::MixedFamilies`], [`InvalidBlock::Backwards`] and [`InvalidBlock::NotForHosts`].
    pub fn range(start: IpAddr, stop: IpAddr) -> Result<Self, InvalidBlock> {
        let block = Self::Range { start, stop };
        if Family::of(start) != Family::of(stop) {
            Err(InvalidBlock::MixedFamilies(block.to_string()))
        } else if start > stop {
            Err(InvalidBlock::Backwards(block.to_string()))
        } else {
            block.for_hosts()
        }
    }

    fn for_hosts(self) -> Result<Self, InvalidBlock> {
        let (start, stop) = (self.start(), self.stop());
        let mut not = NOT_FOR_HOSTS.iter();
        // Addresses of different families compare as all of IPv4 before all of IPv6, so only the own family meets.
        match not.find(|(first, last, _)| start <= *last && *first <= stop) {
            Some((_, _, what)) => Err(InvalidBlock::NotForHosts(self.to_string(), what)),
            None => Ok(self),
        }
    }

    /// The first address.
    #[must_use]
    pub fn start(&self) -> IpAddr {
        match self {
            Self::Cidr(net) => net.network(),
            Self::Range { start, .. } => *start,
        }
    }

    /// The last address.
    #[must_use]
    pub fn stop(&self) -> IpAddr {
        match self {
            Self::Cidr(net) => net.broadcast(),
            Self::Range { stop, .. } => *stop,
        }
    }

    /// The family of all its addresses.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.start())
    }

    /// The numbers of the first and last address that may be handed out. Without `allow_first_last` a prefix
    /// longer than two addresses keeps its first and last (network and broadcast) to itself.
    #[must_use]
    pub fn usable(&self, allow_first_last: bool) -> (u128, u128) {
        let (first, last) = (number(self.start()), number(self.stop()));
        match self {
            Self::Cidr(_) if !allow_first_last && last - first > 1 => (first + 1, last - 1),
            Self::Cidr(_) | Self::Range { .. } => (first, last),
        }
    }

    /// Whether the two share an address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.family() == other.family()
            && self.start() <= other.stop()
            && other.start() <= self.stop()
    }

    /// Whether `address` lies in the block.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == self.family() && self.start() <= address && address <= self.stop()
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cidr(net) => write!(f, "{net}"),
            Self::Range { start, stop } if start == stop => write!(f, "{start}"),
            Self::Range { start, stop } => write!(f, "{start}-{stop}"),
        }
    }
}

impl Wire for Block {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Cidr(net) => {
                0u8.encode(out);
                net.network().encode(out);
                net.prefix_len().encode(out);
            }
            Self::Range { start, stop } => {
                1u8.encode(out);
                start.encode(out);
                stop.encode(out);
            }
        }
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(input)? {
            0 => {
                let (address, len) = (IpAddr::decode(input)?, u8::decode(input)?);
                let net =
                    IpNet::new(address, len).map_err(|_| DecodeError::Invalid("prefix length"))?;
                Self::cidr(net).map_err(|_| DecodeError::Invalid("prefix"))
            }
            1 => {
                let (start, stop) = (IpAddr::decode(input)?, IpAddr::decode(input)?);
                Self::range(start, stop).map_err(|_| DecodeError::Invalid("block"))
            }
            tag => Err(DecodeError::Tag { of: "Block", tag }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_prefixes_ranges_or_single_addresses() {
        for text in [
            "10.0.0.0/24",
            "10.0.0.1-10.0.0.9",
            "10.0.0.1",
            "fd00::/64",
            "fd00::1-fd00::f",
            "2001:db8::1",
        ] {
            let block = Block::parse(text).unwrap();
            assert_eq!(block.to_string(), text);
            assert_eq!(Block::from_bytes(&block.to_bytes()), Ok(block));
        }
    }

    #[test]
    fn a_bad_block_is_named_with_its_reason() {
        for (text, reason) in [
            ("10.0.0.1/24", "write 10.0.0.0/24"),
            ("10.0.0.9-10.0.0.1", "ends before it starts"),
            ("10.0.0.1-fd00::1", "mixes IPv4 and IPv6"),
            ("10.0.0.0/33", "is not a prefix"),
            ("", "is not a prefix"),
            ("web", "is not a prefix"),
            ("10.0.0.1-", "is not a prefix"),
        ] {
            let said = Block::parse(text).unwrap_err().to_string();
            assert!(
                said.contains(reason) && said.contains(text),
                "{text}: {said}"
            );
        }
    }

    #[test]
    fn addresses_that_no_host_may_announce_are_refused_by_what_they_are() {
        for (text, what) in [
            ("127.0.0.0/24", "loopback"),
            ("::1", "loopback"),
            ("224.0.0.1", "multicast"),
            ("ff02::/16", "multicast"),
            ("169.254.1.0/24", "link-local"),
            ("fe80::/64", "link-local"),
            ("febf::1", "link-local"),
            ("::ffff:10.0.0.1", "IPv4-mapped"),
            ("::ffff:0:0/96", "IPv4-mapped"),
            ("0.0.0.0/0", "this network"),
            ("::/0", "unspecified"),
            ("255.255.255.255", "broadcast"),
        ] {
            let said = Block::parse(text).unwrap_err().to_string();
            assert!(said.contains(what), "{text}: {said}");
        }
        for fine in [
            "10.0.0.0/8",
            "fec0::1",
            "::2",
            "::fffe:1:2",
            "240.0.0.1",
            "2001:db8::/32",
        ] {
            assert!(Block::parse(fine).is_ok(), "{fine}");
        }
    }

    #[test]
    fn a_29_without_first_and_last_offers_six() {
        let count = |text: &str, all| {
            let (first, last) = Block::parse(text).unwrap().usable(all);
            last - first + 1
        };
        assert_eq!(
            (count("10.0.0.0/29", true), count("10.0.0.0/29", false)),
            (8, 6)
        );
        assert_eq!(
            (count("10.0.0.0/31", false), count("10.0.0.0/32", false)),
            (2, 1)
        );
        assert_eq!(
            count("10.0.0.0-10.0.0.7", false),
            8,
            "a range means what it says"
        );
    }

    #[test]
    fn overlap_is_symmetric_and_per_family() {
        let b = |t| Block::parse(t).unwrap();
        for (x, y, want) in [
            ("10.0.0.0/24", "10.0.0.255", true),
            ("10.0.0.0/24", "10.0.1.0/24", false),
            ("10.0.0.5-10.0.0.9", "10.0.0.0/29", true),
            ("10.0.0.0/8", "2001:db8::/32", false),
        ] {
            assert_eq!(b(x).overlaps(&b(y)), want, "{x} {y}");
            assert_eq!(b(y).overlaps(&b(x)), want, "{y} {x}");
        }
    }
}
