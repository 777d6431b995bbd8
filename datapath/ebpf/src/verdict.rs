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
    /// It goes where a helper was just told.
    Redirect,
}

impl Verdict {
    #[inline(always)]
    pub fn code(self, ctx: &TcContext) -> i32 {
        match self {
            // Not TC_ACT_OK, which would skip the programs of others behind us.
            Self::Pass => bindings::TC_ACT_UNSPEC,
            Self::Drop => bindings::TC_ACT_SHOT,
            // Unbalanced it would be answered by whatever runs on this host.
            Self::Balance => bindings::TC_ACT_SHOT,
            Self::Redirect => bindings::TC_ACT_REDIRECT,
            // SAFETY: a helper without pointers; flags 0 is egress.
            Self::Answer => unsafe { bpf_redirect(ifindex(ctx), 0) as i32 },
        }
    }
}

/// The interface on which the program runs.
#[inline(always)]
pub fn ifindex(ctx: &TcContext) -> u32 {
    // SAFETY: the context is valid while the program runs.
    unsafe { (*ctx.skb.skb).ifindex }
}
