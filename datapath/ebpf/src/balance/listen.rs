//! Backends that listen at a loopback address of the holder.
//!
//! What comes from a link never reaches such an address: the kernel takes it for forged. So packets keep the virtual IP as their
//! destination, and those that no connection waits for are given to the socket that listens at the loopback address. The connection
//! that it accepts is one of the virtual IP, and the kernel finds that by itself from then on.
//!
//! Deliberately absent: UDP. There one socket answers, and from its own address, which may not leave the host.

use aya_ebpf::bindings::{
    bpf_sock, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as V4,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as V6,
};
use aya_ebpf::helpers::generated::{bpf_sk_assign, bpf_sk_release, bpf_skc_lookup_tcp};
use aya_ebpf::programs::TcContext;
use vipd_datapath_common::AddressKey;
use vipd_datapath_common::balance::{Flow, protocol};

use super::maps;
use super::packet::Packet;

/// The network namespace of the packet's interface.
const HERE: u64 = u64::MAX;
/// TCP_LISTEN of net/tcp_states.h.
const LISTENS: u32 = 10;

/// Gives a packet, rewritten as its flow says, to the socket that listens for it, if no other one is meant. Without one the host's
/// stack refuses it. Never inlined: its stack is free again behind it.
#[inline(never)]
pub fn hand(ctx: &TcContext, packet: &Packet, flow: &Flow) {
    if packet.key.protocol != protocol::TCP {
        return;
    }
    let Some(backend) = maps::backend(flow.backend).filter(|backend| backend.is_loopback()) else {
        return; // It was taken out, or its port is no longer open to others: what it has accepted goes on.
    };
    // A connection of the virtual IP, or a listener of its own there.
    if let Some(socket) = find(ctx, packet, flow, &flow.destination) {
        release(socket);
        return;
    }
    if let Some(socket) = find(ctx, packet, flow, &backend.address) {
        // Another one than a listener is a connection of the host's own, into which nobody may speak.
        // SAFETY: the context is valid while the program runs, and the socket until it is released. A kernel that refuses (before
        // 6.6 if the listener has SO_REUSEPORT set) leaves the packet to the host's stack, which resets its connection.
        unsafe {
            if (&raw const (*socket).state).read() == LISTENS {
                bpf_sk_assign(ctx.skb.skb.cast(), socket.cast(), 0);
            }
        }
        release(socket);
    }
}

/// The socket that a packet from this one's client to `address` and the flow's port would get. To be released.
#[inline(always)]
fn find(
    ctx: &TcContext,
    packet: &Packet,
    flow: &Flow,
    address: &AddressKey,
) -> Option<*mut bpf_sock> {
    let (from, to) = (packet.key.source.words(), address.words());
    let [source_port, port] = [flow.source_port, flow.destination_port].map(u16::from_ne_bytes);
    // SAFETY: plain integers, for which zeros are a value.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let length = if packet.v4 {
        let v4 = V4 {
            saddr: from[3],
            daddr: to[3],
            sport: source_port,
            dport: port,
        };
        tuple.__bindgen_anon_1.ipv4 = v4;
        size_of::<V4>()
    } else {
        let v6 = V6 {
            saddr: *from,
            daddr: *to,
            sport: source_port,
            dport: port,
        };
        tuple.__bindgen_anon_1.ipv6 = v6;
        size_of::<V6>()
    };
    // SAFETY: the helper reads `length` bytes of the tuple.
    let found =
        unsafe { bpf_skc_lookup_tcp(ctx.skb.skb.cast(), &raw mut tuple, length as u32, HERE, 0) };
    (!found.is_null()).then_some(found)
}

#[inline(always)]
fn release(socket: *mut bpf_sock) {
    // SAFETY: it was found, and is used no more.
    unsafe { bpf_sk_release(socket.cast()) };
}
