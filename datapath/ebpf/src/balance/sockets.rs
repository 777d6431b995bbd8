//! Clients on the holder itself. What they send to a virtual IP would not leave the host: no program at an interface
//! sees it, and the host's own stack would answer. So their sockets are given a backend when they ask for the virtual IP:
//! from then on packets go between the host's own address and the backend's, and nothing is rewritten.
//!
//! ```text
//!   connect, sendmsg    the virtual IP becomes a backend; PEERS remembers what was asked for
//!   recvmsg, getpeername    the backend becomes what was asked for
//! ```
//!
//! Such a socket does not speak as the virtual IP, so it needs no lease, and stays with its backend wherever the virtual IP
//! goes. It holds for addresses that sit on this host, whoever holds them: for any other the network leads to the holder.
//!
//! **Invariant:** only sockets of the daemon's network namespace. Those of containers come by at an interface.

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_get_socket_cookie},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use vipd_datapath_common::balance::{FlowKey, Peer, PeerKey, Reason, protocol, service_flags};
use vipd_datapath_common::{AddressKey, flags};

use super::{affinity, choose, count, maps, record};
use crate::{fence, maps as addresses};

/// The daemon's network namespace; 0, that of nobody, until the loader says which.
#[unsafe(no_mangle)]
static VIPD_NAMESPACE: u64 = 0;

/// What these programs may return; to a program that was refused the system call says EPERM.
const REFUSED: i32 = 0;
const ALLOWED: i32 = 1;

#[cgroup_sock_addr(connect4)]
pub fn vipd_connect4(ctx: SockAddrContext) -> i32 {
    connect(&ctx, true)
}

