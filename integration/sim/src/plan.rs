//! What a seed stands for: the size of the cluster and what it is put through.

use vipd_core::lease::{Profile, Timing};

use crate::aims::Aim;
use crate::dice::Dice;

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// How long it runs, in virtual seconds.
    pub seconds: u64,
    /// Hosts that are voters from the beginning.
    pub voters: usize,
    /// Hosts that are agents from the beginning.
    pub agents: usize,
    /// Hosts that join later, if the nemesis wants them.
    pub spares: usize,
    /// VIPs to begin with.
    pub vips: usize,
    /// Concurrent writers.
    pub clients: usize,
    /// The lengths; one host in ten of a mixed cluster has others.
    pub timing: Timing,
    /// Whether somebody is changing the profile, one host after the other.
    pub mixed: bool,
    /// Entries between two snapshots.
    pub snapshot_every: u64,
    /// How long everything may be dark after everything was healed, in virtual milliseconds.
    pub bound: u64,
    /// Compare the state's bytes each so many entries.
    pub compare_every: u64,
    /// Whether holders go on without a majority, because the operator wants that. Two may then announce an address, one of
    /// them frozen.
    pub freeze: bool,
    /// The only thing that the nemesis does, instead of whatever it likes.
    pub aim: Option<Aim>,
}

impl Plan {
    /// The plan of `seed`.
    #[must_use]
    pub fn of(seed: u64, seconds: u64) -> Self {
        let mut dice = Dice::new(seed, 1);
        let voters = [3, 3, 3, 5, 5, 7][usize::try_from(dice.below(6)).unwrap_or(0)];
        let profile = [Profile::Fast, Profile::Lan, Profile::Lan, Profile::Safe];
        let profile = profile[usize::try_from(dice.below(4)).unwrap_or(1)];
        Self {
            seed,
            seconds,
            voters,
            agents: usize::try_from(dice.below(4)).unwrap_or(0),
            spares: 2,
            vips: usize::try_from(dice.between(20, 300)).unwrap_or(20),
            clients: usize::try_from(dice.between(1, 4)).unwrap_or(1),
            timing: profile.timing(),
            mixed: dice.one_in(4),
            snapshot_every: dice.between(40, 400),
            bound: 12_000,
            compare_every: 8,
            freeze: dice.one_in(6),
            aim: None,
        }
    }

    /// Whether holders go on without a majority: not in scenes, of which most are about two holders.
    #[must_use]
    pub(crate) fn freezes(&self) -> bool {
        self.freeze && self.aim.is_none()
    }

    /// [`Plan::aimed`], or [`Plan::of`] without an aim.
    pub(crate) fn asked(seed: u64, seconds: u64, aim: Option<Aim>) -> Self {
        match aim {
            Some(aim) => Self::aimed(seed, seconds, aim),
            None => Self::of(seed, seconds),
        }
    }

    /// The same, but the nemesis does nothing but play this scene, over and over; with what the scene needs.
    #[must_use]
    pub fn aimed(seed: u64, seconds: u64, aim: Aim) -> Self {
        let mut plan = Self::of(seed, seconds);
        if aim == Aim::DeposedTail {
            plan.agents = plan.agents.max(1);
            // Each scene has to fill so much of the log that the leader sends a snapshot.
            plan.snapshot_every = plan.snapshot_every.min(40);
        }
        plan.aim = Some(aim);
        plan
    }
}
