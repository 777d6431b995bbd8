//! The judge: sees true time and every kernel at once, and believes nobody's word.

use std::collections::BTreeSet;

use vipd_core::id::Epoch;
use vipd_core::node::Lease;

use super::{Host, World};
use crate::fault::{Fault, Place};
use crate::log::Entry;
use crate::scene::Scene;

/// What must never be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// Two nodes answer for the address.
    TwoAnswer,
    /// The address is answered under a lower token than before, or gets a lower one.
    TokenFell,
    /// A lease was withdrawn from a node that nothing had happened to.
    Needless,
    /// The nodes do not come to rest.
    Restless,
}

impl World {
    /// The token under which a node's kernel has the address open.
    pub(super) fn opened(&self, place: Place) -> Option<Epoch> {
        match &self.hosts[place] {
            Host::Runs(node) => node.kernel().open,
            Host::Dead(remains) => remains.kernel.open,
        }
    }

    /// The token under which a node answers at this moment.
    fn answers(&self, scene: &Scene, place: Place) -> Option<Epoch> {
        let kernel = match &self.hosts[place] {
            Host::Runs(node) => node.kernel(),
            Host::Dead(remains) => remains.kernel,
        };
        kernel
            .open
            .filter(|_| self.now(scene, place) < kernel.deadline)
    }

    /// How many answer.
    #[must_use]
    pub fn answering(&self, scene: &Scene) -> usize {
        (0..self.hosts.len())
            .filter(|place| self.answers(scene, *place).is_some())
            .count()
    }

    /// Whether another than the first holder answers.
    #[must_use]
    pub fn taken_over(&self, scene: &Scene) -> bool {
        (1..self.hosts.len()).any(|place| self.answers(scene, place).is_some())
    }

    pub(super) fn judge(&mut self, scene: &Scene) {
        let mut answering = (0..self.hosts.len()).filter_map(|place| self.answers(scene, place));
        let (Some(token), second) = (answering.next(), answering.next()) else {
            return;
        };
        if second.is_some() {
            self.broken = self.broken.or(Some(Broken::TwoAnswer));
        } else if token < self.highest {
            self.broken = self.broken.or(Some(Broken::TokenFell));
        }
        self.highest = self.highest.max(token);
    }

    /// An address's token in the log only grows.
    pub(super) fn token_grows(&mut self) {
        let token = self.log.allocation().map(|it| it.epoch);
        if token.is_some_and(|token| token < self.highest) {
            self.broken = self.broken.or(Some(Broken::TokenFell));
        }
    }

    /// A lease is about to be withdrawn: something must have happened to its node, or to the wires of so many
    /// others that no majority of three could hear and answer it. That others were stopped or restarted is no cause.
    pub(super) fn needless(&mut self, scene: &Scene, entry: Entry) {
        let Entry::Down { node, .. } = entry else {
            return;
        };
        let place = Self::place(scene, node);
        let others = self.unwired.iter().filter(|other| **other != place).count();
        if !self.touched.contains(&place) && others < 2 {
            self.broken = self.broken.or(Some(Broken::Needless));
        }
    }

    pub(super) fn restless(&mut self) {
        self.broken = self.broken.or(Some(Broken::Restless));
    }

    /// Whether the address must be answered by now: the calm has lasted to the end, and of every voter set that any
    /// running lease may count by a majority is well: awake, and on good terms with each other.
    #[must_use]
    pub fn must_answer(&self, scene: &Scene) -> bool {
        if self.tick < scene.end() || self.log.allocation().is_none_or(|it| it.freeing) {
            return false;
        }
        let well: BTreeSet<Place> = (0..self.hosts.len())
            .filter(|place| self.awake(*place))
            .collect();
        let friends = |a: Place| {
            let good = |b: &Place| {
                let stops = |f: &Fault| f.stops(a, *b) || f.stops(*b, a);
                a == *b || !self.faults.iter().any(stops)
            };
            well.iter().copied().filter(good).collect::<BTreeSet<_>>()
        };
        let state = self.log.state();
        let mut known = state
            .nodes()
            .values()
            .filter(|node| node.lease == Lease::Up)
            .flat_map(|node| state.voters_known_to(node));
        known.all(|sets| {
            // One whom a majority is on good terms with, all of them with each other.
            well.iter().any(|a| {
                let circle = friends(*a);
                let all_friends = circle.iter().all(|b| friends(*b).is_superset(&circle));
                all_friends && sets.majority(|voter| circle.contains(&Self::place(scene, voter)))
            })
        })
    }
}
