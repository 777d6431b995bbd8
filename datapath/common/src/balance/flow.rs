//! The maps `FLOWS` and `FRAGMENTS`: connections and UDP exchanges as the programs know them.

use crate::AddressKey;

/// The key of `FLOWS`: a packet as it comes in.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Who sends.
    pub source: AddressKey,
    /// To whom.
    pub destination: AddressKey,
    /// Network order.
    pub source_port: [u8; 2],
    /// Network order.
    pub destination_port: [u8; 2],
    /// See [`super::protocol`].
    pub protocol: u8,
    /// Explicitly zero.
    pub reserved: [u8; 3],
}

impl FlowKey {
    /// The key as five words, as they lie in memory. The kernel hashes and compares words, so
    /// programs write them, too: a word that was just written byte by byte has to be waited for.
    #[inline(always)]
    #[must_use]
    pub const fn words(&self) -> &[u64; 5] {
        // SAFETY: of the same size and alignment, and any bytes are words.
        unsafe { &*core::ptr::from_ref(self).cast() }
    }

    /// A fingerprint that two keys share by chance only.
    #[inline(always)]
    #[must_use]
    pub const fn proof(&self) -> u64 {
        let [a, b, c, d, e] = *self.words();
        a.wrapping_mul(PROOF[0])
            .wrapping_add(b.wrapping_mul(PROOF[1]))
            .wrapping_add(c.wrapping_mul(PROOF[2]))
            .wrapping_add(d.wrapping_mul(PROOF[3]))
            .wrapping_add(e.wrapping_mul(PROOF[4]))
    }
}

/// Odd numbers of no meaning (fractions of the golden ratio, and of roots of 2, 3, 5 and 7).
const PROOF: [u64; 5] = [
    0x9e37_79b9_7f4a_7c15,
    0x6a09_e667_f3bc_c909,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
];

/// The value of `FLOWS`: a half of a flow with the proof of whose it is.
///
/// The kernel may use the place of a half again, for another one, as soon as it is removed: under the
/// hands of a program that has just looked it up. So a program copies what it needs, and then asks for the proof. That
/// lies in front, where the kernel writes first.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Half {
    /// [`FlowKey::proof`] of its key.
    pub proof: u64,
    /// What becomes of packets.
    pub flow: Flow,
}

impl Half {
    /// The value under a key.
    #[inline(always)]
    #[must_use]
    pub const fn new(key: &FlowKey, flow: Flow) -> Self {
        Self {
            proof: key.proof(),
            flow,
        }
    }
}

/// What becomes of the packets of one direction of a flow.
///
/// nat records two halves. The client's half has the key client → VIP and becomes VIP → backend
/// (client → backend if that is on this host, or with [`flow_flags::KEEP`]); the backend's half, [`flow_flags::REVERSE`], has the
/// answers as its key and becomes VIP → client. [`Flow::other`] gives one's key from the other.
/// dsr records the client's half alone, since answers do not come by.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The source that packets get; with [`flow_flags::IPIP`] and [`flow_flags::GUE`]: that of the outer header.
    pub source: AddressKey,
    /// The destination that packets get; with [`flow_flags::DSR`]: the backend, to whose MAC, or in
    /// an outer header to whose address, they go.
    pub destination: AddressKey,
    /// Network order.
    pub source_port: [u8; 2],
    /// Network order.
    pub destination_port: [u8; 2],
    /// The interface out of which packets go; 0 where they go up the stack, or come from it.
    pub ifindex: u32,
    /// See [`flow_flags`].
    pub flags: u32,
    /// What TCP has told; zeros for UDP.
    pub progress: Progress,
    /// [`super::Backend::id`] of the backend.
    pub backend: u32,
    /// [`super::Service::id`] of the service.
    pub service: u32,
    /// When the last packet of this half came (CLOCK_BOOTTIME ns).
    pub seen: u64,
    /// Packets of this half. Not exact where two CPUs see one flow; `TALLY` is.
    pub packets: u64,
    /// Bytes of this half, with their Ethernet headers.
    pub bytes: u64,
}

