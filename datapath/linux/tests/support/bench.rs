//! One frame in, verdict, bytes and map changes out: the programs under BPF_PROG_TEST_RUN.

use std::{
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuHashMap, PerCpuValues, RingBuf},
    programs::{ProgramError, SchedClassifier, TestRun, TestRunOptions, Xdp},
};
use vipd_datapath::verified;
use vipd_datapath_common::{
    Address, AddressKey, Conflict, Counter, Counters, Entry, max_entries, name, program,
};

use super::{MAC_HOST, SECOND, boottime_ns};

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Drop,
    /// Sent back, or sent on.
    Answer,
}

#[derive(Clone, Copy, Debug)]
pub enum Direction {
    /// From the wire.
    Ingress,
    /// To the wire, made on this host.
    Egress,
    /// To the wire, forwarded from another interface.
    Forward,
}

pub struct Bench {
    ebpf: Ebpf,
    addresses: HashMap<MapData, AddressKey, Entry>,
    counters: PerCpuHashMap<MapData, AddressKey, Counters>,
    gate: Array<MapData, u64>,
    conflicts: RingBuf<MapData>,
    pub ifindex: u32,
}

pub fn object() -> Vec<u8> {
    let checked_in = concat!(env!("CARGO_MANIFEST_DIR"), "/../ebpf/vipd.bpf.o");
    let path = std::env::var_os("VIPD_EBPF_OBJECT").unwrap_or_else(|| checked_in.into());
    std::fs::read(path).unwrap()
}

impl Bench {
    /// The programs on the interface `lan` of this namespace, with a valid lease and no address.
    pub fn new() -> Self {
        Self::with_flows(max_entries::FLOWS as u32)
    }

    /// The same with room for so many halves of flows.
    pub fn with_flows(flows: u32) -> Self {
        let mut loader = EbpfLoader::new();
        loader.map_max_entries(name::FLOWS, flows);
        let mut ebpf = loader.load(&object()).unwrap();
        for name in [program::INGRESS, program::EGRESS] {
            let program: &mut SchedClassifier = ebpf.program_mut(name).unwrap().try_into().unwrap();
            verified(|| program.load()).unwrap();
        }
        let short: &mut Xdp = ebpf.program_mut(program::XDP).unwrap().try_into().unwrap();
        verified(|| short.load()).unwrap();
        let mut take = |name| ebpf.take_map(name).unwrap();
        let mut bench = Self {
            addresses: take(name::ADDRESSES).try_into().unwrap(),
            counters: take(name::COUNTERS).try_into().unwrap(),
            gate: take(name::GATE).try_into().unwrap(),
            conflicts: take(name::CONFLICTS).try_into().unwrap(),
            ifindex: nix::net::if_::if_nametoindex("lan").unwrap(),
            ebpf,
        };
        bench.deadline(boottime_ns() + 600 * SECOND);
        bench
    }

