//! ARP for managed addresses: the kernel never answers for them, this does or nobody.

use core::mem::MaybeUninit;

use aya_ebpf::programs::TcContext;
use vipd_datapath_common::{
    AddressKey, Counter, flags,
    frame::{Arp, ETHERNET},
};

use crate::{
    conflict, fence, hand, maps,
    parse::{self, Header},
    verdict::{Verdict, ifindex},
};

/// Hardware Ethernet, protocol IPv4, lengths 6 and 4: the only ARP there is.
const PREAMBLE: [u8; 7] = [0, 1, 0x08, 0x00, 6, 4, 0];

/// An ARP packet for Ethernet and IPv4.
#[repr(C)]
struct Packet {
    preamble: [u8; 7],
    operation: u8,
    sender_mac: [u8; 6],
    sender: [u8; 4],
    target_mac: [u8; 6],
    target: [u8; 4],
}

// SAFETY: `repr(C)`, bytes only.
unsafe impl Header for Packet {}

#[inline(always)]
fn packet<'a>(ctx: &TcContext, buffer: &'a mut MaybeUninit<Packet>) -> Option<&'a Packet> {
    parse::read(ctx, ETHERNET, buffer).filter(|packet| packet.preamble == PREAMBLE)
}

#[inline(never)]
pub fn ingress(ctx: &TcContext) -> Verdict {
    let mut buffer = MaybeUninit::uninit();
    let Some(packet) = packet(ctx, &mut buffer) else {
        return Verdict::Pass;
    };
    if parse::for_another_host(ctx) {
        return Verdict::Pass;
    }
    conflict::check(
        &AddressKey::v4(packet.sender),
        &packet.sender_mac,
        ifindex(ctx),
    );
    if packet.operation != Arp::REQUEST {
        return Verdict::Pass;
    }
    let key = AddressKey::v4(packet.target);
    let Some(address) = maps::address(&key) else {
        return Verdict::Pass;
    };
    if packet.sender == packet.target {
        // An announcement, not a question. A standby's neighbour cache should learn from it; a
        // host that has the address itself must not be tempted to answer (accept_local).
        return if address.has(flags::LOCAL) {
            Verdict::Drop
        } else {
            Verdict::Pass
        };
    }
    let group = packet.sender_mac[0] & 1 != 0;
    if group || address.ifindex != ifindex(ctx) || !fence::is_open(&key, address) {
        maps::count(&key, Counter::Unanswered);
        return Verdict::Drop;
    }
    // A probe (sender 0.0.0.0) is answered like a request: that is how the address is defended.
    let reply = Arp {
        operation: Arp::REPLY,
        destination: packet.sender_mac,
        sender_mac: address.mac,
        sender: packet.target,
        target_mac: packet.sender_mac,
        target: packet.sender,
    };
    match ctx.store(0, &reply.frame(), 0) {
        Ok(()) => {
            maps::count(&key, Counter::ArpAnswered);
            Verdict::Answer
        }
        Err(_) => Verdict::Drop,
    }
}

/// An ARP packet that leaves with a managed address as its sender claims that address: our own
/// answers, announcements of the daemon (perhaps frozen and just continued), requests of the
/// kernel. While the address is shut none of them does.
#[inline(never)]
pub fn egress(ctx: &TcContext) -> Verdict {
    let mut buffer = MaybeUninit::uninit();
    let Some(packet) = packet(ctx, &mut buffer) else {
        return Verdict::Pass;
    };
    let key = AddressKey::v4(packet.sender);
    let Some(address) = maps::address(&key) else {
        return Verdict::Pass;
    };
    let gratuitous = packet.sender == packet.target;
    // Who is handed packets may ask where their answers go, but does not announce itself.
    let speaks = fence::is_open(&key, address)
        || (!gratuitous && packet.operation == Arp::REQUEST && hand::serves(&key, address));
    let (verdict, counter) = match (speaks, gratuitous) {
        (true, true) => (Verdict::Pass, Some(Counter::AnnouncementPassed)),
        (true, false) => (Verdict::Pass, None),
        (false, true) => (Verdict::Drop, Some(Counter::AnnouncementStopped)),
        (false, false) => (Verdict::Drop, Some(Counter::DroppedEgress)),
    };
    if let Some(counter) = counter {
        maps::count(&key, counter);
    }
    verdict
}