#[cgroup_sock_addr(connect6)]
pub fn vipd_connect6(ctx: SockAddrContext) -> i32 {
    connect(&ctx, false)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn vipd_sendmsg4(ctx: SockAddrContext) -> i32 {
    send(&ctx, true)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn vipd_sendmsg6(ctx: SockAddrContext) -> i32 {
    send(&ctx, false)
}

#[cgroup_sock_addr(recvmsg4)]
pub fn vipd_recvmsg4(ctx: SockAddrContext) -> i32 {
    restore(&ctx, true)
}

#[cgroup_sock_addr(recvmsg6)]
pub fn vipd_recvmsg6(ctx: SockAddrContext) -> i32 {
    restore(&ctx, false)
}

#[cgroup_sock_addr(getpeername4)]
pub fn vipd_peername4(ctx: SockAddrContext) -> i32 {
    restore(&ctx, true)
}

#[cgroup_sock_addr(getpeername6)]
pub fn vipd_peername6(ctx: SockAddrContext) -> i32 {
    restore(&ctx, false)
}

/// A socket asks for a connection: each time a backend by chance, in the proportion of the table. Or for a peer of its datagrams: the one
/// that it would be given if it named the virtual IP with each, for it may do both.
#[inline(always)]
fn connect(ctx: &SockAddrContext, v4: bool) -> i32 {
    let Some(socket) = socket(ctx) else {
        return ALLOWED;
    };
    // SAFETY: the context is valid while the program runs; the helper has no arguments.
    let chance = unsafe {
        if (*ctx.sock_addr).protocol == u32::from(protocol::UDP) {
            socket as u16
        } else {
            bpf_get_prandom_u32() as u16
        }
    };
    give(ctx, v4, socket, chance)
}

/// A socket sends a datagram to whom it names with it: always the same backend while the table is the same.
#[inline(always)]
fn send(ctx: &SockAddrContext, v4: bool) -> i32 {
    match socket(ctx) {
        Some(socket) => give(ctx, v4, socket, socket as u16),
        None => ALLOWED,
    }
}

/// The number of a socket of this host's; `None`: it is of another network namespace.
#[inline(always)]
fn socket(ctx: &SockAddrContext) -> Option<u64> {
    let ctx = ctx.sock_addr.cast();
    // SAFETY: the context is valid while the program runs; the loader has written the variable before.
    unsafe {
        let namespace = (&raw const VIPD_NAMESPACE).read_volatile();
        (bpf_get_netns_cookie(ctx) == namespace).then(|| bpf_get_socket_cookie(ctx))
    }
}

/// Gives a socket a backend instead of a virtual IP. `chance`: what stands for the source port, which it may have none of yet. In place of
/// the client's address stands that of the virtual IP: it is the same for all on this host.
#[inline(always)]
fn give(ctx: &SockAddrContext, v4: bool, socket: u64, chance: u16) -> i32 {
    let mut asked = FlowKey {
        source: AddressKey { octets: [0; 16] },
        destination: AddressKey { octets: [0; 16] },
        source_port: chance.to_ne_bytes(),
        destination_port: [0; 2],
        protocol: 0,
        reserved: [0; 3],
    };
    asked.destination_port = read(ctx, v4, &mut asked.destination);
    if !is_balanced_here(&asked.destination) {
        return ALLOWED;
    }
    // SAFETY: the context is valid while the program runs.
    asked.protocol = unsafe { (*ctx.sock_addr).protocol } as u8;
    asked.source = asked.destination;
    if !matches!(asked.protocol, protocol::TCP | protocol::UDP) {
        return ALLOWED;
    }
    let mut given = PeerKey {
        socket,
        address: asked.source,
        port: [0; 2],
        reserved: [0; 6],
    };
    match backend(&mut asked, &mut given) {
        Given::Nothing => ALLOWED,
        Given::Refusal => REFUSED,
        Given::Backend => {
            write(ctx, v4, &given.address, given.port);
            ALLOWED
        }
    }
}

/// Whether an address has services, and sits on this host: otherwise what is sent to it leaves, for its holder.
#[inline(never)]
fn is_balanced_here(address: &AddressKey) -> bool {
    const BOTH: u32 = flags::LOCAL | flags::BALANCED;
    addresses::address(address).is_some_and(|entry| entry.has(BOTH) && fence::still(address, entry))
}

enum Given {
    /// The port is the host's own, or a backend with the virtual IP itself is on the host.
    Nothing,
    Backend,
    Refusal,
}

/// Chooses the backend, as for packets, into `given`, and remembers what was `asked` for.
#[inline(never)]
fn backend(asked: &mut FlowKey, given: &mut PeerKey) -> Given {
    let Some(service) = choose::service(asked) else {
        return Given::Nothing;
    };
    let now = fence::now();
    let Some(backend) = choose::backend(service, asked, false, now) else {
        count::refused(service.id, 0, Reason::NoBackend);
        return Given::Refusal;
    };
    let dsr = service.flags & service_flags::DSR != 0;
    if dsr && backend.is_local() {
        return Given::Nothing;
    }
    // The address of this host that the backend will see.
    let everybody_here = asked.source;
    asked.source = backend.source;
    // What listens at a loopback address is there for whoever is on this host.
    if !backend.is_loopback() && !choose::may_use(service, asked) {
        count::refused(service.id, 0, Reason::Forbidden);
        return Given::Refusal;
    }
    given.address = backend.address;
    given.port = record::target(asked, backend);
    let peer = Peer {
        address: asked.destination,
        port: asked.destination_port,
        reserved: [0; 2],
    };
    if maps::peer(given) != Some(peer) {
        // Without memory for it the program sees who answers really.
        let _ = maps::set_peer(given, &peer);
        count::connected(service.id, backend.id);
        if service.flags & service_flags::BY_CLIENT != 0 {
            affinity::note(service, &everybody_here, backend.id, now);
        }
    }
    Given::Backend
}

/// Shows a program whom it asked for in place of the backend that it talks to.
#[inline(always)]
fn restore(ctx: &SockAddrContext, v4: bool) -> i32 {
    let Some(socket) = socket(ctx) else {
        return ALLOWED;
    };
    let mut key = PeerKey {
        socket,
        address: AddressKey { octets: [0; 16] },
        port: [0; 2],
        reserved: [0; 6],
    };
    key.port = read(ctx, v4, &mut key.address);
    if let Some(peer) = maps::peer(&key) {
        write(ctx, v4, &peer.address, peer.port);
    }
    ALLOWED
}

/// Reads the address in question; the port. IPv6 sockets name IPv4 addresses in the same way as keys do.
#[inline(always)]
fn read(ctx: &SockAddrContext, v4: bool, address: &mut AddressKey) -> [u8; 2] {
    const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);
    let ctx: *const bpf_sock_addr = ctx.sock_addr;
    // SAFETY: the context is valid while the program runs; its words are read one by one, as the verifier wants it.
    let (words, port) = unsafe {
        let port = (&raw const (*ctx).user_port).read_volatile();
        let words = if v4 {
            [0, 0, MAPPED, (&raw const (*ctx).user_ip4).read_volatile()]
        } else {
            let ip = (&raw const (*ctx).user_ip6).cast::<u32>();
            [0, 1, 2, 3].map(|word| ip.add(word).read_volatile())
        };
        (words, port)
    };
    // SAFETY: of the same size and alignment, and any bytes are an address.
    unsafe { core::ptr::from_mut(address).cast::<[u32; 4]>().write(words) };
    let [a, b, ..] = port.to_ne_bytes();
    [a, b]
}

/// Puts another address and port in place of these.
#[inline(always)]
fn write(ctx: &SockAddrContext, v4: bool, address: &AddressKey, [a, b]: [u8; 2]) {
    let [w, x, y, z] = *address.words();
    let ctx = ctx.sock_addr;
    // SAFETY: as above.
    unsafe {
        (&raw mut (*ctx).user_port).write_volatile(u32::from_ne_bytes([a, b, 0, 0]));
        if v4 {
            (&raw mut (*ctx).user_ip4).write_volatile(z);
        } else {
            let ip = (&raw mut (*ctx).user_ip6).cast::<u32>();
            ip.write_volatile(w);
            ip.add(1).write_volatile(x);
            ip.add(2).write_volatile(y);
            ip.add(3).write_volatile(z);
        }
    }
}
