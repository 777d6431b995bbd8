//! What the kernel's devices ipip and ip6tnl and its sockets of fou do at a backend, in user space, since not every kernel
//! has them: it takes packets out of those that they travel in, judges them, and gives them to the host's own stack.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::NetNs;

/// Where GUE comes to.
const GUE_PORT: u16 = 6080;
const TICK: Duration = Duration::from_millis(50);
const TCP: u8 = 6;
const UDP: u8 = 17;
/// IP in IP: a packet of IPv4, of IPv6 inside.
const INSIDE: [u8; 2] = [4, 41];
/// To send a packet with its own header.
const RAW: i32 = 255;

/// What has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Packets inside IP.
    pub ipip: u64,
    /// Packets inside UDP.
    pub gue: u64,
    /// The longest packet with what is around it, bytes of IP.
    pub longest: usize,
    /// What was wrong with some of them.
    pub wrong: Vec<String>,
}

/// Unpacks in one namespace until it is dropped.
#[derive(Debug)]
pub struct Unpacker {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Unpacked>>,
    threads: Vec<JoinHandle<()>>,
    /// So that nobody says the port is closed; raw sockets see what comes to it.
    _port: UdpSocket,
}

impl Unpacker {
    /// Begins to unpack what comes to the addresses of `ns`.
    pub fn start(ns: &NetNs) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Unpacked::default()));
        let mut threads = Vec::new();
        for (v4, number) in [
            (true, INSIDE[0]),
            (true, UDP),
            (false, INSIDE[1]),
            (false, UDP),
        ] {
            let domain = if v4 { Domain::IPV4 } else { Domain::IPV6 };
            let raw = |number: i32| {
                Socket::new(domain, Type::RAW, Some(Protocol::from(number)))
                    .with_context(|| format!("raw socket of protocol {number}"))
            };
            let (from, to) = ns.enter(|| Ok((raw(number.into())?, raw(RAW)?)))?;
            from.set_read_timeout(Some(TICK))?;
            let mut way = Way {
                v4,
                number,
                from,
                to,
                seen: Arc::clone(&seen),
            };
            let told = Arc::clone(&stop);
            threads.push(
                thread::Builder::new()
                    .name(format!("unpack-{number}"))
                    .spawn(move || way.run(&told))?,
            );
        }
        let port = ns.enter(|| {
            UdpSocket::bind((Ipv6Addr::UNSPECIFIED, GUE_PORT))
                .with_context(|| format!("UDP port {GUE_PORT}"))
        })?;
        Ok(Self {
            stop,
            seen,
            threads,
            _port: port,
        })
    }

    /// What has come so far.
    pub fn seen(&self) -> Unpacked {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }
}

impl Drop for Unpacker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of the thread was already printed.
            let _ = thread.join();
        }
    }
}

/// One protocol of one family.
struct Way {
    v4: bool,
    number: u8,
    from: Socket,
    to: Socket,
    seen: Arc<Mutex<Unpacked>>,
}

impl Way {
    fn run(&mut self, stop: &AtomicBool) {
        let mut buffer = vec![0; 70_000];
        while !stop.load(Ordering::Relaxed) {
            let packet = match self.from.read(&mut buffer) {
                Ok(length) => &buffer[..length],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return eprintln!("unpacking has ended: {error}"),
            };
            // A raw socket of IPv4 sees the header, one of IPv6 what is behind it.
            let header = match packet.first() {
                Some(first) if self.v4 => usize::from(first & 0x0f) * 4,
                Some(_) | None => 0,
            };
            let behind = packet.get(header..).unwrap_or_default();
            let length = packet.len() + if self.v4 { 0 } else { 40 };
            let inside = if self.number == UDP {
                gue(behind)
            } else {
                Some(behind)
            };
            let Some(inside) = inside else {
                continue; // UDP of somebody else.
            };
            let told = inside_of(inside, self.v4).and_then(|(packet, to)| {
                let to = SocketAddr::new(to, 0).into();
                let sent = self.to.send_to(&packet, &to);
                sent.map_err(|error| format!("cannot be given to the stack: {error}"))
            });
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            *if self.number == UDP {
                &mut seen.gue
            } else {
                &mut seen.ipip
            } += 1;
            seen.longest = seen.longest.max(length);
            if let Err(why) = told
                && seen.wrong.len() < 5
            {
                seen.wrong.push(why);
            }
        }
    }
}

/// What is behind the headers of UDP and GUE (variant 0, no options, no checksum); `None` if it comes to another port.
fn gue(udp: &[u8]) -> Option<&[u8]> {
    let (header, inside) = udp.split_at_checked(12)?;
    let number = match inside.first()? >> 4 {
        4 => INSIDE[0],
        _ => INSIDE[1],
    };
    let wanted = header[2..4] == GUE_PORT.to_be_bytes() && header[8..] == [0, number, 0, 0];
    wanted.then_some(inside)
}

