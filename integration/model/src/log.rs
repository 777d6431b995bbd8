//! The replicated log, as a tree of prefixes that all runs share: each prefix holds the real [`State`] that the real
//! `State::apply` makes of it, computed once.
//!
//! Raft itself is not modelled: what it gives, one sequence of entries of which every node has applied a prefix, is
//! taken for granted (openraft's own tests and ours stand for it).

use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow};
use vipd_core::command::{Command, Proposal};
use vipd_core::id::{Epoch, NodeId};
use vipd_core::proof::{Found, Rule};
use vipd_core::state::State;
use vipd_core::time::Millis;
use vipd_core::vip::Allocation;

use crate::cluster::Cluster;
use crate::mutant::Mutant;

/// What the model's nodes and its operator put into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    /// A node begins a lease.
    Up(NodeId),
    /// A lease is withdrawn.
    Down {
        /// Whose.
        node: NodeId,
        /// Which.
        epoch: Epoch,
        /// The membership entry by which certificates were counted.
        membership: u64,
    },
    /// A node tells by which voters it counts.
    Report {
        /// Which node.
        node: NodeId,
        /// The membership entry.
        membership: u64,
    },
    /// A holder gives the address back.
    Released {
        /// Which holder.
        node: NodeId,
        /// The token it held it under.
        token: Epoch,
    },
    /// The operator drains a node.
    Drain(NodeId),
    /// The operator moves the VIP.
    Move(NodeId),
    /// The operator deletes the VIP.
    Delete,
    /// The operator makes the VIP, with the same address.
    Put,
    /// The cluster's voters change to the n-th membership of the cluster's plan.
    Voters(u8),
}

/// A prefix of the log.
#[derive(Clone, Debug)]
pub struct Log(Arc<Prefix>);

#[derive(Debug)]
struct Prefix {
    before: Option<Log>,
    index: u64,
    state: State,
    /// What a leader that forgets about voter sets would see; only there with such a mutant.
    forgetful: Option<State>,
    /// Of all entries: the same on every thread and in every run.
    hash: u64,
}

impl PartialEq for Log {
    fn eq(&self, other: &Self) -> bool {
        self.0.hash == other.0.hash
    }
}

impl Eq for Log {}

impl Hash for Log {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.0.hash);
    }
}

impl Log {
    /// The index of its last entry.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.0.index
    }

    /// What the cluster agrees on after it.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.0.state
    }

    /// What takeovers are judged by: the same, unless a mutant forgets voter sets.
    #[must_use]
    pub fn judged(&self) -> &State {
        self.0.forgetful.as_ref().unwrap_or(&self.0.state)
    }

    /// The membership entry that counts now.
    #[must_use]
    pub fn membership(&self) -> u64 {
        self.0.state.voters().map_or(0, |(index, _)| index)
    }

    /// Who holds the model's one address, and how.
    #[must_use]
    pub fn allocation(&self) -> Option<&Allocation> {
        self.0.state.allocations().values().next().map(|of| &**of)
    }

    /// The prefix of it that is one entry longer than `shorter`.
    #[must_use]
    pub fn after(&self, shorter: &Self) -> Option<Self> {
        let mut at = Some(self).filter(|log| log.index() > shorter.index())?;
        loop {
            let before = at.0.before.as_ref()?;
            if before.index() <= shorter.index() {
                return Some(at.clone());
            }
            at = before;
        }
    }
}

/// All prefixes met so far.
#[derive(Debug)]
pub struct Logs {
    cluster: Cluster,
    mutant: Option<Mutant>,
    start: Log,
    met: Mutex<HashMap<(u64, Entry), Option<Log>>>,
}

impl Logs {
    /// The log of a cluster that has been set up, with one VIP.
    ///
    /// # Errors
    /// When `State::apply` refuses the set-up.
    pub fn new(cluster: Cluster, mutant: Option<Mutant>) -> Result<Self> {
        let mut state = State::default();
        for command in cluster.set_up()? {
            apply(&mut state, command)
                .map_err(|why| anyhow!("setting up the model's cluster: {why}"))?;
            if state.voters().is_none() && state.nodes().len() == cluster.size() {
                let index = state.applied() + 1;
                state.apply_membership(index, &cluster.memberships()[0]);
            }
        }
        let index = state.applied();
        let start = Log(Arc::new(Prefix {
            before: None,
            index,
            forgetful: forgetful(&cluster, mutant, &state),
            state,
            hash: 1,
        }));
        Ok(Self {
            cluster,
            mutant,
            start,
            met: Mutex::default(),
        })
    }

    /// The log after the set-up.
    #[must_use]
    pub fn start(&self) -> &Log {
        &self.start
    }

    /// The cluster it is of.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// `log` with one entry more; `None` if the state refuses it, which leaves all as it was.
    #[must_use]
    pub fn append(&self, log: &Log, entry: Entry) -> Option<Log> {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.entry((log.0.hash, entry))
            .or_insert_with(|| self.make(log, entry))
            .clone()
    }

    fn make(&self, log: &Log, entry: Entry) -> Option<Log> {
        let mut state = log.state().clone();
        match entry {
            Entry::Voters(n) => {
                let index = state.applied() + 1;
                state.apply_membership(index, self.cluster.memberships().get(usize::from(n))?);
            }
            Entry::Up(_)
            | Entry::Down { .. }
            | Entry::Report { .. }
            | Entry::Released { .. }
            | Entry::Drain(_)
            | Entry::Move(_)
            | Entry::Delete
            | Entry::Put => {
                apply(&mut state, self.cluster.command(entry)?).ok()?;
            }
        }
        let mut hasher = std::hash::DefaultHasher::new();
        (log.0.hash, entry).hash(&mut hasher);
        Some(Log(Arc::new(Prefix {
            before: Some(log.clone()),
            index: state.applied(),
            forgetful: forgetful(&self.cluster, self.mutant, &state),
            state,
            hash: hasher.finish(),
        })))
    }
}

/// Applies a command, and what the holder finds who asks the link about a new address: nobody outside is on the model's.
fn apply(state: &mut State, command: Command) -> Result<()> {
    apply_alone(state, command)?;
    let unproven = state.unproven();
    let questions = unproven.filter_map(|(address, of)| Some((of.holder?, address, of.epoch)));
    for (node, address, epoch) in questions.collect::<Vec<_>>() {
        let found = vec![Found {
            address,
            epoch,
            claim: None,
            rule: Rule::Refuse,
        }];
        apply_alone(state, Command::Probed { node, found })?;
    }
    Ok(())
}

fn apply_alone(state: &mut State, command: Command) -> Result<()> {
    let proposal = Proposal {
        at: Millis(0),
        command,
        by: None,
    };
    let applied = state.apply(state.applied() + 1, &proposal);
    applied.map(|_| ()).map_err(|why| anyhow!("{why}"))
}

/// The state as if only the voter sets that the mutant looks at had ever been.
fn forgetful(cluster: &Cluster, mutant: Option<Mutant>, state: &State) -> Option<State> {
    let (_, newest) = state.voters()?;
    let sets: Vec<BTreeSet<NodeId>> = match mutant? {
        Mutant::NewestSetOnly => newest.sets.last().cloned().into_iter().collect(),
        Mutant::OlderSetsForgotten => newest.sets.clone(),
        _ => return None,
    };
    let mut state = state.clone();
    let membership = state.applied() + 1;
    state.apply_membership(membership, &sets);
    for node in cluster.nodes() {
        let command = cluster.command(Entry::Report {
            node: *node,
            membership,
        })?;
        apply(&mut state, command).ok()?;
    }
    Some(state)
}
