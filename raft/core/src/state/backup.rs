//! Backups: taken, brought in part by part, restored.
//!
//! A restore replaces what operators have asked for and which address belongs to which VIP, in one entry, and leaves
//! alone what is of the running cluster: leases, holders, epochs. An address that stays keeps its holder; one that its VIP
//! no longer has is released as ever; one that comes is placed as ever. So nothing here can make two holders, and epochs
//! only grow.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::unit::Units;
use super::{Cooling, Entry, State, done, size};
use crate::backup::{
    Backup, SavedAllocation, SavedNode, SavedPolicy, SavedPool, SavedToken, SavedVip,
};
use crate::codec::{Wire, wire_struct};
use crate::command::{Expect, Outcome};
use crate::event::What;
use crate::id::Revision;
use crate::name::Name;
use crate::policy::Policy;
use crate::pool::Pool;
use crate::rejection::Rejection;
use crate::sharing::compatible;
use crate::time::Millis;
use crate::vip::{Vip, VipSpec};

/// The most bytes of a backup that is being brought in.
pub const MAX_STAGED: usize = 64 * 1024 * 1024;

/// For how long its parts are kept while no further one comes, by the entries' own times.
const STAGED_FOR: Millis = Millis(10 * 60 * 1000);

/// A backup that is being brought in: it is larger than an entry of the log may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Staged {
    /// Tells it from others.
    upload: u128,
    /// The parts that have come.
    parts: Vec<Vec<u8>>,
    /// When the last one did.
    at: Millis,
}

wire_struct!(Staged { upload, parts } since 4 { at });

impl State {
    /// What a backup holds, as things are.
    #[must_use]
    pub fn backup(&self) -> Backup {
        let mut pools: Vec<&Pool> = self.pools.values().collect();
        pools.sort_by_key(|pool| pool.born);
        let mut vips: Vec<_> = self.vips.values().collect();
        vips.sort_by_key(|vip| vip.born);
        let pools = pools.into_iter().map(|pool| SavedPool {
            name: pool.name.clone(),
            labels: pool.labels.clone(),
            spec: pool.spec.clone(),
            created: pool.created,
        });
        let policies = self.policies.values().map(|policy| SavedPolicy {
            name: policy.name.clone(),
            labels: policy.labels.clone(),
            spec: policy.spec.clone(),
            created: policy.created,
        });
        let vips = vips.into_iter().map(|vip| SavedVip {
            name: vip.name.clone(),
            labels: vip.labels.clone(),
            spec: VipSpec::clone(&vip.spec),
            created: vip.created,
            addresses: vip.addresses.to_vec(),
        });
        let kept = self.allocations.iter().filter(|(_, of)| !of.freeing);
        let allocations = kept.map(|(address, of)| SavedAllocation {
            address,
            pool: of.pool.clone(),
            since: of.since,
            vips: of.vips().cloned().collect(),
        });
        let mut nodes: Vec<SavedNode> = self
            .nodes
            .values()
            .map(|node| SavedNode {
                name: node.name.clone(),
                labels: node.set_labels.clone(),
                weight: node.weight,
                drained: node.drained,
            })
            .collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let tokens = self.api_tokens.iter().map(|(hash, token)| SavedToken {
            hash: *hash,
            token: token.clone(),
        });
        Backup {
            pools: pools.collect(),
            policies: policies.collect(),
            vips: vips.collect(),
            allocations: allocations.collect(),
            nodes,
            tokens: tokens.collect(),
        }
    }

    /// Drops a backup of which nothing more has come for long: whoever brought it is gone.
    pub(super) fn forget_staged(&mut self, entry: Entry) {
        let until = |staged: &Staged| staged.at.0.saturating_add(STAGED_FOR.0);
        if self
            .staged
            .as_ref()
            .is_some_and(|staged| entry.at.0 >= until(staged))
        {
            self.staged = None;
        }
    }

