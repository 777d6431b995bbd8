//! Sealed datagrams: one socket, one key for each pair of nodes.
//!
//! ```text
//!   8 bytes sender | 24 bytes nonce | XChaCha20-Poly1305(word | datagram), sender and receiver as associated data
//! ```
//! The key of a pair is derived by HKDF-SHA256 from X25519 of their static keys, of which the log holds the
//! public halves. So beats flow before any connection stands, and a node that is removed is no longer heard.
//! A nonce is 16 random bytes of this process and a counter: never used twice with a key, whatever the clock.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::time::TimeSpec;
use sha2::Sha256;
use vipd_core::codec::{DecodeError, Reader, Wire, Writer};
use vipd_core::id::NodeId;
use vipd_core::lease::Datagram;
use vipd_core::time::Instant;
use x25519_dalek::{PublicKey, StaticSecret};

use super::{Heard, Peer, Word, Words, now};

const SENDER: usize = 8;
const NONCE: usize = 24;
const TAG: usize = 16;
const HEAD: usize = SENDER + NONCE;
/// More than any beat; a datagram is never fragmented on an Ethernet.
const MAX: usize = 1400;

struct Member {
    address: SocketAddr,
    public: [u8; 32],
    key: XChaCha20Poly1305,
    heard: Arc<Heard>,
}

/// The socket and the keys.
pub(super) struct Link {
    me: NodeId,
    socket: UdpSocket,
    secret: StaticSecret,
    words: Arc<Words>,
    peers: BTreeMap<NodeId, Member>,
    process: [u8; 16],
    sealed: u64,
    /// Room for the kernel's stamp.
    stamp: Vec<u8>,
}

/// What a read of the socket gave.
pub(super) enum Read {
    /// A datagram from a member, its word of the lead, and when the kernel says by its wall clock that it arrived; see
    /// [`super::arrival`].
    From(NodeId, Word, Datagram, Option<TimeSpec>),
    /// One that is not.
    Rejected,
    /// Nothing is there.
    Empty,
}

impl Link {
    pub(super) fn new(me: NodeId, socket: UdpSocket, secret: [u8; 32], words: Arc<Words>) -> Self {
        let (secret, process) = (StaticSecret::from(secret), rand::random());
        Self {
            me,
            socket,
            secret,
            words,
            peers: BTreeMap::new(),
            process,
            sealed: 0,
            stamp: nix::cmsg_space!(TimeSpec),
        }
    }

