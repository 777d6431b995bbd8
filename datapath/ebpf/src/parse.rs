//! Which protocol a frame carries. Only untagged Ethernet is looked into.

use core::mem::MaybeUninit;

use aya_ebpf::{
    helpers::generated::bpf_skb_load_bytes,
    programs::{TcContext, XdpContext},
};
use vipd_datapath_common::AddressKey;

/// The protocol behind the Ethernet header.
pub enum Network {
    Arp,
    Ipv4,
    Ipv6,
    /// Anything else, and everything that carries a VLAN tag: that is another network, and the
    /// VLAN device above has programs of its own if an address lives there.
    Other,
}

const PACKET_HOST: u32 = 0;
const PACKET_OTHERHOST: u32 = 3;
const VLAN_ID: u32 = 0x0fff;

/// Decides from the metadata alone. The kernel has moved an outer tag there before ingress; a tag
/// still in the frame shows as the protocol. VLAN 0 is a mere priority: the frame is untagged.
#[inline(always)]
pub fn network(ctx: &TcContext) -> Network {
    // SAFETY: the context is valid while the program runs.
    let (protocol, tagged) = unsafe {
        let skb = ctx.skb.skb;
        (
            (*skb).protocol,
            (*skb).vlan_present != 0 && (*skb).vlan_tci & VLAN_ID != 0,
        )
    };
    if tagged {
        return Network::Other;
    }
    match u16::from_be(protocol as u16) {
        0x0806 => Network::Arp,
        0x0800 => Network::Ipv4,
        0x86dd => Network::Ipv6,
        _ => Network::Other,
    }
}

/// Sent to a MAC that is not this interface's: seen only because the interface is promiscuous.
#[inline(always)]
pub fn for_another_host(ctx: &TcContext) -> bool {
    // SAFETY: as above.
    unsafe { (*ctx.skb.skb).pkt_type == PACKET_OTHERHOST }
}

/// Sent to the MAC of this interface, and to nobody else.
#[inline(always)]
pub fn for_this_host(ctx: &TcContext) -> bool {
    // SAFETY: as above.
    unsafe { (*ctx.skb.skb).pkt_type == PACKET_HOST }
}

/// Made on this host, not forwarded through it.
#[inline(always)]
pub fn made_here(ctx: &TcContext) -> bool {
    // SAFETY: as above.
    unsafe { (*ctx.skb.skb).ingress_ifindex == 0 }
}

/// What is read from a frame: `repr(C)`, byte arrays only, so that any bytes are a valid value.
///
/// # Safety
/// Every bit pattern must be valid for the type, and it must have no padding.
pub unsafe trait Header {}

// SAFETY: integers without padding, in all three.
unsafe impl<const N: usize> Header for [u8; N] {}
unsafe impl<const N: usize> Header for [u16; N] {}
unsafe impl<const N: usize> Header for [u64; N] {}
// SAFETY: byte arrays, in both.
unsafe impl Header for AddressKey {}
unsafe impl<const N: usize> Header for [AddressKey; N] {}

/// Reads a `T` at `offset` of the frame, linear or not, into `buffer`; `None` if the frame is
/// shorter. The buffer is the caller's: returned by value it would be copied byte by byte.
#[inline(always)]
pub fn read<'a, T: Header>(
    ctx: &TcContext,
    offset: usize,
    buffer: &'a mut MaybeUninit<T>,
) -> Option<&'a T> {
    // SAFETY: the helper writes size_of::<T>() bytes into the buffer or fails, and any bytes are
    // a T.
    unsafe {
        let result = bpf_skb_load_bytes(
            ctx.skb.skb.cast(),
            offset as u32,
            buffer.as_mut_ptr().cast(),
            size_of::<T>() as u32,
        );
        (result == 0).then(|| buffer.assume_init_ref())
    }
}

/// Reads a `T` over another one; false if the frame is shorter.
#[inline(always)]
pub fn read_into<T: Header>(ctx: &TcContext, offset: usize, into: &mut T) -> bool {
    let length = size_of::<T>() as u32;
    let into = core::ptr::from_mut(into).cast();
    // SAFETY: the helper writes that many bytes or fails, and any bytes are a T.
    unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), offset as u32, into, length) == 0 }
}

/// The key of an IPv4 address in the two halves of the header, as two words: the kernel's hash reads words, and one
/// that was just written byte by byte has to be waited for.
#[inline(always)]
pub const fn mapped([high, low]: [u16; 2]) -> [u64; 2] {
    const MAPPED: u64 = u64::from_ne_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);
    let address = high as u64 | (low as u64) << 16;
    [0, MAPPED | address << 32]
}

/// These words as what they are.
#[inline(always)]
pub const fn key(words: &[u64; 2]) -> &AddressKey {
    // SAFETY: of the same size and no greater alignment, and any bytes are a key.
    unsafe { &*core::ptr::from_ref(words).cast() }
}

/// A frame in memory, on either hook.
pub trait Frame {
    /// Where it begins, and where what lies there in one piece ends.
    fn bounds(&self) -> (usize, usize);
}

impl Frame for TcContext {
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        (self.data(), self.data_end())
    }
}

impl Frame for XdpContext {
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        (self.data(), self.data_end())
    }
}

/// A `T` at the even `offset` of the frame, where it lies; `None` if the frame is shorter, or is not in
/// one piece that far. Of 16-bit words, since that is how headers are aligned. It is gone after any
/// helper that may move the packet: read what is needed before.
#[inline(always)]
pub fn view<T: Header>(frame: &impl Frame, offset: usize) -> Option<&T> {
    let (begin, end) = frame.bounds();
    let start = begin + offset;
    if start + size_of::<T>() > end {
        return None;
    }
    // SAFETY: inside the packet, as just tested (and as the verifier makes sure), and any bytes
    // are a T.
    Some(unsafe { &*(start as *const T) })
}

/// The same, to be written over: only on the hook where the frame is the driver's own memory, which nobody else
/// looks at.
#[inline(always)]
pub fn view_mut<T: Header>(frame: &mut XdpContext, offset: usize) -> Option<&mut T> {
    let (begin, end) = frame.bounds();
    let start = begin + offset;
    if start + size_of::<T>() > end {
        return None;
    }
    // SAFETY: as above; the frame is borrowed for as long.
    Some(unsafe { &mut *(start as *mut T) })
}
