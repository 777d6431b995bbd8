//! Whether somebody outside the cluster has an address: asked on the link before it is announced for the first time.
//!
//! ```text
//!   allocated ──> Unproven ──nobody answers──> Clear        announced
//!                     └──────somebody does───> InUse ──heard no more──> Clear
//! ```
//! The answer belongs to the allocation, not to the holder, so that a failover asks nothing: that would cost it 200 ms. A
//! holder that is lost while it asks leaves the question to the next one. What is announced stays so, whatever is heard
//! later: who claims it then is in the wrong, and could be anybody who wants it silent.

use alloc::string::String;
use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use crate::codec::{wire_enum, wire_struct};
use crate::id::{Epoch, NodeId};
use crate::node::Mac;

/// What is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// Nobody has it.
    #[default]
    Clear,
    /// No holder has asked so far.
    Unproven,
    /// Somebody has it.
    InUse {
        /// The node that heard him.
        node: NodeId,
        /// What it heard.
        claim: Claim,
        /// Whether it is announced all the same.
        announced: bool,
    },
}

wire_enum!(Proof { 0 => Clear, 1 => Unproven, 2 => InUse { node, claim, announced } });

impl Proof {
    /// Whether a holder may announce it.
    #[must_use]
    pub fn lets_announce(&self) -> bool {
        match self {
            Self::Clear => true,
            Self::Unproven => false,
            Self::InUse { announced, .. } => *announced,
        }
    }

    /// Who has it, where it is not announced for that.
    #[must_use]
    pub fn refused_for(&self) -> Option<&Claim> {
        match self {
            Self::Clear | Self::Unproven => None,
            Self::InUse {
                claim, announced, ..
            } => (!announced).then_some(claim),
        }
    }

    /// What it becomes by what `node` found; `None` where that is no news.
    #[must_use]
    pub(crate) fn after(&self, node: NodeId, found: &Found) -> Option<Self> {
        let announced = match self {
            Self::Clear => return None,
            Self::Unproven => false,
            Self::InUse { announced, .. } => *announced,
        };
        let Some(claim) = &found.claim else {
            return Some(Self::Clear);
        };
        let announced = announced || found.rule == Rule::Warn;
        let known = matches!(self, Self::InUse { claim: known, announced: was, .. }
            if known == claim && *was == announced);
        (!known).then(|| Self::InUse {
            node,
            claim: claim.clone(),
            announced,
        })
    }
}

/// What a holder does about an address that somebody outside has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// It does not announce it until that is heard no more.
    #[default]
    Refuse,
    /// It says so, and announces it all the same.
    Warn,
}

wire_enum!(Rule { 0 => Refuse, 1 => Warn });

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "warn" => Ok(Self::Warn),
            other => Err(alloc::format!("{other:?} is not one of refuse, warn")),
        }
    }
}

/// Somebody answered for an address, or asked for it as his own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// His MAC.
    pub mac: Mac,
    /// The interface on which he was heard.
    pub interface: String,
}

wire_struct!(Claim { mac, interface });

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.mac.0;
        write!(
            f,
            "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}, heard on {}",
            self.interface
        )
    }
}

/// What a holder found when it asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The address.
    pub address: IpAddr,
    /// The fencing token under which it was held.
    pub epoch: Epoch,
    /// Who has it, if somebody has.
    pub claim: Option<Claim>,
    /// What the holder does about that.
    pub rule: Rule,
}

wire_struct!(Found {
    address,
    epoch,
    claim,
    rule
});

/// A question to the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The address.
    pub address: IpAddr,
    /// The fencing token under which it is held.
    pub epoch: Epoch,
    /// The interface that would carry it.
    pub interface: String,
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nobody has the address.
    Free,
    /// Somebody has: the MAC that was heard.
    Taken(Mac),
    /// It could not be asked.
    Unasked,
}