/// Bits of [`Flow::flags`].
pub mod flow_flags {
    /// The backend's half: from the backend to the client.
    pub const REVERSE: u32 = 1;
    /// The backend is on this host: packets to it go up the stack, its answers come from there.
    pub const LOCAL: u32 = 1 << 1;
    /// Nothing is rewritten but the MACs.
    pub const DSR: u32 = 1 << 2;
    /// With [`DSR`]: packets go inside a packet of IP in IP.
    pub const IPIP: u32 = 1 << 3;
    /// With [`DSR`]: packets go inside UDP.
    pub const GUE: u32 = 1 << 4;
    /// nat to another host: the backend sees the client itself, and its answers are to that. So their destination is no
    /// managed address.
    pub const KEEP: u32 = 1 << 5;
    /// Its service keeps clients with their backends ([`crate::balance::service_flags::BY_CLIENT`]): who would hold the address next shall
    /// know where this one is, whatever else it has to know of the flow.
    pub const STICKY: u32 = 1 << 6;
    /// With [`LOCAL`]: the backend listens at a loopback address ([`crate::balance::backend_flags::LOOPBACK`]).
    pub const LOOPBACK: u32 = 1 << 7;
}

/// How far a TCP connection has come, as one half knows it. A byte each, 0 or 1, since bytes can be
/// set by several CPUs at a time.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// This side has sent something that does not merely open the connection.
    pub established: u8,
    /// This side has sent its last byte.
    pub fin: u8,
    /// The other side has sent its last byte. Never known with dsr.
    pub peer_fin: u8,
    /// One of the sides has broken the connection off.
    pub reset: u8,
}

impl Progress {
    /// Whether both sides have sent their last byte, or one has broken off.
    #[inline(always)]
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.reset != 0 || (self.fin != 0 && self.peer_fin != 0)
    }
}

impl Flow {
    /// Whether every bit of `bits` is set.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, bits: u32) -> bool {
        self.flags & bits == bits
    }

    /// The key of the other half: packets as they come in answer to what this half's become. dsr
    /// has none: [`flow_flags::DSR`].
    #[inline(always)]
    #[must_use]
    pub const fn other(&self, protocol: u8) -> FlowKey {
        FlowKey {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol,
            reserved: [0; 3],
        }
    }
}

/// The value of `CLAIM`, one for each CPU: the half of a flow for which a key is being looked for, and the key that it tries. It
/// says nothing from one packet to the next.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The key.
    pub key: FlowKey,
    /// The half.
    pub half: Half,
}

/// An event of the ring buffer `NEW_FLOWS`: the client's half of a nat flow to another host, as it
/// was recorded. Whoever holds the address next can take it over as it is, since nothing in it but
/// interfaces is of this node. Or of any flow with [`flow_flags::STICKY`], for the sake of where its client is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// Its key.
    pub key: FlowKey,
    /// Its value.
    pub flow: Flow,
}

impl FlowRecord {
    /// Size in the ring buffer.
    pub const SIZE: usize = size_of::<Self>();

    /// Reads an event as the programs wrote it; `None` if it is not of [`Self::SIZE`] bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::SIZE] = bytes.try_into().ok()?;
        // SAFETY: of the same size, and any bytes are a record: integers and byte arrays without
        // padding, as asserted below.
        Some(unsafe { core::ptr::from_ref(bytes).cast::<Self>().read_unaligned() })
    }
}

/// The key of `FRAGMENTS`: one IP packet that comes in pieces, of which only the first has ports; or the last such packet between two hosts.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentKey {
    /// Who sends.
    pub source: AddressKey,
    /// To whom.
    pub destination: AddressKey,
    /// Identification of the packet, network order; IPv4's is of two bytes, in front of two zeros.
    pub identification: [u8; 4],
    /// See [`super::protocol`].
    pub protocol: u8,
    /// 0: a packet; 1: whatever packet came last, whose identification is left zero; 2: no packet at all, but a connection
    /// that a backend has of its own, beside any service: both ports stand in place of the identification.
    pub latest: u8,
    /// Explicitly zero.
    pub reserved: [u8; 2],
}

