//! Whether frames that were sent on are still whole, read from their bytes without the code under test.

use super::packet::icmpv6_checksum_holds;
use super::segment::sum;

const ETHERNET: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// Where in a frame the parts of its IP packet lie.
struct Parts {
    v4: bool,
    protocol: u8,
    /// Offset of what is behind the headers of IP.
    transport: usize,
    /// A piece, but not the first one.
    later: bool,
    /// A piece at all.
    piece: bool,
    /// Where the packet ends by its own account.
    end: usize,
}

pub fn is_v4(frame: &[u8]) -> bool {
    frame[12..14] == [8, 0]
}

pub fn is_v6(frame: &[u8]) -> bool {
    frame[12..14] == [0x86, 0xdd]
}

fn word(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

/// Of a frame that is long enough for what it is said to be.
fn parts(frame: &[u8]) -> Parts {
    if is_v4(frame) {
        let offset = word(frame, 20);
        return Parts {
            v4: true,
            protocol: frame[23],
            transport: ETHERNET + usize::from(frame[14] & 0x0f) * 4,
            later: offset & 0x1fff != 0,
            piece: offset & 0x3fff != 0,
            end: ETHERNET + usize::from(word(frame, 16)),
        };
    }
    let piece = frame[20] == FRAGMENT;
    let (protocol, transport) = if piece {
        (frame[54], 62)
    } else {
        (frame[20], 54)
    };
    Parts {
        v4: false,
        protocol,
        transport,
        later: piece && word(frame, 56) & 0xfff8 != 0,
        piece,
        end: 54 + usize::from(word(frame, 18)),
    }
}

/// The sum over both addresses, and over all that is behind the headers of IP up to `end`. What is wrong with a checksum
/// shows in it as another number than it should be: 0xffff with length and protocol, which no address changes.
fn total(frame: &[u8], parts: &Parts, end: usize) -> u16 {
    let addresses = match parts.v4 {
        true if parts.protocol == ICMP => &[],
        true => &frame[26..34],
        false => &frame[22..54],
    };
    let all = [addresses, &frame[parts.transport..end]].concat();
    one_zero(sum(&all))
}

/// In ones' complement there are two zeros.
fn one_zero(sum: u16) -> u16 {
    if sum == 0 { 0xffff } else { sum }
}

/// Whether the checksum of an IPv4 header holds; whatever is no whole one does not.
pub fn header_holds(frame: &[u8]) -> bool {
    let length = frame
        .get(14)
        .map_or(0, |first| usize::from(first & 0x0f) * 4);
    frame.len() >= 34
        && is_v4(frame)
        && length >= 20
        && frame.len() >= 14 + length
        && sum(&frame[14..14 + length]) == 0xffff
}

/// Where the checksum of TCP, UDP or ICMP is behind the beginning of its header.
fn checksum_at(protocol: u8) -> usize {
    match protocol {
        TCP => 16,
        UDP => 6,
        ICMP | ICMPV6 => 2,
        other => panic!("protocol {other} was sent on"),
    }
}

/// UDP whose sender made no checksum.
fn is_unsummed(frame: &[u8], parts: &Parts) -> bool {
    parts.protocol == UDP && !parts.later && word(frame, parts.transport + 6) == 0
}

/// Whether the checksum of TCP, UDP or ICMP in a whole packet is right; `None` where it has none, or the packet is not whole.
pub fn is_right(frame: &[u8]) -> Option<bool> {
    let parts = parts(frame);
    let least = parts.transport + checksum_at(parts.protocol) + 2;
    if parts.piece || parts.end > frame.len() || parts.end < least || is_unsummed(frame, &parts) {
        return None;
    }
    let length = (parts.end - parts.transport) as u16;
    let pseudo = match (parts.v4, parts.protocol) {
        (true, ICMP) => 0,
        (_, protocol) => sum(&[length.to_be_bytes(), [0, protocol]].concat()),
    };
    let sums = [pseudo, total(frame, &parts, parts.end)].map(u16::to_be_bytes);
    Some(sum(&sums.concat()) == 0xffff)
}

/// Demands that a packet is the same between other addresses and ports, one hop further on: its length, every byte that is none of
/// those, and its checksums, which are as right or as wrong as they were.
pub fn translated(frame: &[u8], out: &[u8]) {
    assert_eq!(out.len(), frame.len(), "{frame:x?}");
    let parts = parts(frame);
    if is_unsummed(frame, &parts) {
        assert!(is_unsummed(out, &parts), "{frame:x?} {out:x?}");
    } else if !parts.later {
        let sum = |of: &[u8]| total(of, &parts, of.len());
        assert_eq!(sum(out), sum(frame), "{frame:x?} {out:x?}");
    }
    if parts.v4 {
        let header = |of: &[u8]| one_zero(sum(&of[14..parts.transport.min(of.len())]));
        assert_eq!(header(out), header(frame), "{frame:x?} {out:x?}");
    }
    let hops = if parts.v4 { 22 } else { 21 };
    assert_eq!(out[hops] + 1, frame[hops], "{frame:x?} {out:x?}");
    assert_eq!(rest(out, &parts), rest(frame, &parts), "{out:x?}");
}

/// The bytes of a frame that nothing translates. Of an ICMP error without what it quotes: the sum alone stands for that.
fn rest(frame: &[u8], parts: &Parts) -> Vec<u8> {
    let mut rest = frame.to_vec();
    let mut blank = |from: usize, to: usize| rest[from..to].fill(0);
    if parts.v4 {
        blank(22, 23);
        blank(24, 34);
    } else {
        blank(21, 54);
    }
    if !parts.later {
        let checksum = parts.transport + checksum_at(parts.protocol);
        blank(checksum, checksum + 2);
        match parts.protocol {
            TCP | UDP => blank(parts.transport, parts.transport + 4),
            _ => rest.truncate(parts.transport + 8),
        }
    }
    rest
}

/// Demands that a packet without a hop left came back as the error that says so, from whom it was for, with right checksums.
pub fn complained(frame: &[u8], out: &[u8]) {
    let v4 = is_v4(frame);
    assert_eq!(out[..12], [&frame[6..12], &frame[..6]].concat());
    assert_eq!(out[12..14], frame[12..14], "{frame:x?}");
    let (kind, quoted) = if v4 {
        assert!(header_holds(frame) && header_holds(out), "{frame:x?}");
        assert_eq!((out[23], &out[26..30]), (ICMP, &frame[30..34]));
        assert_eq!(out[30..34], frame[26..30]);
        ([11, 0], 42)
    } else {
        assert_eq!((out[20], &out[22..38]), (ICMPV6, &frame[38..54]));
        assert_eq!(out[38..54], frame[22..38]);
        ([3, 0], 62)
    };
    assert_eq!(out[quoted - 8..quoted - 6], kind, "{frame:x?}");
    assert!(frame[14..].starts_with(&out[quoted..]), "{frame:x?}");
    assert_eq!(is_right(out), Some(true), "{frame:x?} {out:x?}");
}

/// Whether a frame is a piece of a packet whose first piece has not come by: it comes in again as it is.
pub fn comes_again(frame: &[u8], out: &[u8]) -> bool {
    out == frame && (is_v4(frame) || is_v6(frame)) && parts(frame).later
}

/// Whether a frame is answered by the holder itself, by ARP or neighbour discovery; demands that the answer is whole, and about
/// what was asked.
pub fn is_answer(frame: &[u8], out: &[u8]) -> bool {
    if frame[12..14] == [8, 6] {
        assert_eq!(out.len(), frame.len(), "{frame:x?}");
        assert_eq!(
            out[12..22],
            frame[12..20]
                .iter()
                .copied()
                .chain([0, 2])
                .collect::<Vec<u8>>()
        );
        assert_eq!(out[28..32], frame[38..42], "{frame:x?} {out:x?}");
        return true;
    }
    let asks = is_v6(frame) && frame[20] == ICMPV6 && frame[54] == SOLICITATION;
    if asks {
        assert_eq!((out.len(), out[20], out[54]), (86, ICMPV6, ADVERTISEMENT));
        assert_eq!(out[62..78], frame[62..78], "{frame:x?} {out:x?}");
        assert!(icmpv6_checksum_holds(out), "{frame:x?} {out:x?}");
    }
    asks
}

/// Demands that a frame's packet travels inside another one: all of it, with `more` bytes (of UDP and GUE) between, of whose headers lengths and
/// checksums are right.
pub fn wrapped(frame: &[u8], out: &[u8], more: usize) {
    let (v4, inside) = (is_v4(frame), frame.len() - 14);
    let header = if v4 { 20 } else { 40 };
    assert_eq!(out.len(), frame.len() + header + more, "{frame:x?}");
    assert!(out.ends_with(&frame[14..]), "{frame:x?} {out:x?}");
    assert_eq!(out[12..14], frame[12..14], "{frame:x?}");
    let (next, length) = if v4 {
        assert!(header_holds(out), "{out:x?}");
        (out[23], usize::from(word(out, 16)))
    } else {
        // Whatever it is: who takes it apart looks.
        assert_eq!(out[14] >> 4, frame[14] >> 4, "{out:x?}");
        (out[20], usize::from(word(out, 18)) + 40)
    };
    assert_eq!(length, header + more + inside, "{out:x?}");
    let ip = if v4 { 4 } else { 41 };
    if more == 0 {
        assert_eq!(next, ip, "{out:x?}");
        return;
    }
    let udp = 14 + header;
    assert_eq!((next, word(out, udp + 2)), (UDP, 6080), "{out:x?}");
    assert_eq!(usize::from(word(out, udp + 4)), more + inside, "{out:x?}");
    assert_eq!((word(out, udp + 6), out[udp + 9]), (0, ip), "{out:x?}");
}
