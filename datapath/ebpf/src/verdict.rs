//! What becomes of a frame, and the return codes that say so under tcx and clsact alike.

use aya_ebpf::{bindings, helpers::generated::bpf_redirect, programs::TcContext};

/// What becomes of a frame.
pub enum Verdict {
    /// None of our business, or allowed: the next program, or the stack, goes on with it.
    Pass,
    /// It ends here.
    Drop,
    /// It was rewritten into an answer: out of the interface that it came in on.
    Answer,
    /// It is for an address with services, which this node serves: what becomes of it, `balance`
    /// says.
    Balance,
    /// It is for no address that vipd manages, and may be a backend's answer to a client whose address that sees: what becomes
    /// of it, `balance` says.
    Relay,
    /// It goes where a helper was just told.
    Redirect,
    /// The same, inside another packet.
    Wrapped,
    /// It comes in once more, behind what waits on this CPU.
    Again,
    /// It goes no further, and `balance` tells its sender why.
    Complain,
}

impl Verdict {
    #[inline(always)]
    pub fn code(self, ctx: &TcContext) -> i32 {
        match self {
            // Not TC_ACT_OK, which would skip the programs of others behind us.
            Self::Pass => bindings::TC_ACT_UNSPEC,
            Self::Drop => bindings::TC_ACT_SHOT,
            // Unbalanced it would be answered by whatever runs on this host.
            Self::Balance | Self::Relay | Self::Complain => bindings::TC_ACT_SHOT,
            Self::Redirect => {
                set_mark(ctx, SENT_ON);
                bindings::TC_ACT_REDIRECT
            }
            Self::Wrapped => {
                set_mark(ctx, SENT_INSIDE);
                bindings::TC_ACT_REDIRECT
            }
            // SAFETY: a helper without pointers; flags 0 is egress.
            Self::Answer => unsafe { bpf_redirect(ifindex(ctx), 0) as i32 },
            // SAFETY: as above.
            Self::Again => unsafe {
                bpf_redirect(ifindex(ctx), u64::from(bindings::BPF_F_INGRESS)) as i32
            },
        }
    }
}

/// Mark of packets that ingress has sent on to another host (`skb->tc_index`, which nothing else in the kernel sets
/// before egress, and which no rule of firewalls or routing knows): egress looks at them again, since they may
/// have waited for a neighbour meanwhile, longer than the lease.
const SENT_ON: u32 = 0x7670;
/// The same of packets that travel inside others.
const SENT_INSIDE: u32 = 0x7671;

/// The same field says how often a packet has come in again, above this.
const ROUNDS: u32 = 0x7700;

/// How often the packet has come in again.
#[inline(always)]
pub fn rounds(ctx: &TcContext) -> u32 {
    // SAFETY: the context is valid while the program runs.
    let mark = unsafe { (*ctx.skb.skb).tc_index };
    if mark & 0xff00 == ROUNDS {
        mark & 0xff
    } else {
        0
    }
}

/// Notes it; at most 255.
#[inline(always)]
pub fn set_rounds(ctx: &TcContext, rounds: u32) {
    set_mark(ctx, ROUNDS | (rounds & 0xff));
}

/// Whether ingress on this host has sent the packet on.
#[inline(always)]
pub fn was_sent_on(ctx: &TcContext) -> bool {
    // SAFETY: the context is valid while the program runs.
    let mark = unsafe { (*ctx.skb.skb).tc_index };
    mark == SENT_ON || mark == SENT_INSIDE
}

/// Whether it has sent it on inside another one.
#[inline(always)]
pub fn travels_inside(ctx: &TcContext) -> bool {
    // SAFETY: as above.
    unsafe { (*ctx.skb.skb).tc_index == SENT_INSIDE }
}

/// Takes the mark off a packet that comes in: between namespaces of one kernel it is another host's.
#[inline(always)]
pub fn forget_mark(ctx: &TcContext) {
    if was_sent_on(ctx) {
        set_mark(ctx, 0);
    }
}

#[inline(always)]
fn set_mark(ctx: &TcContext, mark: u32) {
    // SAFETY: as above; programs on this hook may write the field.
    unsafe { (*ctx.skb.skb).tc_index = mark };
}

/// The interface on which the program runs.
#[inline(always)]
pub fn ifindex(ctx: &TcContext) -> u32 {
    // SAFETY: the context is valid while the program runs.
    unsafe { (*ctx.skb.skb).ifindex }
}