    /// The program of a direction, or the one in front, to be run by other means.
    pub fn program(&self, name: &str) -> BorrowedFd<'_> {
        if name == program::XDP {
            let short: &Xdp = self.ebpf.program(name).unwrap().try_into().unwrap();
            return short.fd().unwrap().as_fd();
        }
        let program: &SchedClassifier = self.ebpf.program(name).unwrap().try_into().unwrap();
        program.fd().unwrap().as_fd()
    }

    /// A map of the programs that this bench does not use itself.
    pub fn take<M: TryFrom<Map, Error = MapError>>(&mut self, name: &str) -> M {
        self.ebpf.take_map(name).unwrap().try_into().unwrap()
    }

    pub fn deadline(&mut self, ns: u64) {
        self.gate.set(0, ns, 0).unwrap();
    }

    /// Manages an address with these flags, on `lan`.
    pub fn manage(&mut self, address: &str, flags: u32) {
        self.manage_on(address, flags, self.ifindex);
    }

    pub fn manage_on(&mut self, address: &str, flags: u32, ifindex: u32) {
        self.insert(address, flags, ifindex, [0; 6], 0);
    }

    /// Manages an address that moves from or to `peer`, on `lan`.
    pub fn manage_with(&mut self, address: &str, flags: u32, peer: [u8; 6], until: u64) {
        self.insert(address, flags, self.ifindex, peer, until);
    }

    /// Manages an address no more.
    pub fn leave(&mut self, address: &str) {
        let key = AddressKey::from(address.parse::<IpAddr>().unwrap());
        self.addresses.remove(&key).unwrap();
    }

    fn insert(&mut self, address: &str, flags: u32, ifindex: u32, peer: [u8; 6], until: u64) {
        let key = AddressKey::from(address.parse::<IpAddr>().unwrap());
        let entry = Address {
            epoch: 1,
            until,
            ifindex,
            flags,
            mac: MAC_HOST,
            peer,
            reserved: [0; 4],
        };
        let entry = Entry::new(&key, entry);
        self.addresses.insert(key, entry, 0).unwrap();
        let cpus = aya::util::nr_cpus().unwrap();
        let zero = PerCpuValues::try_from(vec![Counters::default(); cpus]).unwrap();
        self.counters.insert(key, zero, 0).unwrap();
    }

    /// Has the entry of an address say that it is that of another one: as a program finds it whose place the kernel has
    /// given away meanwhile.
    pub fn misplace(&mut self, address: &str, of: &str) {
        let [key, other] =
            [address, of].map(|text| AddressKey::from(text.parse::<IpAddr>().unwrap()));
        let entry = self.addresses.get(&key, 0).unwrap();
        let entry = Entry::new(&other, entry.address);
        self.addresses.insert(key, entry, 0).unwrap();
    }

    /// Runs a frame through the program of a direction.
    pub fn run(&self, direction: Direction, frame: &[u8]) -> (Verdict, Vec<u8>) {
        self.attempt(direction, frame).unwrap()
    }

    /// The same; an error for a frame that the kernel's harness refuses, as no card would deliver it.
    pub fn attempt(
        &self,
        direction: Direction,
        frame: &[u8],
    ) -> Result<(Verdict, Vec<u8>), ProgramError> {
        self.times(direction, frame, 1)
    }

    /// The same packet so many times, each time as the program left it: what became of it the last time.
    pub fn times(
        &self,
        direction: Direction,
        frame: &[u8],
        repeat: u32,
    ) -> Result<(Verdict, Vec<u8>), ProgramError> {
        let (name, from) = match direction {
            Direction::Ingress => (program::INGRESS, self.ifindex),
            Direction::Egress => (program::EGRESS, 0),
            Direction::Forward => (program::EGRESS, 1),
        };
        // struct __sk_buff of linux/bpf.h: ingress_ifindex and ifindex.
        let mut context = [0; 192];
        context[36..40].copy_from_slice(&from.to_ne_bytes());
        context[40..44].copy_from_slice(&self.ifindex.to_ne_bytes());
        let mut out = [0xaa; 2048];
        let program: &SchedClassifier = self.ebpf.program(name).unwrap().try_into().unwrap();
        let result = program.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            repeat,
            ..TestRunOptions::default()
        })?;
        let verdict = match result.return_value as i32 {
            -1 => Verdict::Pass,
            2 => Verdict::Drop,
            7 => Verdict::Answer,
            other => panic!("return code {other}"),
        };
        Ok((verdict, out[..result.data_size_out as usize].to_vec()))
    }

    /// Runs a frame through the program in front of ingress, as if a network card had received it.
    pub fn short(&self, frame: &[u8]) -> Result<(Verdict, Vec<u8>), ProgramError> {
        // struct xdp_md of linux/bpf.h: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let mut context = [0; 24];
        context[4..8].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
        context[12..16].copy_from_slice(&self.ifindex.to_ne_bytes());
        let mut out = [0xaa; 2048];
        let program: &Xdp = self.ebpf.program(program::XDP).unwrap().try_into().unwrap();
        let result = program.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        })?;
        let verdict = match result.return_value {
            2 => Verdict::Pass,
            3 => Verdict::Answer,
            other => panic!("return code {other}"),
        };
        Ok((verdict, out[..result.data_size_out as usize].to_vec()))
    }

    pub fn ingress(&self, frame: &[u8]) -> (Verdict, Vec<u8>) {
        self.run(Direction::Ingress, frame)
    }

    /// The verdict alone; a frame that is not answered must not have been changed.
    pub fn verdict(&self, direction: Direction, frame: &[u8]) -> Verdict {
        let (verdict, out) = self.run(direction, frame);
        assert!(
            verdict == Verdict::Answer || out == frame,
            "changed: {out:x?}"
        );
        verdict
    }

    pub fn count(&self, address: &str, counter: Counter) -> u64 {
        let key = AddressKey::from(address.parse::<IpAddr>().unwrap());
        let values = self.counters.get(&key, 0).unwrap();
        values.iter().map(|cpu| cpu.get(counter)).sum()
    }

    pub fn conflicts(&mut self) -> Vec<Conflict> {
        let mut events = Vec::new();
        while let Some(item) = self.conflicts.next() {
            events.push(Conflict::from_bytes(&item).unwrap());
        }
        events
    }
}