    /// Takes the next part of a backup. The first part of another one takes its place.
    pub(super) fn stage(&mut self, entry: Entry, upload: u128, part: u32, bytes: &[u8]) -> Outcome {
        let same = self.staged.as_ref().filter(|known| known.upload == upload);
        let known = same.map_or(&[][..], |known| &known.parts);
        // A part that came twice, because its proposer did not hear the first answer, is there already.
        if known.get(part as usize).is_some_and(|known| known == bytes) {
            return done(entry);
        }
        // The first one begins anew, whatever there was.
        let known = if part == 0 { &[][..] } else { known };
        if known.len() != part as usize {
            return Err(invalid(format!(
                "part {part} of the backup came after {} parts: somebody else restores too",
                known.len()
            )));
        }
        let size: usize = known.iter().map(Vec::len).sum();
        if size + bytes.len() > MAX_STAGED {
            return Err(invalid(format!(
                "the backup has more than {MAX_STAGED} bytes"
            )));
        }
        if part == 0 {
            self.staged = Some(Staged {
                upload,
                ..Staged::default()
            });
        }
        if let Some(staged) = &mut self.staged {
            staged.parts.push(bytes.into());
            staged.at = entry.at;
        }
        done(entry)
    }

    /// Restores the backup whose parts have come. Refused as a whole, or done as a whole.
    pub(super) fn restore(&mut self, entry: Entry, upload: u128) -> Outcome {
        let staged = self.staged.as_ref();
        let staged = staged.filter(|known| known.upload == upload);
        let staged = staged.ok_or_else(|| invalid("the backup's parts are not there".into()))?;
        let backup = Backup::from_bytes(&staged.parts.concat())
            .map_err(|why| invalid(format!("the backup can't be read: {why}")))?;
        let mut restored = self.clone();
        restored.staged = None;
        restored.carry_out(entry, &backup)?;
        if restored.backup() == self.backup() {
            self.staged = None;
        } else {
            *self = restored;
        }
        done(entry)
    }

    fn carry_out(&mut self, entry: Entry, backup: &Backup) -> Result<(), Rejection> {
        check(backup)?;
        self.blind.clear();
        self.let_go(entry, backup)?;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.note(
            entry,
            What::Restored {
                pools: count(backup.pools.len()),
                policies: count(backup.policies.len()),
                vips: count(backup.vips.len()),
                addresses: count(backup.allocations.len()),
            },
        );
        self.replace_policies(entry, backup)?;
        self.replace_pools(entry, backup)?;
        self.replace_vips(entry, backup)?;
        self.index = self.derive();
        self.has_all_room()?;
        self.bring_back(entry, backup);
        self.set_nodes(entry, backup)?;
        // Only if whoever restores wants them to.
        self.restore_tokens(entry, &backup.tokens)?;
        let names: Vec<Name> = backup.vips.iter().map(|vip| vip.name.clone()).collect();
        for name in &names {
            let mut units = Units::default();
            self.satisfy(entry, name, &mut units);
            self.settle_units(entry, units);
        }
        self.settle(entry);
        Ok(())
    }

    /// Takes from VIPs what the backup does not give them, in the usual way: an address that is held stays allocated until
    /// its holder has let go.
    fn let_go(&mut self, entry: Entry, backup: &Backup) -> Result<(), Rejection> {
        let kept: BTreeSet<&Name> = backup.vips.iter().map(|vip| &vip.name).collect();
        let gone = self.vips.keys().filter(|name| !kept.contains(name));
        for name in gone.cloned().collect::<Vec<_>>() {
            self.delete_vip(entry, &name, Expect::Any)?;
        }
        for saved in &backup.vips {
            let has = self.vips.get(&saved.name).map(|vip| vip.addresses.clone());
            for address in has.into_iter().flatten() {
                if !saved.addresses.contains(&address) {
                    self.lose(entry, address, &saved.name);
                }
            }
        }
        Ok(())
    }

    fn replace_policies(&mut self, entry: Entry, backup: &Backup) -> Result<(), Rejection> {
        let kept: BTreeSet<&Name> = backup.policies.iter().map(|saved| &saved.name).collect();
        self.policies.retain(|name, _| kept.contains(name));
        for saved in &backup.policies {
            size::check_labels("policy", &saved.name, &saved.labels)?;
            self.check_policy(&saved.name, &saved.spec)?;
            let old = self.policies.get(&saved.name);
            let (generation, revision) = versions(
                entry,
                old.map(|old| (old.generation, old.revision)),
                old.is_some_and(|old| old.spec == saved.spec),
                old.is_some_and(|old| old.labels == saved.labels),
            );
            let policy = Policy {
                name: saved.name.clone(),
                labels: saved.labels.clone(),
                spec: saved.spec.clone(),
                created: saved.created,
                generation,
                revision,
            };
            self.policies.insert(saved.name.clone(), policy);
        }
        Ok(())
    }

