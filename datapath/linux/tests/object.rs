//! The object against the shapes in `vipd-datapath-common`.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use support::bench::object;
use vipd_datapath_common::{MAPS, program};

#[test]
fn every_map_of_the_object_has_the_shape_that_both_sides_agreed_on() {
    support::need_root();
    let ebpf = aya::Ebpf::load(&object()).unwrap();
    for spec in MAPS {
        let map = ebpf.map(spec.name).expect(spec.name);
        // Through a pin, which is how the daemon meets them.
        let pin = format!("/sys/fs/bpf/vipdt{}_{}", std::process::id(), spec.pin);
        map.pin(&pin).unwrap();
        let info = aya::maps::MapInfo::from_pin(&pin);
        std::fs::remove_file(&pin).unwrap();
        let info = info.unwrap();
        assert_eq!(
            info.map_type().unwrap() as u32,
            spec.kind as u32,
            "{spec:?}"
        );
        assert_eq!(info.key_size(), spec.key_size, "{spec:?}");
        assert_eq!(info.value_size(), spec.value_size, "{spec:?}");
        assert_eq!(info.max_entries(), spec.max_entries, "{spec:?}");
        assert_eq!(info.map_flags(), spec.flags, "{spec:?}");
    }
    let known = |name: &str| MAPS.iter().any(|spec| spec.name == name) || name.starts_with('.');
    assert!(
        ebpf.maps().all(|(name, _)| known(name)),
        "a map nobody agreed on"
    );
    let mut programs: Vec<&str> = ebpf.programs().map(|(name, _)| name).collect();
    programs.sort_unstable();
    let mut expected = program::SOCKETS.map(|(name, _)| name).to_vec();
    expected.extend([program::EGRESS, program::INGRESS, program::XDP]);
    expected.sort_unstable();
    assert_eq!(programs, expected);
}
