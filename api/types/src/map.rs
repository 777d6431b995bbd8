//! The kernel's maps of a node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The maps that the answering node's daemon shares with its programs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MapList {
    /// Name of the answering node.
    pub node: String,
    /// All of them.
    pub items: Vec<MapInfo>,
}

/// A map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MapInfo {
    /// Its name, as it is pinned.
    pub name: String,
    /// Its type: `hash`, `percpu_hash`, `array`, `percpu_array`, `lru_hash`, `lpm_trie`, `ringbuf`.
    pub kind: String,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// The most elements; of a ring buffer its bytes.
    pub max_entries: u32,
}

/// Elements of a map.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MapDump {
    /// Name of the answering node.
    pub node: String,
    /// The map.
    pub map: String,
    /// In no order.
    pub items: Vec<MapElement>,
    /// Whether there are more that are not shown.
    pub more: bool,
}

/// An element.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MapElement {
    /// Its key, as people write it.
    pub key: String,
    /// Its value, decoded; summed over the CPUs where each has its own.
    pub value: BTreeMap<String, String>,
}
