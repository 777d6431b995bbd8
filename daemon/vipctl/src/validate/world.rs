//! What there would be: the objects of the cluster, with those of the files in their place.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::de::DeserializeOwned;
use vipd_api_types::{Condition, Labels, Node, Policy, PolicySpec, Pool, PoolSpec, Vip, VipSpec};
use vipd_client::{Client, Object};
use vipd_core::block::{Block, Family};

use super::Finding;
use crate::failure::Failure;
use crate::manifest::{Kind, Manifest};

/// Where an object of the cluster stands.
const CLUSTER: &str = "cluster";

/// One object.
#[derive(Debug)]
pub(super) struct Item<S> {
    pub(super) place: String,
    pub(super) labels: Labels,
    pub(super) spec: S,
    /// What the daemon says of it, and of a VIP's addresses; empty in a file.
    pub(super) conditions: Vec<Condition>,
    /// The pools that a VIP has addresses of.
    pub(super) given_by: Vec<String>,
}

/// All of them, by name.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) pools: BTreeMap<String, Item<PoolSpec>>,
    pub(super) policies: BTreeMap<String, Item<PolicySpec>>,
    pub(super) vips: BTreeMap<String, Item<VipSpec>>,
    /// None without a cluster.
    pub(super) nodes: Option<Vec<Node>>,
}

impl World {
    pub(super) async fn of_cluster(client: &Client) -> Result<Self, Failure> {
        async fn all<T: Object>(client: &Client) -> Result<Vec<T>, Failure> {
            Ok(client.list::<T>().await?.items)
        }
        let item = |labels, spec, conditions| Item {
            place: CLUSTER.to_owned(),
            labels,
            spec,
            conditions,
            given_by: Vec::new(),
        };
        let pools = all::<Pool>(client).await?.into_iter();
        let policies = all::<Policy>(client).await?.into_iter();
        let vips = all::<Vip>(client).await?.into_iter();
        Ok(Self {
            pools: pools
                .map(|pool| {
                    (
                        pool.name,
                        item(pool.labels, pool.spec, pool.status.conditions),
                    )
                })
                .collect(),
            policies: policies
                .map(|policy| {
                    (
                        policy.name,
                        Item {
                            place: CLUSTER.to_owned(),
                            labels: policy.labels,
                            spec: policy.spec,
                            conditions: Vec::new(),
                            given_by: Vec::new(),
                        },
                    )
                })
                .collect(),
            vips: vips.map(|vip| (vip.name.clone(), of_vip(vip))).collect(),
            nodes: Some(all::<Node>(client).await?),
        })
    }

    /// Puts an object of a file in its place, unless it can't be read.
    pub(super) fn put(&mut self, place: &str, manifest: &Manifest) -> Vec<Finding> {
        let finding = |what: String| Finding {
            place: place.to_owned(),
            object: manifest.title(),
            what,
            next: "the fields are in api/openapi.json, and in what -o yaml shows".to_owned(),
        };
        let mut unknown = Vec::new();
        let put = match manifest.kind {
            Kind::Pool => read(place, manifest, &mut unknown)
                .map(|item| drop(self.pools.insert(manifest.name.clone(), item))),
            Kind::Policy => read(place, manifest, &mut unknown)
                .map(|item| drop(self.policies.insert(manifest.name.clone(), item))),
            Kind::Vip => read(place, manifest, &mut unknown).map(|mut item| {
                // It keeps the addresses that it has.
                if let Some(former) = self.vips.remove(&manifest.name) {
                    item.given_by = former.given_by;
                }
                self.vips.insert(manifest.name.clone(), item);
            }),
        };
        let unreadable = put.err().map(|cause| format!("spec: {cause}"));
        let unknown = unknown
            .into_iter()
            .map(|field| format!("unknown field spec.{field}"));
        unknown.chain(unreadable).map(finding).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.pools.len() + self.policies.len() + self.vips.len()
    }

    /// Whether what is there is what a file says.
    pub(super) fn is_from_files(&self, place: &str) -> bool {
        place != CLUSTER
    }
}

/// A VIP of the cluster.
fn of_vip(vip: Vip) -> Item<VipSpec> {
    let mut conditions = vip.status.conditions;
    let mut given_by = Vec::new();
    for address in vip.status.addresses {
        conditions.extend(address.conditions);
        given_by.push(address.pool);
    }
    Item {
        place: CLUSTER.to_owned(),
        labels: vip.labels,
        spec: vip.spec,
        conditions,
        given_by,
    }
}

/// Reads a spec, noting the fields that it does not have.
fn read<S: DeserializeOwned>(
    place: &str,
    manifest: &Manifest,
    unknown: &mut Vec<String>,
) -> Result<Item<S>, serde_json::Error> {
    let spec = serde_ignored::deserialize(&manifest.spec, |path| unknown.push(path.to_string()))?;
    Ok(Item {
        place: place.to_owned(),
        labels: manifest.labels.clone(),
        spec,
        conditions: Vec::new(),
        given_by: Vec::new(),
    })
}

impl Item<PoolSpec> {
    /// Its blocks as far as they can be read, and what is wrong with the others.
    pub(super) fn blocks(&self) -> (Vec<Block>, Vec<String>) {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for block in &self.spec.blocks {
            match Block::parse(&block.to_short()) {
                Ok(block) => good.push(block),
                Err(why) => bad.push(why.to_string()),
            }
        }
        (good, bad)
    }

    /// How many addresses of a family it can hand out at most.
    pub(super) fn total(&self, family: Family) -> u128 {
        let blocks = self.blocks().0.into_iter();
        let blocks = blocks.filter(|block| block.family() == family);
        blocks.fold(0, |sum: u128, block| {
            let (first, last) = block.usable(self.spec.allow_first_last);
            sum.saturating_add(last - first).saturating_add(1)
        })
    }

    /// Whether it may hand out this address.
    pub(super) fn offers(&self, address: IpAddr) -> bool {
        self.blocks().0.iter().any(|block| {
            let (first, last) = block.usable(self.spec.allow_first_last);
            block.contains(address) && (first..=last).contains(&vipd_core::block::number(address))
        })
    }
}
