//! A cluster that was just set up is as good as an old one, once its voters may promise.
//!
//! Its first node has counted by itself alone. Who takes over from it must know that it does so no longer, and it tells as
//! soon as nothing in its kernel stems from then.
#![allow(clippy::unwrap_used)]

use vipd_integration::cluster::{Binaries, Cluster};
use vipd_integration::lab::Lab;

#[test]
fn the_first_node_of_a_young_cluster_is_replaced_when_it_dies() {
    let lab = Lab::new(&["n1", "n2", "n3"]).unwrap();
    let cluster = Cluster::start(lab, Binaries::built().unwrap(), 3).unwrap();
    let addresses = cluster.dual_stack_vip("www").unwrap();
    let holder = cluster
        .wait_for_holder(&addresses, "a holder", |_| true)
        .unwrap();
    holder.power_off().unwrap();
    let from = std::time::Instant::now();
    cluster
        .wait_for_holder(&addresses, "another host holds", |name| {
            name != holder.name()
        })
        .unwrap();
    eprintln!("{} replaced after {:?}", holder.name(), from.elapsed());
}
