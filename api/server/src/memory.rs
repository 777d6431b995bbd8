//! The in-memory twin of the daemon: [`Control`] over a [`State`] of its own, without Raft, beats or datapath.
//!
//! For tests of the API and of its clients. Three nodes on 10.0.0.0/24 and fd00::/64, of which `n1` is the one
//! that answers and leads. Holders let go at once of what they are asked to release, and know at once whether somebody
//! outside has a new address.

mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use vipd_core::asker::{Asker, Who};
use vipd_core::command::{Applied, Command, Outcome, Proposal};
use vipd_core::id::{Epoch, NodeId};
use vipd_core::lease::Timing;
use vipd_core::name::{Labels, Name};
use vipd_core::node::{Interface, Lease, Mac, Prefix, Role};
use vipd_core::proof::{Claim, Found, Proof, Rule};
use vipd_core::state::State;
use vipd_core::time::Millis;

use crate::balancing::{Balancing, Canned};
use crate::clock;
use crate::control::{Control, ControlError, JoinTicket, LocalAddress, LocalStatus};
use crate::secret::new_token;

/// See the [module](self).
pub struct Memory {
    state: Mutex<State>,
    applied: watch::Sender<u64>,
    /// Whether a majority of the voters is reached; while that is not known (`None`), whoever asks for it waits.
    quorum: watch::Sender<Option<bool>>,
    /// How often it was asked for.
    asked: watch::Sender<u64>,
    prompt: AtomicBool,
    /// Milliseconds that it takes to decide.
    pace: AtomicU64,
    /// Whether what only voters propose is refused here.
    agent: AtomicBool,
    /// Who has which address outside.
    taken: Mutex<BTreeMap<IpAddr, Mac>>,
    /// What its kernel shall be seen to balance.
    pub kernel: Arc<Canned>,
}

impl Memory {
    /// Three nodes that are up: `n1`, `n2` and `n3`.
    #[must_use]
    pub fn three_nodes() -> Arc<Self> {
        let memory = Arc::new(Self {
            state: Mutex::default(),
            applied: watch::Sender::new(0),
            quorum: watch::Sender::new(Some(true)),
            asked: watch::Sender::new(0),
            prompt: AtomicBool::new(true),
            pace: AtomicU64::new(0),
            agent: AtomicBool::new(false),
            taken: Mutex::default(),
            kernel: Arc::default(),
        });
        let peer = |host: u8| SocketAddr::from(([10, 0, 0, host], 7400));
        let name = |host: u8| Name::new(&format!("n{host}")).expect("n1 to n3 are names");
        let bootstrap = Command::Bootstrap {
            cluster: [7; 16],
            name: name(1),
            peer: peer(1),
            beat_key: [1; 32],
        };
        let _founded = memory.apply(bootstrap);
        let token = [9; 32];
        let expires = Millis(u64::MAX);
        let _valid = memory.apply(Command::PutJoinToken {
            token,
            role: Role::Voter,
            expires,
            uses: 2,
        });
        let mut voters = BTreeSet::from([NodeId(1)]);
        for host in [2, 3] {
            let join = Command::Join {
                token,
                name: name(host),
                peer: peer(host),
                beat_key: [host; 32],
            };
            if let Ok(Applied::Joined { node, role: _ }) = memory.apply(join) {
                voters.insert(node);
            }
        }
        memory.set_voters(&voters);
        for (node, host) in voters.iter().zip([1, 2, 3]) {
            memory.up(*node, host);
        }
        memory
    }

    /// Applies the next entry, and lets holders release what they are asked to.
    pub fn apply(&self, command: Command) -> Outcome {
        self.apply_by(None, command)
    }

    fn apply_for(&self, who: Who, command: Command) -> Outcome {
        let node = NodeId(1);
        self.apply_by(Some(Asker { node, who }), command)
    }

    fn apply_by(&self, by: Option<Asker>, command: Command) -> Outcome {
        let mut state = self.lock();
        let outcome = next_by(&mut state, by, command);
        self.follow(&mut state);
        self.applied.send_replace(state.applied());
        outcome
    }

    /// Holders do what they have to: they let go of addresses, and ask the link about new ones.
    fn follow(&self, state: &mut State) {
        loop {
            while self.prompt.load(Ordering::Relaxed)
                && let Some((node, addresses)) = vacating(state)
            {
                // What is released is no longer vacating, so this ends.
                let _released = next(state, Command::Released { node, addresses });
            }
            // What is told is news once only, and few addresses are exchanged for others.
            if !self.ask_the_link(state) {
                return;
            }
        }
    }

    /// Whether a majority of the voters is reached.
    pub fn set_quorum(&self, reached: bool) {
        self.quorum.send_replace(Some(reached));
    }

