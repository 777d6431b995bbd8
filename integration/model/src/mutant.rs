//! Rules of the protocol, left out one at a time. A model that does not notice proves nothing.

/// A rule left out. All are planted in the model's shell around the real machines, by what is handed to them or made
/// of their answers: the machines themselves are the daemon's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// Support counts from the receipt of the answer.
    LeaseFromReceipt,
    /// An answer to an old beat counts for the newest.
    LateAnswerCounts,
    /// One certificate is enough to withdraw a lease.
    OneCertificate,
    /// A fenced lease is supported again.
    NoFence,
    /// A fence is never written to disk.
    FenceNotDurable,
    /// A certificate leaves before its fence is on disk.
    CertifiedBeforeDurable,
    /// A voter that has just started withdraws at once.
    NoBootWait,
    /// The promise ends with the lease, whatever the clocks.
    NoDriftMargin,
    /// A voter promises by its own lease, whatever the sender's.
    PromiseByOwnLease,
    /// While the membership is joint, only its newer set is asked.
    NewestSetOnly,
    /// Only the present membership is asked, not those that the holder may still count by.
    OlderSetsForgotten,
    /// Certificates of voters that have since changed still withdraw a lease.
    JudgedByOldVoters,
    /// A withdrawal is of the node, not of one lease.
    DownOfAnyLease,
    /// The runner-up opens when the certificates are there, before the entry.
    OpensBeforeEntry,
    /// A node that has just started announces by the log it happens to have.
    OpensBeforeCaughtUp,
    /// A node that has just started moves the kernel's deadline before it has shut what is not its own.
    DeadlineBeforeGates,
    /// In its first moments a node without support leaves its gates as they are, even those it has opened itself.
    PatientForLong,
    /// A new lease gathers support before what was lost with the last one is shut.
    BeatsBeforeGates,
    /// A release is of the address, whatever its token.
    ReleaseOfAnyToken,
    /// A holder gives an address back before it is shut.
    ReleasedBeforeShut,
    /// A node reports voters by which its beats do not count yet.
    ReportsBeforeCounting,
    /// A node that has just started reports new voters while the kernel holds the deadline of its earlier life.
    ReportsWhileYoung,
    /// A voter that is not heard goes on promising.
    UnheardGoesOn,
    /// A voter that was away judges others by its own silence.
    AwayJudges,
    /// A voter that is no voter any more stops certifying at once.
    RemovedStops,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::LeaseFromReceipt,
        Self::LateAnswerCounts,
        Self::OneCertificate,
        Self::NoFence,
        Self::FenceNotDurable,
        Self::CertifiedBeforeDurable,
        Self::NoBootWait,
        Self::NoDriftMargin,
        Self::PromiseByOwnLease,
        Self::NewestSetOnly,
        Self::OlderSetsForgotten,
        Self::JudgedByOldVoters,
        Self::DownOfAnyLease,
        Self::OpensBeforeEntry,
        Self::OpensBeforeCaughtUp,
        Self::DeadlineBeforeGates,
        Self::PatientForLong,
        Self::BeatsBeforeGates,
        Self::ReleaseOfAnyToken,
        Self::ReleasedBeforeShut,
        Self::ReportsBeforeCounting,
        Self::ReportsWhileYoung,
        Self::UnheardGoesOn,
        Self::AwayJudges,
        Self::RemovedStops,
    ];

    /// What is left out, for the table.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::LeaseFromReceipt => "support counts from the receipt of the answer",
            Self::LateAnswerCounts => "an answer to an old beat counts for the newest",
            Self::OneCertificate => "one certificate withdraws a lease",
            Self::NoFence => "a fenced lease is supported again",
            Self::FenceNotDurable => "a fence is never written to disk",
            Self::CertifiedBeforeDurable => "a certificate leaves before its fence is on disk",
            Self::NoBootWait => "a voter that has just started withdraws at once",
            Self::NoDriftMargin => "the promise ends with the lease, whatever the clocks",
            Self::PromiseByOwnLease => "a voter promises by its own lease only",
            Self::NewestSetOnly => "of a joint membership only the newer set is asked",
            Self::OlderSetsForgotten => "voter sets that the holder still counts by are not asked",
            Self::JudgedByOldVoters => "certificates of voters that have since changed count",
            Self::DownOfAnyLease => "a withdrawal is of the node, not of one lease",
            Self::OpensBeforeEntry => "the runner-up opens before the entry",
            Self::OpensBeforeCaughtUp => "a restarted node announces by the log it has",
            Self::DeadlineBeforeGates => "a restarted node moves the deadline before it has shut",
            Self::PatientForLong => "a young node leaves open what it opened and lost",
            Self::BeatsBeforeGates => "a new lease gathers support before the gates are shut",
            Self::ReleaseOfAnyToken => "a release is of the address, whatever its token",
            Self::ReleasedBeforeShut => "a holder gives an address back before it is shut",
            Self::ReportsBeforeCounting => "a node reports voters that it does not count by yet",
            Self::ReportsWhileYoung => "a restarted node reports voters while an old deadline runs",
            Self::UnheardGoesOn => "a voter that is not heard goes on promising",
            Self::AwayJudges => "a voter that was away judges by its own silence",
            Self::RemovedStops => "a voter that was replaced stops certifying at once",
        }
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> String {
        let camel = format!("{self:?}");
        let mut name = String::new();
        for letter in camel.chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.extend(letter.to_lowercase());
        }
        name
    }

    /// The scene in which it is caught, by its name.
    #[must_use]
    pub fn scene(self) -> &'static str {
        match self {
            Self::LeaseFromReceipt | Self::LateAnswerCounts | Self::DownOfAnyLease => "delays",
            Self::OneCertificate => "one-way",
            Self::NoFence
            | Self::DeadlineBeforeGates
            | Self::PatientForLong
            | Self::BeatsBeforeGates => "failures",
            Self::FenceNotDurable | Self::CertifiedBeforeDurable => "disks",
            Self::NoBootWait | Self::PromiseByOwnLease => "leases",
            Self::NoDriftMargin => "drift",
            Self::NewestSetOnly
            | Self::OlderSetsForgotten
            | Self::ReportsBeforeCounting
            | Self::ReportsWhileYoung => "voters",
            Self::JudgedByOldVoters => "judged",
            Self::OpensBeforeEntry
            | Self::OpensBeforeCaughtUp
            | Self::ReleaseOfAnyToken
            | Self::ReleasedBeforeShut => "moves",
            Self::UnheardGoesOn | Self::AwayJudges => "calm",
            Self::RemovedStops => "replaced",
        }
    }
}
