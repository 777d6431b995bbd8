//! The same path in plain C (`datapath/baseline`), loaded beside the programs and fed like them.

use std::os::fd::{AsFd, BorrowedFd};

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, PerCpuHashMap, PerCpuValues};
use aya::programs::SchedClassifier;
use vipd_datapath_common::balance::{FlowKey, Half, Tally, TallyKey};
use vipd_datapath_common::{Address, AddressKey, Entry, flags, name, program};

use super::balance::{BACKEND, SERVICE, ip};
use super::{MAC_HOST, SECOND, boottime_ns};

/// The C program, with one address that is open.
pub struct Baseline {
    ebpf: Ebpf,
    pub flows: HashMap<MapData, FlowKey, Half>,
}

impl Baseline {
    /// The object that `cargo xtask bench datapath` has compiled.
    pub fn new(vip: &str) -> Self {
        let path = std::env::var_os("VIPD_BASELINE_OBJECT").expect(
            "VIPD_BASELINE_OBJECT names no object: `cargo xtask bench datapath` compiles it and sets it",
        );
        let mut ebpf = Ebpf::load(&std::fs::read(path).unwrap()).unwrap();
        let classifier: &mut SchedClassifier = ebpf
            .program_mut(program::INGRESS)
            .unwrap()
            .try_into()
            .unwrap();
        vipd_datapath::verified(|| classifier.load()).unwrap();

        let mut gate: Array<MapData, u64> = ebpf.take_map(name::GATE).unwrap().try_into().unwrap();
        gate.set(0, boottime_ns() + 600 * SECOND, 0).unwrap();
        let mut addresses: HashMap<MapData, AddressKey, Entry> =
            ebpf.take_map(name::ADDRESSES).unwrap().try_into().unwrap();
        let key = AddressKey::from(ip(vip));
        let address = Address {
            epoch: 1,
            until: 0,
            ifindex: nix::net::if_::if_nametoindex("lan").unwrap(),
            flags: flags::OPEN | flags::LOCAL | flags::BALANCED,
            mac: MAC_HOST,
            peer: [0; 6],
            reserved: [0; 4],
        };
        addresses.insert(key, Entry::new(&key, address), 0).unwrap();
        let mut tally: PerCpuHashMap<MapData, TallyKey, Tally> =
            ebpf.take_map(name::TALLY).unwrap().try_into().unwrap();
        let cpus = aya::util::nr_cpus().unwrap();
        let zero = PerCpuValues::try_from(vec![Tally::default(); cpus]).unwrap();
        let counted = TallyKey {
            service: SERVICE,
            backend: BACKEND,
        };
        tally.insert(counted, zero, 0).unwrap();
        let flows = ebpf.take_map(name::FLOWS).unwrap().try_into().unwrap();
        Self { ebpf, flows }
    }

    pub fn program(&self) -> BorrowedFd<'_> {
        let program: &SchedClassifier = self
            .ebpf
            .program(program::INGRESS)
            .unwrap()
            .try_into()
            .unwrap();
        program.fd().unwrap().as_fd()
    }
}
