//! Packets to ports without a service. They are for the programs of this host, where one waits for
//! them. Otherwise they may be answers of a backend to a connection that this node does not know, or
//! not yet: it has just taken the address over. The host's own stack would break the connection off.

use aya_ebpf::bindings::{bpf_sock, bpf_sock_tuple};
use aya_ebpf::helpers::generated::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp};
use aya_ebpf::programs::TcContext;
use vipd_datapath_common::balance::{FlowKey, Reason, protocol};

use super::{count, packet::Packet};
use crate::verdict::Verdict;

/// BPF_F_CURRENT_NETNS.
const HERE: u64 = u64::MAX;

#[inline(never)]
pub fn verdict(ctx: &TcContext, packet: &Packet) -> Verdict {
    // A question deserves an answer, be it that nobody is there.
    if packet.opens() || awaited(ctx, packet) {
        return Verdict::Pass;
    }
    drop()
}

/// Drops one, counted.
#[inline(always)]
pub fn drop() -> Verdict {
    count::dropped(0, 0, Reason::Stray);
    Verdict::Drop
}

/// Whether this host has a socket for the packet. One that listens counts: where the host's own
/// services are flooded, what completes a connection finds nothing else.
#[inline(always)]
fn awaited(ctx: &TcContext, packet: &Packet) -> bool {
    if packet.v4 {
        let key = &packet.key;
        let tuple = [
            last(&key.source.octets),
            last(&key.destination.octets),
            ports(key),
        ];
        has_socket(ctx, packet, tuple.as_ptr().cast(), size_of_val(&tuple))
    } else {
        // Addresses and ports are in a key as they are in a tuple.
        const TUPLE: usize = 36;
        const _: () = assert!(core::mem::offset_of!(FlowKey, protocol) == TUPLE);
        has_socket(ctx, packet, (&raw const packet.key).cast(), TUPLE)
    }
}

#[inline(always)]
fn has_socket(ctx: &TcContext, packet: &Packet, tuple: *const bpf_sock_tuple, size: usize) -> bool {
    let (skb, tuple, size) = (ctx.skb.skb.cast(), tuple.cast_mut(), size as u32);
    // SAFETY: the helpers read `size` bytes of the tuple, which are there, and what they return is
    // released.
    unsafe {
        let socket: *mut bpf_sock = if packet.key.protocol == protocol::TCP {
            bpf_skc_lookup_tcp(skb, tuple, size, HERE, 0)
        } else {
            bpf_sk_lookup_udp(skb, tuple, size, HERE, 0)
        };
        if socket.is_null() {
            return false;
        }
        bpf_sk_release(socket.cast());
        true
    }
}

#[inline(always)]
const fn last(octets: &[u8; 16]) -> u32 {
    let [.., a, b, c, d] = *octets;
    u32::from_ne_bytes([a, b, c, d])
}

#[inline(always)]
const fn ports(key: &FlowKey) -> u32 {
    let ([a, b], [c, d]) = (key.source_port, key.destination_port);
    u32::from_ne_bytes([a, b, c, d])
}