/// A packet as the stack shall have it, and to whom it goes; or what is wrong with it.
fn inside_of(packet: &[u8], v4: bool) -> Result<(Vec<u8>, IpAddr), String> {
    let short = || format!("a packet of {} bytes", packet.len());
    let wide = if v4 { 4 } else { 16 };
    let (first, header) = if v4 { (12, 20) } else { (8, 40) };
    let fixed = packet.get(..header).ok_or_else(short)?;
    let addresses = &fixed[first..first + 2 * wide];
    let (to, number, piece, header) = if v4 {
        let octets: [u8; 4] = addresses[4..].try_into().map_err(|_| short())?;
        let header = usize::from(fixed[0] & 0x0f) * 4;
        let piece = fixed[6] & 0x3f != 0 || fixed[7] != 0;
        if sum(fixed.get(..header).unwrap_or(packet)) != 0xffff {
            return Err("the checksum of its header is wrong".to_owned());
        }
        (IpAddr::from(octets), fixed[9], piece, header)
    } else {
        let octets: [u8; 16] = addresses[16..].try_into().map_err(|_| short())?;
        (IpAddr::from(octets), fixed[6], fixed[6] == 44, header)
    };
    let mut packet = packet.to_vec();
    let place = match number {
        TCP if !piece => header + 16,
        UDP if !piece => header + 6,
        _ => return Ok((packet, to)),
    };
    let body = packet.get(header..).ok_or_else(short)?;
    let mut pseudo = addresses.to_vec();
    pseudo.extend((body.len() as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, number]);
    let (pseudo, all) = (sum(&pseudo), sum(body));
    if add(pseudo, all) == 0xffff {
        return Ok((packet, to));
    }
    // A packet of this machine may have been left unfinished for a card that it never meets: its checksum is the sum over
    // the pseudo-header until then.
    let field = packet.get_mut(place..place + 2).ok_or_else(short)?;
    if field != pseudo.to_be_bytes() {
        return Err(format!("the checksum of {to} ({number}) is wrong"));
    }
    let finished = !all; // The field is part of the sum.
    field.copy_from_slice(&finished.to_be_bytes());
    Ok((packet, to))
}

fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u16::from(carry)
}

/// The sum of 16-bit words in ones' complement.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2);
    words.fold(0, |sum, word| {
        let low = word.get(1).copied().unwrap_or(0);
        add(sum, u16::from_be_bytes([word[0], low]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From 10.0.0.1 to 10.0.0.2, with a checksum of UDP that is made by `of` from that over all, and that over the
    /// pseudo-header.
    fn packet(of: impl Fn(u16, u16) -> u16) -> Vec<u8> {
        let mut header = vec![0x45, 0, 0, 31, 0, 0, 0, 0, 64, 17, 0, 0];
        header.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        let check = !sum(&header);
        header[10..12].copy_from_slice(&check.to_be_bytes());
        let body = [0, 7, 0, 8, 0, 11, 0, 0, 1, 2, 3];
        let pseudo = sum(&[10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 11, 0, 0, 0, 17]);
        header.extend(body);
        let checksum = of(!add(pseudo, sum(&body)), pseudo);
        header[26..28].copy_from_slice(&checksum.to_be_bytes());
        header
    }

    #[test]
    fn a_packet_is_taken_as_it_is_finished_if_need_be_and_refused_if_its_checksum_is_wrong() {
        let good = packet(|checksum, _| checksum);
        let to = IpAddr::from([10, 0, 0, 2]);
        assert_eq!(inside_of(&good, true), Ok((good.clone(), to)));
        let unfinished = packet(|_, pseudo| pseudo);
        assert_eq!(inside_of(&unfinished, true), Ok((good.clone(), to)));
        let wrong = packet(|checksum, _| checksum ^ 1);
        assert!(inside_of(&wrong, true).unwrap_err().contains("wrong"));
        let mut header = good;
        header[8] -= 1;
        assert!(inside_of(&header, true).unwrap_err().contains("header"));
    }

    #[test]
    fn only_gue_is_taken_out_of_udp() {
        let mut datagram = [vec![0xc0, 1], GUE_PORT.to_be_bytes().to_vec()].concat();
        datagram.extend([0, 0, 0, 0, 0, 4, 0, 0, 0x45, 1, 2]);
        assert_eq!(gue(&datagram), Some(&[0x45, 1, 2][..]));
        datagram[9] = 41;
        assert_eq!(gue(&datagram), None, "another protocol than is inside");
        (datagram[9], datagram[3]) = (4, 0);
        assert_eq!(gue(&datagram), None, "another port");
    }
}