    pub(super) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    pub(super) fn socket_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Follows the members; a key is derived only for a new public key.
    pub(super) fn set_peers(&mut self, members: &BTreeMap<NodeId, Peer>) {
        self.peers.retain(|id, peer| {
            members
                .get(id)
                .is_some_and(|member| member.key == peer.public)
        });
        for (id, member) in members.iter().filter(|(id, _)| **id != self.me) {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.address = member.address;
                continue;
            }
            let shared = self.secret.diffie_hellman(&PublicKey::from(member.key));
            let mut key = [0; 32];
            Hkdf::<Sha256>::new(Some(b"vipd beat v2"), shared.as_bytes())
                .expand(&[], &mut key)
                .expect("32 bytes is a valid HKDF-SHA256 length");
            let key = XChaCha20Poly1305::new(&key.into());
            let (address, public, heard) = (member.address, member.key, member.heard.clone());
            self.peers.insert(
                *id,
                Member {
                    address,
                    public,
                    key,
                    heard,
                },
            );
        }
    }

    /// Seals and sends; a datagram that cannot be sent is lost, as any may be.
    pub(super) fn send(&mut self, to: NodeId, datagram: Datagram) -> bool {
        let Some(peer) = self.peers.get(&to) else {
            return false;
        };
        let payload = Payload(self.words.own(now()), datagram).to_bytes();
        let mut buffer = [0u8; MAX];
        let end = HEAD + payload.len();
        if end + TAG > MAX {
            return false;
        }
        self.sealed += 1;
        let mut nonce = [0; NONCE];
        nonce[..16].copy_from_slice(&self.process);
        nonce[16..].copy_from_slice(&self.sealed.to_be_bytes());
        buffer[..SENDER].copy_from_slice(&self.me.0.to_be_bytes());
        buffer[SENDER..HEAD].copy_from_slice(&nonce);
        buffer[HEAD..end].copy_from_slice(&payload);
        let pair = pair(self.me, to);
        let Ok(tag) = peer.key.encrypt_in_place_detached(
            XNonce::from_slice(&nonce),
            &pair,
            &mut buffer[HEAD..end],
        ) else {
            return false;
        };
        buffer[end..end + TAG].copy_from_slice(&tag);
        self.socket
            .send_to(&buffer[..end + TAG], peer.address)
            .is_ok()
    }

    /// Takes one datagram off the socket.
    pub(super) fn receive(&mut self) -> Read {
        let mut buffer = [0u8; MAX];
        let mut into = [IoSliceMut::new(&mut buffer)];
        let (fd, stamp) = (self.socket.as_raw_fd(), Some(&mut self.stamp[..]));
        let (n, stamp) = match recvmsg::<()>(fd, &mut into, stamp, MsgFlags::empty()) {
            Ok(read) => (read.bytes, read.cmsgs().ok().and_then(stamp_of)),
            Err(Errno::EAGAIN) => return Read::Empty,
            // An ICMP error of an earlier send: some peer is gone, which its silence says as well.
            Err(_) => return Read::Rejected,
        };
        self.open(&mut buffer[..n])
            .map_or(Read::Rejected, |(from, Payload(word, datagram))| {
                Read::From(from, word, datagram, stamp)
            })
    }

    /// `from` was heard to say that, at that time.
    pub(super) fn note(&self, from: NodeId, word: Word, at: Instant) {
        if let Some(peer) = self.peers.get(&from) {
            peer.heard.note(word, at);
        }
    }

    fn open(&self, datagram: &mut [u8]) -> Option<(NodeId, Payload)> {
        if datagram.len() < HEAD + TAG {
            return None;
        }
        let (head, rest) = datagram.split_at_mut(HEAD);
        let (payload, tag) = rest.split_at_mut(rest.len() - TAG);
        let from = NodeId(u64::from_be_bytes(head[..SENDER].try_into().ok()?));
        let peer = self.peers.get(&from)?;
        let (nonce, tag) = (XNonce::from_slice(&head[SENDER..]), Tag::from_slice(tag));
        peer.key
            .decrypt_in_place_detached(nonce, &pair(from, self.me), payload, tag)
            .ok()?;
        Some((from, Payload::from_bytes(payload).ok()?))
    }
}

/// What is sealed.
#[derive(Debug, PartialEq)]
struct Payload(Word, Datagram);

impl Wire for Payload {
    fn encode(&self, out: &mut Writer) {
        self.0.encode(out);
        self.1.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(Word::decode(input)?, Datagram::decode(input)?))
    }
}

fn stamp_of(mut told: impl Iterator<Item = ControlMessageOwned>) -> Option<TimeSpec> {
    told.find_map(|told| match told {
        ControlMessageOwned::ScmTimestampns(at) => Some(at),
        _ => None,
    })
}

