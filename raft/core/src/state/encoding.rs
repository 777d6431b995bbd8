//! The state as bytes: what a snapshot holds.

use super::State;
use super::index::{Index, Whereabouts, unproven};
use super::ipam::{Stir, Taken};
use super::journal::Journal;
use super::placement::away_from;
use super::size;
use super::specs::Specs;
use crate::codec::{DecodeError, LAYOUT, Reader, Wire, Writer, since};

impl Wire for State {
    fn encode(&self, out: &mut Writer) {
        LAYOUT.encode(out);
        self.cluster.encode(out);
        self.applied.encode(out);
        self.pools.encode(out);
        self.vips.encode(out);
        self.allocations.encode(out);
        self.nodes.encode(out);
        self.voter_sets.encode(out);
        self.join_tokens.encode(out);
        self.api_tokens.encode(out);
        self.events.encode(out);
        self.events_made.encode(out);
        self.policies.encode(out);
        self.cooling.encode(out);
        self.staged.encode(out);
        self.ahead.encode(out);
        self.answers.encode(out);
        self.blind.encode(out);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut state = input.versioned("snapshot", |input| {
            Ok(Self {
                cluster: Wire::decode(input)?,
                applied: Wire::decode(input)?,
                pools: Wire::decode(input)?,
                vips: Wire::decode(input)?,
                allocations: Wire::decode(input)?,
                nodes: Wire::decode(input)?,
                voter_sets: Wire::decode(input)?,
                join_tokens: Wire::decode(input)?,
                api_tokens: Wire::decode(input)?,
                events: Wire::decode(input)?,
                events_made: Wire::decode(input)?,
                policies: since(2, input)?,
                cooling: since(3, input)?,
                staged: since(3, input)?,
                ahead: since(3, input)?,
                answers: since(3, input)?,
                blind: since(5, input)?,
                index: Index::default(),
                journal: Journal::default(),
                specs: Specs::default(),
            })
        })?;
        state.share_specs();
        state.index = state.derive();
        state.journal = Journal::from(state.applied);
        Ok(state)
    }
}

impl State {
    /// The index computed from nothing but the agreed state.
    pub(super) fn derive(&self) -> Index {
        let mut index = Index::default();
        for vip in self.vips.values() {
            let spec = self.specs.weight(&vip.spec);
            index.weigh(None, Some(size::of_vip(&vip.name, &vip.labels, spec)));
            index.put_vip(None, Some(vip));
            index.stock.set_waiting(vip, true);
        }
        for (address, allocation) in self.allocations.iter() {
            index.stock.count(address, &allocation.pool);
            if allocation.freeing {
                index.stock.set_late(address, &allocation.vip, true);
                let aside = allocation.kept_out_by().is_some();
                index
                    .stock
                    .set_aside(address, aside.then_some(&allocation.pool));
            } else if let Some(vip) = self.vips.get(&allocation.vip) {
                let key = vip.spec.sharing_key.as_ref();
                index.stock.set_key(address, key);
            }
            index.set_unproven(address, false, unproven(allocation));
            index.changed(address, Whereabouts::default(), Whereabouts::of(allocation));
            index.set_away(address, None, away_from(&self.vips, allocation));
        }
        for (address, cooling) in &self.cooling {
            index.stock.set_cooling(*address, cooling, true);
        }
        for pool in self.pools.values() {
            index.weigh(None, Some(size::of_pool(pool)));
        }
        for policy in self.policies.values() {
            index.weigh(None, Some(size::of_policy(policy)));
        }
        index.set_hosts(&self.nodes);
        index.stock.set_pools(&self.pools);
        index.stock.stir = Stir::default();
        let taken = Taken {
            allocations: &self.allocations,
            cooling: &self.cooling,
            hosts: &index.hosts,
        };
        for pool in self.pools.values() {
            index.stock.refill(pool, &taken);
        }
        index.names = self
            .nodes
            .values()
            .map(|node| (node.name.clone(), node.id))
            .collect();
        index
    }
}