    /// From now on whoever asks for the cluster waits, until it is said again whether a majority is reached.
    pub fn keep_waiting(&self) {
        self.quorum.send_replace(None);
    }

    /// How often the cluster was asked for.
    pub fn asked(&self) -> watch::Receiver<u64> {
        self.asked.subscribe()
    }

    /// How many milliseconds pass until a write is decided.
    pub fn set_pace(&self, milliseconds: u64) {
        self.pace.store(milliseconds, Ordering::Relaxed);
    }

    /// Whether the node is an agent, which refuses what only an admin may ask.
    pub fn set_agent(&self, agent: bool) {
        self.agent.store(agent, Ordering::Relaxed);
    }

    /// Whether holders let go at once; otherwise they never do.
    pub fn set_prompt(&self, prompt: bool) {
        self.prompt.store(prompt, Ordering::Relaxed);
    }

    /// Somebody outside has an address, or (`None`) has it no more; its holder hears that at once.
    pub fn take(&self, address: IpAddr, mac: Option<[u8; 6]>) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match mac {
            Some(mac) => taken.insert(address, Mac(mac)),
            None => taken.remove(&address),
        };
        drop(taken);
        let mut state = self.lock();
        self.follow(&mut state);
        self.applied.send_replace(state.applied());
    }

    /// Holders tell of addresses that are not proven what has changed, if anything has.
    fn ask_the_link(&self, state: &mut State) -> bool {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told: BTreeMap<NodeId, Vec<Found>> = BTreeMap::new();
        for (address, of) in state.unproven() {
            let claim = taken.get(&address).map(|mac| Claim {
                mac: *mac,
                interface: "eth0".to_owned(),
            });
            let known = match (&of.proof, &claim) {
                (Proof::InUse { claim: known, .. }, Some(claim)) => known == claim,
                (Proof::Clear | Proof::Unproven | Proof::InUse { .. }, _) => false,
            };
            if let Some(holder) = of.holder.filter(|_| !known) {
                told.entry(holder).or_default().push(Found {
                    address,
                    epoch: of.epoch,
                    claim,
                    rule: Rule::Refuse,
                });
            }
        }
        let news = !told.is_empty();
        for (node, found) in told {
            let _told = next(state, Command::Probed { node, found });
        }
        news
    }

    /// A membership entry, which every node that is up reports to have applied.
    fn set_voters(&self, voters: &BTreeSet<NodeId>) {
        let mut state = self.lock();
        let membership = state.applied() + 1;
        state.apply_membership(membership, std::slice::from_ref(voters));
        let up = state
            .nodes()
            .values()
            .filter(|node| node.lease == Lease::Up);
        for (node, interfaces) in up
            .map(|node| (node.id, node.interfaces.clone()))
            .collect::<Vec<_>>()
        {
            let _reported = next(
                &mut state,
                Command::NodeReport {
                    node,
                    interfaces,
                    membership,
                },
            );
        }
        self.applied.send_replace(state.applied());
    }

    fn up(&self, node: NodeId, host: u8) {
        let v6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host.into());
        let prefixes = vec![
            Prefix {
                address: IpAddr::from([10, 0, 0, host]),
                len: 24,
            },
            Prefix {
                address: v6.into(),
                len: 64,
            },
        ];
        let interfaces = vec![Interface {
            name: "eth0".into(),
            up: true,
            prefixes,
            mac: Mac::default(),
        }];
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let _up = self.apply(Command::NodeUp {
            node,
            version,
            interfaces,
            labels: Labels::new(),
        });
    }

    /// Withdraws the lease of a node, as its peers do when they hear no beat of it.
    pub fn down(&self, name: &str) {
        let record = self.read(|state| {
            let mut nodes = state.nodes().values();
            let found = nodes.find(|node| node.name.as_str() == name);
            found.map(|node| (node.id, node.epoch))
        });
        let Some((node, epoch)) = record else { return };
        let membership = self.read(|state| state.voters().map_or(0, |(index, _)| index));
        let _over = self.apply(Command::NodeDown {
            node,
            epoch,
            membership,
        });
    }

    async fn decide(&self) -> Result<(), ControlError> {
        self.asked.send_modify(|asked| *asked += 1);
        let mut quorum = self.quorum.subscribe();
        let reached = quorum.wait_for(Option::is_some).await;
        match reached.is_ok_and(|reached| *reached == Some(true)) {
            true => Ok(()),
            false => Err(ControlError::NoLeader),
        }
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        self.lock()
            .voters()
            .map(|(_, sets)| sets.voters())
            .unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn next(state: &mut State, command: Command) -> Outcome {
    next_by(state, None, command)
}

fn next_by(state: &mut State, by: Option<Asker>, command: Command) -> Outcome {
    let index = state.applied() + 1;
    state.apply(
        index,
        &Proposal {
            at: clock::now(),
            command,
            by,
        },
    )
}

fn vacating(state: &State) -> Option<(NodeId, Vec<(IpAddr, Epoch)>)> {
    let found = state
        .allocations()
        .iter()
        .find(|(_, allocation)| allocation.vacating.is_some())?;
    Some((found.1.holder?, vec![(found.0, found.1.epoch)]))
}

impl Control for Memory {
    async fn propose(&self, who: Who, command: Command) -> Result<Outcome, ControlError> {
        if let Some(refused) = self.refuses(&command) {
            return Err(refused);
        }
        self.decide().await?;
        let pace = self.pace.load(Ordering::Relaxed);
        if pace > 0 {
            tokio::time::sleep(Duration::from_millis(pace)).await;
        }
        Ok(self.apply_for(who, command))
    }

    fn refuses(&self, command: &Command) -> Option<ControlError> {
        let admins = matches!(
            command,
            Command::PutApiToken { .. }
                | Command::DeleteApiToken { .. }
                | Command::RemoveNode { .. }
                | Command::Restore { .. }
        );
        let agent = self.agent.load(Ordering::Relaxed);
        (agent && admins).then(|| ControlError::Refused {
            what: "this node is an agent".into(),
            next: "ask a voter".into(),
        })
    }

    async fn linearize(&self) -> Result<(), ControlError> {
        self.decide().await
    }

    fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.lock())
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    fn node(&self) -> NodeId {
        NodeId(1)
    }

    fn local(&self) -> LocalStatus {
        let state = self.lock();
        let quorum_ok = *self.quorum.borrow() == Some(true);
        let node = self.node();
        let others = state.nodes().keys().filter(|id| **id != node);
        LocalStatus {
            node,
            name: "n1".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            leader: quorum_ok.then_some(node),
            term: 1,
            committed: state.applied(),
            quorum_ok,
            timing: Timing::default(),
            lease_remaining: quorum_ok.then_some(Duration::from_millis(142)),
            addresses: state
                .held_by(node)
                .map(|(address, _)| {
                    let counters =
                        BTreeMap::from([("arp_answered", 3), ("announcement_passed", 14)]);
                    (
                        address,
                        LocalAddress {
                            interface: "eth0".to_owned(),
                            answering: quorum_ok,
                            claimed_by: None,
                            counters,
                        },
                    )
                })
                .collect(),
            backends: told::backends(&state),
            slowed: BTreeMap::new(),
            bounds: Some(told::bounds()),
            xdp: BTreeMap::from([("eth0".to_owned(), told::without_xdp())]),
            last_seen: others.map(|id| (*id, Duration::from_millis(12))).collect(),
            beat_lateness: Some(Duration::from_micros(80)),
            frozen: false,
            beats_late: None,
            datapath_fault: None,
            noticed: BTreeMap::from([("conflict", 2)]),
            beats: BTreeMap::from([("sent", 80), ("received", 160), ("rejected", 0)]),
            beats_realtime: true,
        }
    }

    fn balancing(&self) -> Arc<dyn Balancing> {
        self.kernel.clone()
    }

    async fn remove_member(&self, who: Who, node: NodeId) -> Result<(), ControlError> {
        self.decide().await?;
        let mut voters = self.voters();
        voters.remove(&node);
        self.set_voters(&voters);
        let record = self
            .lock()
            .node(node)
            .map(|node| (node.name.clone(), node.epoch));
        let Some((name, epoch)) = record else {
            return Ok(());
        };
        // The daemon waits until the lease is over; here it is over at once, or was before.
        let membership = self.read(|state| state.voters().map_or(0, |(index, _)| index));
        let _over = self.apply(Command::NodeDown {
            node,
            epoch,
            membership,
        });
        self.apply_for(who, Command::RemoveNode { node: name })
            .map(drop)
            .map_err(ControlError::from)
    }

    async fn snapshot(&self) -> Result<u64, ControlError> {
        Ok(self.lock().applied())
    }

    async fn join_token(
        &self,
        who: Who,
        role: Role,
        ttl: Duration,
        uses: u32,
    ) -> Result<JoinTicket, ControlError> {
        self.decide().await?;
        let (token, hash) = new_token();
        let expires =
            Millis(clock::now().0 + u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX / 2));
        let put = Command::PutJoinToken {
            token: hash,
            role,
            expires,
            uses,
        };
        self.apply_for(who, put)?;
        let command = format!("vipd join 10.0.0.1:7400 {token}");
        Ok(JoinTicket {
            token,
            command,
            expires,
        })
    }
}
