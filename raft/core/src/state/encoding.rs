//! The state as bytes: what a snapshot holds.

use super::State;
use super::index::Index;
use crate::codec::{DecodeError, Reader, Wire, Writer};

/// The version byte of an encoded state.
const VERSION: u8 = 1;

impl Wire for State {
    fn encode(&self, out: &mut Writer) {
        VERSION.encode(out);
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
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(input)? {
            VERSION => {}
            tag => return Err(DecodeError::Tag { of: "State", tag }),
        }
        let mut state = Self {
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
            index: Index::default(),
        };
        state.index = state.derive();
        Ok(state)
    }
}

impl State {
    /// The index computed from nothing but the agreed state.
    pub(super) fn derive(&self) -> Index {
        let mut index = Index::default();
        for (address, allocation) in &self.allocations {
            index.allocated(*address, &allocation.pool);
            if allocation.holder.is_some() {
                index.moved(*address, None, allocation.holder);
            }
        }
        for pool in self.pools.values() {
            index.set_pool(pool, &self.allocations);
        }
        index.set_hosts(&self.nodes);
        index.names = self
            .nodes
            .values()
            .map(|node| (node.name.clone(), node.id))
            .collect();
        index
    }
}
