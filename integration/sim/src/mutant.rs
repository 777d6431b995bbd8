//! Planted faults: each breaks one rule, so that a run can show that the judge would see it broken.

use clap::ValueEnum;

/// A rule that is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum Mutant {
    /// None: the product as it is.
    #[default]
    None,
    /// A voter certifies before its fence is on its disk.
    FenceNotDurable,
    /// A voter that starts does not read the fences on its disk.
    ForgetsFences,
    /// One certificate counts as everybody's.
    OneCertificate,
    /// A node announces without having read from a majority what it missed.
    NoStartRead,
    /// Any node vouches for a read by what it has applied itself.
    LocalRead,
    /// The beats are told of a new lease before the datapath of lost addresses.
    BeatsBeforeDatapath,
    /// A release counts whatever token it was given under.
    ReleaseUnbound,
    /// An address is given back before its gate is shut.
    ReleaseBeforeShut,
    /// A node reports the newest voters before its beats count by them.
    ReportsVotersEarly,
    /// The lease counts from when the answer came.
    LeaseFromReceipt,
    /// A beat is taken to have arrived before it did.
    ArrivedEarly,
    /// The kernel answers whatever the deadline: a dead daemon's addresses live on.
    NoDeadline,
    /// A daemon's deadline takes effect before it has told the kernel what is to be open: what an earlier life left open
    /// comes alive.
    Unarmed,
    /// A sync tells of success before anything is on the disk.
    DiskLies,
    /// A replica mixes its own clock into the state.
    OwnClock,
    /// A restarted voter forgets its vote.
    ForgetsVote,
    /// A holder that hands packets on goes on answering.
    HandsWhileOpen,
    /// A leader that nobody answers goes on telling everybody that it leads.
    LoudLeader,
    /// A holder that has begun to go on without a majority never stops.
    NeverThaws,
    /// One packet that was handed on gives a right to speak that never ends.
    ServesForEver,
    /// A node takes an address again as soon as it is rid of it, whatever of what was handed to it before is on its way still.
    TakesTooSoon,
    /// A voter feeds agents from its log without a look whether what it has applied is in there.
    FeedsUncommitted,
}
