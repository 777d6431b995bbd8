//! `bench allocate`: how fast addresses are given out and taken back. In memory, through `State::apply` alone; and by a
//! cluster, beside etcd.

mod apply;
mod workload;

pub use apply::{Options as Apply, run as apply};
