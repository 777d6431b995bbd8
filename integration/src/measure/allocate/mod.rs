//! `bench allocate`: how fast addresses are given out and taken back. In memory, through `State::apply` alone; and by a
//! cluster, beside etcd.

mod apply;
mod cluster;
mod contender;
mod http;
mod load;
mod synced;
mod workload;

pub use apply::{Options as Apply, run as apply};
pub use cluster::{Options as AllocateCluster, run as allocate_cluster};
