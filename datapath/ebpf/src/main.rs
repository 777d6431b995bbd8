//! vipd's eBPF programs: they answer for the virtual IPs of this node, and fence them.
//!
//! ```text
//!             ┌───────────────────── one interface ─────────────────────┐
//!   wire ──▶ vipd_ingress ── Pass ──▶ the host's stack ──▶ vipd_egress ──▶ wire
//!                │   └────── Drop                             └── Drop
//!                └── Answer: rewritten in place, back out of the same interface
//! ```
//!
//! On network cards whose drivers can, `vipd_xdp` may sit in front of ingress: it sends on some of what ingress would send on,
//! and passes the rest to it untouched.
//! Eight more programs sit at the host's own sockets: `balance::sockets`.
//!
//! One file a subject: [`parse`] which protocol, [`fence`] the gate and the rule for IP packets,
//! [`hand`] the exception to it in a planned move, [`arp`] and [`ndp`] the neighbour protocols, [`balance`]
//! what becomes of packets to services, [`verdict`] the return codes.
//!
//! **Invariant:** an address is answered for and spoken from only while its entry is open and
//! CLOCK_BOOTTIME is before the deadline in `GATE`; or spoken from, not answered for, right after
//! the silent holder handed a packet on. No program extends a deadline or opens an
//! entry; if the daemon dies, silence follows by itself.
//!
//! Deliberately absent: tagged frames (they belong to the VLAN device above, which has programs
//! of its own), and anything about addresses without an entry.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod arp;
mod balance;
mod conflict;
mod fence;
mod hand;
mod maps;
mod ndp;
mod parse;
mod verdict;

use aya_ebpf::{
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

use parse::Network;
use verdict::Verdict;

/// Frames that enter.
#[classifier]
pub fn vipd_ingress(ctx: TcContext) -> i32 {
    verdict::forget_mark(&ctx);
    let mut at = 0;
    let network = parse::network(&ctx);
    let verdict = match network {
        Network::Arp => arp::ingress(&ctx),
        Network::Ipv4 => fence::ingress_v4(&ctx, &mut at),
        Network::Ipv6 => ndp::ingress(&ctx, &mut at),
        Network::Other => Verdict::Pass,
    };
    // From here, not from where it is found out: what the way there has on the stack is free again.
    if matches!(verdict, Verdict::Balance) {
        return balance::ingress(&ctx, &network, at).code(&ctx);
    }
    if matches!(verdict, Verdict::Relay) {
        return balance::relay(&ctx, &network).code(&ctx);
    }
    verdict.code(&ctx)
}

/// Frames that leave.
#[classifier]
pub fn vipd_egress(ctx: TcContext) -> i32 {
    let verdict = match parse::network(&ctx) {
        Network::Arp => arp::egress(&ctx),
        Network::Ipv4 => fence::egress_v4(&ctx),
        Network::Ipv6 => ndp::egress(&ctx),
        Network::Other => Verdict::Pass,
    };
    if matches!(verdict, Verdict::Pass)
        && parse::made_here(&ctx)
        && let Some(verdict) = balance::egress(&ctx)
    {
        return verdict.code(&ctx);
    }
    verdict.code(&ctx)
}

/// Frames that enter, before anybody else sees them: in the driver of a network card, where that is wanted.
#[xdp]
pub fn vipd_xdp(mut ctx: XdpContext) -> u32 {
    balance::accelerate(&mut ctx)
}

/// Some helpers of the kernel are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never linked: the verifier refuses a program that could loop here.
    loop {}
}
