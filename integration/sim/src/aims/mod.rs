//! Faults that are aimed: each goes for one rule of the protocol, in the order of events that would hurt if the rule were
//! left out. Chance strikes such an order too seldom to be waited for.
//!
//! Whom it hits, and by how much things are late, is the dice's; and nothing here decides what is right or wrong: the
//! judge sees what it always sees. A scene whose cast is not there (no agent, too few voters) is not played.

mod deaf;
mod deposed;
mod fence;
mod fro;
mod order;
mod reading;
mod release;
mod stage;
mod voters;

use std::fmt;
use std::sync::Arc;

use clap::ValueEnum;

use crate::dice::Dice;
use crate::world::World;

use stage::Stage;

/// What is aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Aim {
    /// A voter dies between deciding on a fence and having it on its disk.
    LostFence,
    /// The word that a node has let go comes after it was told to keep the address.
    LateRelease,
    /// A node that starts is told of the world by a voter that was left behind.
    StaleRead,
    /// The voters change twice while a holder's beats starve in the middle of a long lease.
    StarvedByNewVoters,
    /// A node's datapath is slow, and when it is done the node has lost all and has a new lease.
    SlowDatapath,
    /// The leader hears nobody, and everybody hears it.
    DeafLeader,
    /// A voter that led is sent a snapshot over what it never got committed, while an agent follows it.
    DeposedTail,
    /// An address goes to a node and back and to it again, sooner than all that is handed on has arrived.
    ToAndFro,
}

/// Those that the nemesis plays now and then. The others came later, and are played by name only: one more here, and every seed is
/// another history.
const AIMS: [Aim; 6] = [
    Aim::LostFence,
    Aim::LateRelease,
    Aim::StaleRead,
    Aim::StarvedByNewVoters,
    Aim::SlowDatapath,
    Aim::DeafLeader,
];

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LostFence => "a fence that is lost with its voter",
            Self::LateRelease => "a release that is late",
            Self::StaleRead => "a start beside a voter that was left behind",
            Self::StarvedByNewVoters => "new voters while a holder's beats starve",
            Self::SlowDatapath => "a slow datapath and a new lease",
            Self::DeafLeader => "a leader that hears nobody",
            Self::DeposedTail => "a snapshot over what was never committed",
            Self::ToAndFro => "an address that goes to and fro",
        })
    }
}

/// Plays the scene that the plan names, else any. It leaves things broken: whoever called heals.
pub(crate) async fn strike(world: &Arc<World>, dice: &mut Dice) {
    let aim = world.plan.aim.or_else(|| dice.pick(&AIMS).copied());
    let Some(aim) = aim else { return };
    world.say(format_args!("--- aimed: {aim}"));
    let mut stage = Stage::new(world, dice);
    let played = match aim {
        Aim::LostFence => fence::play(&mut stage).await,
        Aim::LateRelease => release::play(&mut stage).await,
        Aim::StaleRead => reading::play(&mut stage).await,
        Aim::StarvedByNewVoters => voters::play(&mut stage).await,
        Aim::SlowDatapath => order::play(&mut stage).await,
        Aim::DeafLeader => deaf::play(&mut stage).await,
        Aim::DeposedTail => deposed::play(&mut stage).await,
        Aim::ToAndFro => fro::play(&mut stage).await,
    };
    match played {
        Some(()) => world.say(format_args!("--- the scene was played to its end")),
        None => world.say(format_args!(
            "--- the scene was left: it did not come so far"
        )),
    }
}