/// Who says it to whom: what A sent to B opens neither as from B nor at C.
fn pair(from: NodeId, to: NodeId) -> [u8; 16] {
    let mut pair = [0; 16];
    pair[..8].copy_from_slice(&from.0.to_be_bytes());
    pair[8..].copy_from_slice(&to.0.to_be_bytes());
    pair
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::beat::arrival::Arrivals;
    use std::time::Duration;
    use vipd_core::id::Epoch;
    use vipd_core::lease::{Ack, Verdict};

    fn links() -> (Link, Link) {
        let bind = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let (a, b) = (bind(), bind());
        let (at_a, at_b) = (a.local_addr().unwrap(), b.local_addr().unwrap());
        let public = |secret: [u8; 32]| PublicKey::from(&StaticSecret::from(secret)).to_bytes();
        let member = |address, secret| Peer {
            address,
            key: public(secret),
            heard: Arc::default(),
        };
        let members = BTreeMap::from([
            (NodeId(1), member(at_a, [1; 32])),
            (NodeId(2), member(at_b, [2; 32])),
        ]);
        let mut links = (
            Link::new(NodeId(1), a, [1; 32], words()),
            Link::new(NodeId(2), b, [2; 32], words()),
        );
        links.0.set_peers(&members);
        links.1.set_peers(&members);
        links
    }

    fn words() -> Arc<Words> {
        Arc::new(Words::new(Duration::from_millis(75)))
    }

    fn ack() -> Datagram {
        Datagram::Ack {
            ack: Ack {
                seq: 3,
                epoch: Epoch(9),
                verdict: Verdict::Supported,
            },
        }
    }

    fn said() -> Payload {
        Payload(Word::default(), ack())
    }

    fn raw(link: &Link) -> Vec<u8> {
        let mut buffer = [0; MAX];
        for _ in 0..1000 {
            if let Ok((n, _)) = link.socket.recv_from(&mut buffer) {
                return buffer[..n].to_vec();
            }
            std::thread::yield_now();
        }
        panic!("nothing arrived");
    }

    #[test]
    fn a_member_s_datagram_opens_and_one_changed_in_any_byte_does_not() {
        let (mut a, b) = links();
        assert!(a.send(NodeId(2), ack()));
        let sealed = raw(&b);
        assert_eq!(b.open(&mut sealed.clone()), Some((NodeId(1), said())));
        for i in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[i] ^= 1;
            assert_eq!(b.open(&mut forged), None, "byte {i}");
            assert_eq!(b.open(&mut sealed[..i].to_vec()), None, "cut at {i}");
        }
    }

    #[test]
    fn a_datagram_that_lay_in_the_socket_is_known_to_have_arrived_when_it_was_sent() {
        let (mut a, mut b) = links();
        let mut arrivals = Arrivals::at(b.socket()).unwrap();
        // The kernel begins to stamp some time after it was asked to; until then everything arrived when it was read.
        let stamped = (0..200).any(|_| {
            let before = now();
            assert!(a.send(NodeId(2), ack()));
            std::thread::sleep(Duration::from_millis(5));
            let began = now();
            let Read::From(NodeId(1), _, datagram, stamp) = b.receive() else {
                panic!("nothing arrived");
            };
            assert_eq!(datagram, ack());
            assert!(matches!(b.receive(), Read::Empty));
            let at = arrivals.batch(began).arrived(stamp);
            assert!(at >= before, "{at:?} is before it was sent, {before:?}");
            at < began
        });
        assert!(stamped, "nothing is ever known to have lain");
    }

    #[test]
    fn a_datagram_sent_back_to_its_sender_does_not_open() {
        let (mut a, b) = links();
        a.send(NodeId(2), ack());
        let mut reflected = raw(&b);
        reflected[..SENDER].copy_from_slice(&2u64.to_be_bytes());
        assert_eq!(a.open(&mut reflected), None);
    }

    #[test]
    fn what_a_node_says_of_its_leader_travels_with_each_datagram() {
        let (mut a, b) = links();
        let word = Word {
            leader: NodeId(1),
            term: 7,
            committed: 40,
        };
        let says = |a: &mut Link, b: &Link| {
            a.send(NodeId(2), ack());
            let (_, Payload(word, datagram)) = b.open(&mut raw(b)).unwrap();
            assert_eq!(datagram, ack());
            word
        };
        assert_eq!(says(&mut a, &b), Word::default());
        a.words.say(word, now());
        assert_eq!(says(&mut a, &b), word);
        let at = now();
        b.note(NodeId(1), word, at);
        assert_eq!(b.peers[&NodeId(1)].heard.at(), Some(at));
    }

    #[test]
    fn a_removed_member_is_no_longer_heard() {
        let (mut a, mut b) = links();
        a.send(NodeId(2), ack());
        let mut sealed = raw(&b);
        b.set_peers(&BTreeMap::new());
        assert_eq!(b.open(&mut sealed), None);
    }
}