    fn replace_pools(&mut self, entry: Entry, backup: &Backup) -> Result<(), Rejection> {
        let old = core::mem::take(&mut self.pools);
        for saved in &backup.pools {
            size::check_labels("pool", &saved.name, &saved.labels)?;
            self.check_blocks(&saved.name, &saved.spec)?;
            let old = old.get(&saved.name);
            let (generation, revision) = versions(
                entry,
                old.map(|old| (old.generation, old.revision)),
                old.is_some_and(|old| old.spec == saved.spec),
                old.is_some_and(|old| old.labels == saved.labels),
            );
            let pool = Pool {
                name: saved.name.clone(),
                labels: saved.labels.clone(),
                spec: saved.spec.clone(),
                created: saved.created,
                generation,
                revision,
                born: self.next_born(entry),
            };
            self.pools.insert(saved.name.clone(), pool);
        }
        // What cools down does so because its pool says so, or because somebody outside has it.
        let cools = |cooling: &Cooling| {
            let pool = self.pools.get(&cooling.pool);
            pool.is_some_and(|pool| pool.spec.cooldown.0 > 0 || cooling.in_use.is_some())
        };
        self.cooling.retain(|_, cooling| cools(cooling));
        Ok(())
    }

    /// The VIPs with what they ask for; of addresses they have what they had.
    fn replace_vips(&mut self, entry: Entry, backup: &Backup) -> Result<(), Rejection> {
        for saved in &backup.vips {
            size::check_labels("VIP", &saved.name, &saved.labels)?;
            let (spec, _) = self.specs.admit(&saved.name, &saved.spec)?;
            let old = self.vips.get(&saved.name).cloned();
            let (generation, revision) = versions(
                entry,
                old.as_ref().map(|old| (old.generation, old.revision)),
                old.as_ref().is_some_and(|old| *old.spec == saved.spec),
                old.as_ref().is_some_and(|old| old.labels == saved.labels),
            );
            let vip = Vip {
                name: saved.name.clone(),
                labels: saved.labels.clone(),
                spec,
                addresses: old
                    .as_ref()
                    .map(|old| old.addresses.clone())
                    .unwrap_or_default(),
                created: saved.created,
                generation,
                revision,
                born: self.next_born(entry),
                unsatisfied_since: old.as_ref().and_then(|old| old.unsatisfied_since),
                unmet: old.map(|old| old.unmet.clone()).unwrap_or_default(),
            };
            self.vips.insert(saved.name.clone(), Arc::new(vip));
        }
        Ok(())
    }

    /// Gives VIPs the addresses that the backup says are theirs. One that is a host's own by now is not given; its VIP asks
    /// for another.
    fn bring_back(&mut self, entry: Entry, backup: &Backup) {
        for saved in &backup.allocations {
            let address = saved.address;
            if self.index.hosts.contains_key(&address) {
                // Who has it keeps it, in the pool that has it now.
                self.rehome(address, &saved.pool);
                continue;
            }
            for vip in &saved.vips {
                let has = self.allocations.get(&address);
                let has = has.is_some_and(|of| !of.freeing && of.is_of(vip));
                if !has && let Some(vip) = self.vips.get(vip).cloned() {
                    self.allocate(entry, address, &saved.pool, &vip);
                }
            }
            self.rehome(address, &saved.pool);
            self.change(address, |of| {
                if let [first, others @ ..] = saved.vips.as_slice() {
                    of.vip = first.clone();
                    of.sharers = others.to_vec();
                }
                of.since = saved.since;
                // Nobody here may have asked who has it, but it was announced before.
                of.came_back = true;
            });
        }
        for saved in &backup.vips {
            let given = saved.addresses.iter().copied();
            let given = given.filter(|address| {
                let of = self.allocations.get(address);
                of.is_some_and(|of| !of.freeing && of.is_of(&saved.name))
            });
            let given = given.collect();
            if let Some(vip) = self.vips.get_mut(&saved.name) {
                Arc::make_mut(vip).addresses = given;
                let vip = Arc::clone(vip);
                self.follow_spec(&vip, &vip.addresses);
            }
        }
        self.index = self.derive();
    }

