//! The judge is worth something: with the fence broken on purpose, it says so.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use vipd_datapath_common::{MAPS, SCHEMA, name};
use vipd_integration::Bench;

/// Opens the kernel's gate of a node for ever, as a datapath without a deadline would be.
fn break_the_fence(pins: &Path) {
    let gate = MAPS.iter().find(|map| map.name == name::GATE).unwrap();
    let pinned = MapData::from_pin(pins.join(format!("v{SCHEMA}")).join(gate.pin)).unwrap();
    let mut gate = Array::<_, u64>::try_from(Map::Array(pinned)).unwrap();
    gate.set(0, u64::MAX, 0).unwrap();
}

#[test]
fn a_frozen_holder_without_a_fence_answers_on_and_is_caught() {
    let bench = Bench::start().unwrap();
    let holder = bench.wait_for_one_holder("a holder", |_| true).unwrap();
    bench.ensure_never_two().unwrap();

    bench.cluster().node(holder.name()).freeze().unwrap();
    break_the_fence(holder.pins());
    let addresses = bench.addresses();
    bench
        .cluster()
        .wait_for_holder(addresses, "another holder", |name| name != holder.name())
        .unwrap();
    sleep(Duration::from_secs(1));

    let complaint = bench.ensure_never_two().unwrap_err().to_string();
    eprintln!("as it should, the judge says: {complaint}");
    for &address in addresses {
        let verdict = bench.verdict(address).unwrap();
        assert!(
            verdict.overlap > Duration::from_millis(500),
            "{address}: {:?}",
            verdict.overlap
        );
        assert!(
            verdict
                .strays
                .iter()
                .any(|stray| stray.mac == holder.mac() && stray.how.is_reply())
        );
    }
}
