//! The frames that vipd puts on the wire: the programs answer with them, the announcer sends
//! them unasked. Whole frames of fixed size, so that one store writes one.

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;
/// Bytes of an ARP packet with its Ethernet header.
pub const ARP: usize = ETHERNET + 28;
/// Bytes of a neighbour advertisement with its link-layer option and all headers.
pub const ADVERTISEMENT: usize = ETHERNET + 40 + ICMP;
const ICMP: usize = 32;

/// The broadcast MAC.
pub const BROADCAST: [u8; 6] = [0xff; 6];
/// The MAC of ff02::1, all nodes.
pub const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
/// ff02::1, all nodes.
pub const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// An ARP packet for Ethernet and IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// 1 request, 2 reply.
    pub operation: u8,
    /// Destination of the frame.
    pub destination: [u8; 6],
    /// Source of the frame and sender hardware address.
    pub sender_mac: [u8; 6],
    /// Sender protocol address.
    pub sender: [u8; 4],
    /// Target hardware address.
    pub target_mac: [u8; 6],
    /// Target protocol address.
    pub target: [u8; 4],
}

impl Arp {
    /// Operation of a request.
    pub const REQUEST: u8 = 1;
    /// Operation of a reply.
    pub const REPLY: u8 = 2;

    /// A gratuitous ARP for `address` at `mac`. Hosts differ in which form they believe, so an
    /// announcement sends both.
    #[must_use]
    pub const fn gratuitous(operation: u8, address: [u8; 4], mac: [u8; 6]) -> Self {
        Self {
            operation,
            destination: BROADCAST,
            sender_mac: mac,
            sender: address,
            target_mac: if operation == Self::REQUEST {
                [0; 6]
            } else {
                mac
            },
            target: address,
        }
    }

    /// The bytes on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn frame(&self) -> [u8; ARP] {
        let (d, m) = (self.destination, self.sender_mac);
        let (s, n, t) = (self.sender, self.target_mac, self.target);
        [
            d[0],
            d[1],
            d[2],
            d[3],
            d[4],
            d[5],
            m[0],
            m[1],
            m[2],
            m[3],
            m[4],
            m[5], // Ethernet
            0x08,
            0x06,
            0,
            1,
            0x08,
            0x00,
            6,
            4,
            0,
            self.operation, // Ethernet, IPv4
            m[0],
            m[1],
            m[2],
            m[3],
            m[4],
            m[5],
            s[0],
            s[1],
            s[2],
            s[3], // sender
            n[0],
            n[1],
            n[2],
            n[3],
            n[4],
            n[5],
            t[0],
            t[1],
            t[2],
            t[3], // target
        ]
    }
}

/// A neighbour advertisement from the address it is about, with the target link-layer address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Destination of the frame.
    pub destination_mac: [u8; 6],
    /// Destination address.
    pub destination: [u8; 16],
    /// The address in question, also the source of the packet.
    pub target: [u8; 16],
    /// Its MAC, also the source of the frame.
    pub mac: [u8; 6],
    /// R, S and O.
    pub flags: u8,
}

impl Advertisement {
    /// R: the sender is a router.
    pub const ROUTER: u8 = 0x80;
    /// S: this answers a solicitation.
    pub const SOLICITED: u8 = 0x40;
    /// O: replace what the neighbour cache holds.
    pub const OVERRIDE: u8 = 0x20;

    /// An unsolicited advertisement to all nodes.
    #[must_use]
    pub const fn unsolicited(target: [u8; 16], mac: [u8; 6], router: bool) -> Self {
        Self {
            destination_mac: ALL_NODES_MAC,
            destination: ALL_NODES,
            target,
            mac,
            flags: Self::OVERRIDE | if router { Self::ROUTER } else { 0 },
        }
    }

    /// The bytes on the wire, checksum included.
    #[inline(always)]
    #[must_use]
    pub fn frame(&self) -> [u8; ADVERTISEMENT] {
        let mut frame = [0; ADVERTISEMENT];
        let mut i = 0;
        while i < 6 {
            frame[i] = self.destination_mac[i];
            frame[6 + i] = self.mac[i];
            frame[80 + i] = self.mac[i];
            i += 1;
        }
        (frame[12], frame[13]) = (0x86, 0xdd);
        frame[14] = 0x60; // version 6
        frame[19] = ICMP as u8;
        (frame[20], frame[21]) = (58, 255); // ICMPv6, hop limit as NDP demands
        let mut i = 0;
        while i < 16 {
            frame[22 + i] = self.target[i];
            frame[38 + i] = self.destination[i];
            frame[62 + i] = self.target[i];
            i += 1;
        }
        frame[54] = 136; // neighbour advertisement
        frame[58] = self.flags;
        (frame[78], frame[79]) = (2, 1); // target link-layer address, 8 bytes
        let [high, low] = self.checksum().to_be_bytes();
        (frame[56], frame[57]) = (high, low);
        frame
    }

    /// Internet checksum of the pseudo-header and the message. The target counts twice: it is
    /// the source address as well. (Its own function: inlined, its bytes would fill the 512 bytes
    /// of stack that a program has.)
    #[inline(never)]
    fn checksum(&self) -> u16 {
        let fixed = ICMP as u32 + 58 + (136 << 8) + (u32::from(self.flags) << 8) + 0x0201;
        let sum = fixed + 2 * sum16(&self.target) + sum16(&self.destination) + sum16(&self.mac);
        let sum = (sum & 0xffff) + (sum >> 16);
        !((sum & 0xffff) + (sum >> 16)) as u16
    }
}

/// Sum of the 16-bit words; `N` is even and at most 16, so it cannot overflow.
#[inline(always)]
fn sum16<const N: usize>(bytes: &[u8; N]) -> u32 {
    let mut sum = 0;
    let mut i = 0;
    while i + 1 < N {
        sum += u32::from(u16::from_be_bytes([bytes[i], bytes[i + 1]]));
        i += 2;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums the packet the long way: folds the pseudo-header and the message from the frame.
    fn checksum_holds(frame: &[u8; ADVERTISEMENT]) -> bool {
        let mut sum = ICMP as u32 + 58;
        for pair in frame[22..].chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair[1]);
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum == 0xffff
    }

    #[test]
    fn advertisement_checksums_hold_for_all_flags_and_extreme_bytes() {
        for fill in [0x00, 0x5a, 0xff] {
            for flags in [0x00, 0x20, 0x60, 0xa0, 0xe0] {
                let advertisement = Advertisement {
                    destination_mac: ALL_NODES_MAC,
                    destination: [fill; 16],
                    target: [fill ^ 0x0f; 16],
                    mac: [fill; 6],
                    flags,
                };
                assert!(checksum_holds(&advertisement.frame()), "{fill:x} {flags:x}");
            }
        }
    }

    #[test]
    fn a_gratuitous_arp_has_the_address_as_sender_and_target() {
        let mac = [2, 0, 0, 0, 0, 1];
        for operation in [Arp::REQUEST, Arp::REPLY] {
            let frame = Arp::gratuitous(operation, [10, 0, 0, 7], mac).frame();
            assert_eq!(frame[..6], BROADCAST);
            assert_eq!(frame[6..12], mac);
            assert_eq!(frame[21], operation);
            assert_eq!(frame[28..32], [10, 0, 0, 7]);
            assert_eq!(frame[38..42], [10, 0, 0, 7]);
        }
    }
}
