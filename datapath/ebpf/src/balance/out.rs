//! How a packet leaves: the kernel resolves the neighbour, whatever the host's own forwarding says.

use core::ptr;

use aya_ebpf::{
    bindings::bpf_redir_neigh,
    helpers::generated::{bpf_check_mtu, bpf_redirect_neigh},
    programs::TcContext,
};
use vipd_datapath_common::{
    AddressKey,
    balance::{Flow, flow_flags},
};

use crate::verdict::Verdict;

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// Where a flow leads, once its packet is rewritten: up the stack, to the backend's MAC, or by the host's routes.
#[inline(always)]
pub fn onward(flow: &Flow, v4: bool) -> Verdict {
    if flow.has(flow_flags::LOCAL) {
        Verdict::Pass
    } else if flow.has(flow_flags::DSR) {
        to_neighbour(flow.ifindex, &flow.destination, v4)
    } else {
        by_route(flow.ifindex)
    }
}

/// To its destination, out of an interface, by the host's routes through that.
#[inline(always)]
pub fn by_route(ifindex: u32) -> Verdict {
    // SAFETY: no parameters, whose length is 0.
    unsafe { bpf_redirect_neigh(ifindex, ptr::null_mut(), 0, 0) };
    Verdict::Redirect
}

/// To the MAC of a neighbour, whatever its destination.
#[inline(never)]
pub fn to_neighbour(ifindex: u32, neighbour: &AddressKey, v4: bool) -> Verdict {
    let [a, b, c, d] = words(neighbour);
    // SAFETY: plain integers, for which zeros are a value.
    let mut next: bpf_redir_neigh = unsafe { core::mem::zeroed() };
    if v4 {
        next.nh_family = AF_INET;
        next.__bindgen_anon_1.ipv4_nh = d;
    } else {
        next.nh_family = AF_INET6;
        next.__bindgen_anon_1.ipv6_nh = [a, b, c, d];
    }
    let length = size_of::<bpf_redir_neigh>() as i32;
    // SAFETY: the helper reads `length` bytes, those of the parameters.
    unsafe { bpf_redirect_neigh(ifindex, &raw mut next, length, 0) };
    Verdict::Redirect
}

/// The most bytes of IP that leave by an interface at a time; `None`: there is no such interface.
#[inline(always)]
pub fn mtu(ctx: &TcContext, ifindex: u32) -> Option<u32> {
    let mut mtu = 0;
    // SAFETY: the helper reads and writes four bytes.
    let checked = unsafe { bpf_check_mtu(ctx.skb.skb.cast(), ifindex, &raw mut mtu, 0, 0) };
    // Whether this packet would fit is another question.
    (checked >= 0).then_some(mtu)
}

/// The address as four words in network order.
#[inline(always)]
fn words(address: &AddressKey) -> [u32; 4] {
    let o = &address.octets;
    core::array::from_fn(|i| {
        u32::from_ne_bytes([o[4 * i], o[4 * i + 1], o[4 * i + 2], o[4 * i + 3]])
    })
}