    /// What operators have said of nodes, of those that are here.
    fn set_nodes(&mut self, entry: Entry, backup: &Backup) -> Result<(), Rejection> {
        for saved in &backup.nodes {
            let Some(node) = self.node_named(&saved.name) else {
                continue;
            };
            let taken = node.set_labels.keys();
            let taken = taken.filter(|key| !saved.labels.contains_key(*key));
            let taken = taken.map(|key| (key.clone(), None));
            let set = saved.labels.iter();
            let set = set.map(|(key, value)| (key.clone(), Some(value.clone())));
            let labels = taken.chain(set).collect();
            let (weight, drained) = (Some(saved.weight), Some(saved.drained));
            self.set_node(entry, &saved.name, weight, &labels, drained, Expect::Any)?;
        }
        Ok(())
    }
}

/// Generation and revision of an object after a restore: as they were, if it stays as it was.
fn versions(
    entry: Entry,
    old: Option<(u64, Revision)>,
    same_spec: bool,
    same_labels: bool,
) -> (u64, Revision) {
    match old {
        Some((generation, revision)) if same_spec && same_labels => (generation, revision),
        Some((generation, _)) => (generation + u64::from(!same_spec), entry.revision),
        None => (1, entry.revision),
    }
}

fn invalid(why: String) -> Rejection {
    Rejection::Invalid { why }
}

/// Whether a backup is at one with itself. A file may have been edited.
fn check(backup: &Backup) -> Result<(), Rejection> {
    let once = |kind: &str, mut names: Vec<&Name>| {
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(invalid(format!("{kind} {} is in it twice", pair[0]))),
            None => Ok(()),
        }
    };
    once(
        "pool",
        backup.pools.iter().map(|saved| &saved.name).collect(),
    )?;
    once(
        "policy",
        backup.policies.iter().map(|saved| &saved.name).collect(),
    )?;
    once("VIP", backup.vips.iter().map(|saved| &saved.name).collect())?;
    once(
        "node",
        backup.nodes.iter().map(|saved| &saved.name).collect(),
    )?;
    let pools = backup.pools.iter().map(|pool| (&pool.name, &pool.spec));
    let pools: alloc::collections::BTreeMap<_, _> = pools.collect();
    let vips = backup.vips.iter().map(|vip| (&vip.name, vip));
    let vips: alloc::collections::BTreeMap<_, _> = vips.collect();
    let mut given = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for SavedAllocation {
        address,
        pool,
        vips: of,
        ..
    } in &backup.allocations
    {
        let bad = |why: String| Err(invalid(format!("address {address} {why}")));
        if !pools.get(pool).is_some_and(|spec| spec.contains(*address)) {
            return bad(format!("is in no block of pool {pool}"));
        }
        if of.is_empty() {
            return bad("belongs to no VIP".into());
        }
        if !addresses.insert(address) {
            return bad("is in it twice".into());
        }
        for (i, name) in of.iter().enumerate() {
            let vip = vips.get(name).filter(|vip| vip.addresses.contains(address));
            let Some(vip) = vip else {
                return bad(format!("belongs to VIP {name}, which does not have it"));
            };
            for other in of[..i].iter().filter_map(|other| vips.get(other)) {
                if let Err(rule) = compatible(&vip.spec, &other.spec) {
                    return bad(format!(
                        "is shared by VIPs {} and {name}: {rule}",
                        other.name
                    ));
                }
            }
            if !given.insert((name, address)) {
                return bad(format!("is given to VIP {name} twice"));
            }
        }
    }
    for vip in &backup.vips {
        let has = vip.addresses.iter();
        if let Some(address) = has
            .clone()
            .find(|address| !given.contains(&(&vip.name, *address)))
        {
            return Err(invalid(format!(
                "VIP {} has {address}, of which nothing else is said",
                vip.name
            )));
        }
        let (n, wishes) = (vip.addresses.len(), size::wishes(&vip.spec));
        if n > wishes {
            return Err(invalid(format!(
                "VIP {} has {n} addresses, and asks for {wishes}",
                vip.name
            )));
        }
        let all: BTreeSet<_> = has.collect();
        if all.len() != vip.addresses.len() {
            return Err(invalid(format!("VIP {} has an address twice", vip.name)));
        }
    }
    Ok(())
}