/// The value of `FRAGMENTS`: the ports in the first piece, both in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Of the sender.
    pub source: [u8; 2],
    /// Of the receiver.
    pub destination: [u8; 2],
}

const _: () = assert!(size_of::<FlowKey>() == 40);
const _: () = assert!(size_of::<Flow>() == 80 && align_of::<Flow>() == 8);
const _: () = assert!(size_of::<Half>() == 88 && align_of::<Half>() == 8);
const _: () = assert!(size_of::<Claim>() == 40 + 88);
const _: () = assert!(size_of::<Progress>() == 4);
const _: () = assert!(FlowRecord::SIZE == 40 + 80);
const _: () = assert!(size_of::<FragmentKey>() == 40);
const _: () = assert!(size_of::<Ports>() == 4);

// SAFETY: `repr(C)`, integers and byte arrays only, and the sizes asserted above leave no padding;
// in all five.
#[cfg(feature = "user")]
unsafe impl aya::Pod for FlowKey {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for Half {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for Flow {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for FragmentKey {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for Ports {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_as_the_programs_lay_it_out() {
        let bytes: [u8; FlowRecord::SIZE] = core::array::from_fn(|i| i as u8);
        let Some(record) = FlowRecord::from_bytes(&bytes) else {
            panic!("a record of its size was refused");
        };
        assert_eq!(record.key.source.octets[..], bytes[..16]);
        assert_eq!(record.key.protocol, bytes[36]);
        assert_eq!(record.flow.destination_port, [74, 75]);
        assert_eq!(record.flow.ifindex.to_ne_bytes()[..], bytes[76..80]);
        assert_eq!(record.flow.seen.to_ne_bytes()[..], bytes[96..104]);
        assert_eq!(record.flow.bytes.to_ne_bytes()[..], bytes[112..]);
        assert_eq!(FlowRecord::from_bytes(&bytes[1..]), None);
    }

    #[test]
    fn each_part_of_a_key_changes_its_proof() {
        let base = FlowKey {
            source: AddressKey::v4([192, 0, 2, 1]),
            destination: AddressKey::v4([10, 0, 0, 7]),
            source_port: [1, 2],
            destination_port: [0, 80],
            protocol: super::super::protocol::TCP,
            reserved: [0; 3],
        };
        let mut others = [base; 6];
        others[0].source.octets[0] = 0x20;
        others[1].source = AddressKey::v4([192, 0, 2, 2]);
        others[2].destination = AddressKey::v4([10, 0, 0, 8]);
        others[3].source_port = [1, 3];
        others[4].destination_port = [0, 81];
        others[5].protocol = super::super::protocol::UDP;
        assert!(others.iter().all(|other| other.proof() != base.proof()));
        let back = FlowKey {
            source: base.destination,
            destination: base.source,
            source_port: base.destination_port,
            destination_port: base.source_port,
            ..base
        };
        assert_ne!(back.proof(), base.proof());
    }

    #[test]
    fn the_two_halves_of_a_nat_flow_give_each_others_keys() {
        let key = FlowKey {
            source: AddressKey::v4([192, 0, 2, 1]),
            destination: AddressKey::v4([10, 0, 0, 7]),
            source_port: [1, 2],
            destination_port: [0, 80],
            protocol: super::super::protocol::TCP,
            reserved: [0; 3],
        };
        let half = |source, destination, source_port, destination_port| Flow {
            source,
            destination,
            source_port,
            destination_port,
            flags: 0,
            ifindex: 0,
            backend: 0,
            service: 0,
            progress: Progress::default(),
            seen: 0,
            packets: 0,
            bytes: 0,
        };
        let backend = AddressKey::v4([10, 0, 0, 21]);
        let forward = half(key.destination, backend, [3, 4], [31, 144]);
        let answer = forward.other(key.protocol);
        assert_eq!((answer.source, answer.source_port), (backend, [31, 144]));
        assert_eq!(answer.destination_port, [3, 4]);
        let reverse = half(key.destination, key.source, [0, 80], [1, 2]);
        assert_eq!(reverse.other(key.protocol), key);
    }
}
