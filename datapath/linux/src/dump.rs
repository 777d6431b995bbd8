//! The kernel's maps as people read them: what is in each, decoded. Pure.

use std::net::{IpAddr, SocketAddr};

use vipd_datapath_common::{
    AddressKey, Counter, Counters, Entry, MapKind,
    balance::{
        Affinity, AffinityKey, Answer, Backend, Balance, Direction, FlowKey, Half, Member, Reason,
        SLOTS, Service, ServiceKey, Table, Tally, TallyKey, backend_flags, balance_flags,
        flow_flags, service_flags,
    },
    flags,
};

use crate::{Frontend, Protocol};

/// A map of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSeen {
    /// Its name, which is that of its pin.
    pub name: &'static str,
    /// Its type, as bpftool calls it.
    pub kind: &'static str,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value, for each CPU where there is one for each.
    pub value_size: u32,
    /// The most elements, or bytes of a ring buffer.
    pub max_entries: u32,
}

/// An element of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its key, as people write it.
    pub key: String,
    /// What its value says, in the order of its bytes.
    pub value: Fields,
}

/// Names and what they are set to.
pub type Fields = Vec<(&'static str, String)>;

/// Some elements of a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elements {
    /// In no order.
    pub elements: Vec<Element>,
    /// There are more.
    pub more: bool,
}

/// As bpftool calls it.
pub(crate) fn kind(kind: MapKind) -> &'static str {
    match kind {
        MapKind::Hash => "hash",
        MapKind::Array => "array",
        MapKind::PerCpuHash => "percpu_hash",
        MapKind::PerCpuArray => "percpu_array",
        MapKind::LruHash => "lru_hash",
        MapKind::LpmTrie => "lpm_trie",
        MapKind::RingBuf => "ringbuf",
    }
}

/// A key, as people write it.
pub(crate) trait Key {
    fn text(&self) -> String;
}

/// A value, decoded.
pub(crate) trait Value {
    fn fields(&self) -> Fields;
}

impl Key for u32 {
    fn text(&self) -> String {
        self.to_string()
    }
}

impl Key for AddressKey {
    fn text(&self) -> String {
        IpAddr::from(*self).to_string()
    }
}

impl Key for ServiceKey {
    fn text(&self) -> String {
        match Frontend::of(self) {
            Some(frontend) => frontend.to_string(),
            None => format!("{} of protocol {}", self.address.text(), self.protocol),
        }
    }
}

impl Key for TallyKey {
    fn text(&self) -> String {
        format!("service {} backend {}", self.service, self.backend)
    }
}

impl Key for AffinityKey {
    fn text(&self) -> String {
        format!("service {} client {}", self.service, self.client.text())
    }
}

impl Key for Member {
    fn text(&self) -> String {
        format!("table {} backend {}", self.table, self.backend)
    }
}

impl Key for FlowKey {
    fn text(&self) -> String {
        let protocol = match Protocol::of(self.protocol) {
            Some(protocol) => protocol.to_string(),
            None => self.protocol.to_string(),
        };
        let (from, to) = (
            end(&self.source, self.source_port),
            end(&self.destination, self.destination_port),
        );
        format!("{protocol} {from} -> {to}")
    }
}

fn end(address: &AddressKey, port: [u8; 2]) -> String {
    SocketAddr::new((*address).into(), u16::from_be_bytes(port)).to_string()
}

impl Value for u64 {
    fn fields(&self) -> Fields {
        vec![("at_ns", self.to_string())]
    }
}

impl Value for u32 {
    fn fields(&self) -> Fields {
        vec![("value", self.to_string())]
    }
}

impl Value for Entry {
    fn fields(&self) -> Fields {
        let Self {
            whose: _,
            address: entry,
        } = self;
        let names = [
            (flags::OPEN, "open"),
            (flags::LOCAL, "local"),
            (flags::ADDED, "added"),
            (flags::ROUTER, "router"),
            (flags::HAND, "hand"),
            (flags::TAKE, "take"),
            (flags::BALANCED, "balanced"),
            (flags::BACKEND, "backend"),
            (flags::LEASED, "leased"),
        ];
        vec![
            ("epoch", entry.epoch.to_string()),
            ("until_ns", entry.until.to_string()),
            ("ifindex", entry.ifindex.to_string()),
            ("flags", named(entry.flags, &names)),
            ("mac", mac(entry.mac)),
            ("peer", mac(entry.peer)),
        ]
    }
}

impl Value for Counters {
    fn fields(&self) -> Fields {
        let counted =
            |counter: Counter| (counter.name(), self.counts[counter as usize].to_string());
        Counter::ALL.map(counted).into()
    }
}

impl Value for Balance {
    fn fields(&self) -> Fields {
        let names = [
            (balance_flags::LOCAL_BACKENDS, "local_backends"),
            (balance_flags::KEPT_CLIENTS, "kept_clients"),
        ];
        vec![
            ("flags", named(self.flags, &names)),
            ("new_flows", self.new_flows.to_string()),
        ]
    }
}

impl Value for Service {
    fn fields(&self) -> Fields {
        let names = [
            (service_flags::NAT, "nat"),
            (service_flags::DSR, "dsr"),
            (service_flags::BY_CLIENT, "by_client"),
            (service_flags::RANGES, "ranges"),
            (service_flags::IPIP, "ipip"),
            (service_flags::GUE, "gue"),
            (service_flags::ALL_PORTS, "all_ports"),
            (service_flags::KEEP, "keep"),
        ];
        vec![
            ("table", self.table.to_string()),
            ("flags", named(self.flags, &names)),
            ("id", self.id.to_string()),
            ("timeout_ms", self.timeout.to_string()),
        ]
    }
}

impl Value for Backend {
    fn fields(&self) -> Fields {
        let names = [(u32::from(backend_flags::LOCAL), "local")];
        let link = (self.flags & backend_flags::LINK) >> backend_flags::LINK.trailing_zeros();
        let flags = self.flags & !backend_flags::LINK;
        vec![
            ("address", self.address.text()),
            ("port", u16::from_be_bytes(self.port).to_string()),
            ("flags", named(flags.into(), &names)),
            ("link_bits", link.to_string()),
            ("ifindex", self.ifindex.to_string()),
            ("id", self.id.to_string()),
            ("source", self.source.text()),
            ("mtu", self.mtu.to_string()),
        ]
    }
}

impl Value for Answer {
    fn fields(&self) -> Fields {
        vec![
            ("vip", end(&self.vip, self.port)),
            ("backend", self.backend.to_string()),
        ]
    }
}

impl Value for Affinity {
    fn fields(&self) -> Fields {
        vec![
            ("backend", self.backend.to_string()),
            ("seen_ns", self.seen.to_string()),
        ]
    }
}

impl Value for Table {
    /// Backends by the slots that they have; all slots are `vipctl lb maglev`'s.
    fn fields(&self) -> Fields {
        let mut counts = std::collections::BTreeMap::<u32, usize>::new();
        for backend in &self.slots {
            *counts.entry(*backend).or_default() += 1;
        }
        let counts: Vec<_> = counts
            .iter()
            .map(|(backend, slots)| format!("{backend}:{slots}"))
            .collect();
        vec![
            ("slots", SLOTS.to_string()),
            ("slots_of_backends", counts.join(" ")),
        ]
    }
}

impl Value for Half {
    fn fields(&self) -> Fields {
        let flow = &self.flow;
        let names = [
            (flow_flags::REVERSE, "reverse"),
            (flow_flags::LOCAL, "local"),
            (flow_flags::DSR, "dsr"),
            (flow_flags::IPIP, "ipip"),
            (flow_flags::GUE, "gue"),
            (flow_flags::KEEP, "keep"),
            (flow_flags::STICKY, "sticky"),
            (flow_flags::LOOPBACK, "loopback"),
        ];
        let progress = flow.progress;
        let progress = [
            (progress.established, "established"),
            (progress.fin, "fin"),
            (progress.peer_fin, "peer_fin"),
            (progress.reset, "reset"),
        ];
        let progress = progress.into_iter().filter(|(set, _)| *set != 0);
        let progress: Vec<_> = progress.map(|(_, name)| name).collect();
        vec![
            ("source", end(&flow.source, flow.source_port)),
            ("destination", end(&flow.destination, flow.destination_port)),
            ("ifindex", flow.ifindex.to_string()),
            ("flags", named(flow.flags, &names)),
            ("progress", progress.join(",")),
            ("backend", flow.backend.to_string()),
            ("service", flow.service.to_string()),
            ("seen_ns", flow.seen.to_string()),
            ("packets", flow.packets.to_string()),
            ("bytes", flow.bytes.to_string()),
        ]
    }
}

impl Value for Tally {
    fn fields(&self) -> Fields {
        let (forward, reverse) = (Direction::Forward as usize, Direction::Reverse as usize);
        let mut fields = vec![
            ("packets_in", self.packets[forward].to_string()),
            ("packets_out", self.packets[reverse].to_string()),
            ("bytes_in", self.bytes[forward].to_string()),
            ("bytes_out", self.bytes[reverse].to_string()),
            ("flows", self.flows.to_string()),
        ];
        let drops = Reason::ALL.into_iter();
        fields.extend(drops.map(|reason| (reason.name(), self.dropped(reason).to_string())));
        fields
    }
}

/// The names of the bits that are set, and the rest as a number.
fn named(bits: u32, names: &[(u32, &str)]) -> String {
    let known = names.iter().fold(0, |known, (bit, _)| known | bit);
    let mut set: Vec<String> = names
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, name)| (*name).to_owned())
        .collect();
    if bits & !known != 0 {
        set.push(format!("{:#x}", bits & !known));
    }
    set.join(",")
}

fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use vipd_datapath_common::Address;

    #[test]
    fn keys_are_written_as_people_write_them() {
        let v4 = AddressKey::v4([10, 0, 0, 7]);
        let v6 = AddressKey::from("fd00::7".parse::<IpAddr>().unwrap());
        let flow = |source, destination| FlowKey {
            source,
            destination,
            source_port: 40_000u16.to_be_bytes(),
            destination_port: 80u16.to_be_bytes(),
            protocol: 6,
            reserved: [0; 3],
        };
        assert_eq!(v4.text(), "10.0.0.7");
        assert_eq!(flow(v4, v4).text(), "tcp 10.0.0.7:40000 -> 10.0.0.7:80");
        assert_eq!(flow(v6, v6).text(), "tcp [fd00::7]:40000 -> [fd00::7]:80");
        let all = ServiceKey {
            address: v6,
            port: [0, 0],
            protocol: 17,
            reserved: 0,
        };
        assert!(all.text().contains("fd00::7"), "{}", all.text());
    }

    #[test]
    fn flags_are_named_and_those_that_have_no_name_are_not_hidden() {
        let address = Address {
            epoch: 7,
            until: 0,
            ifindex: 2,
            flags: flags::OPEN | flags::BALANCED | 1 << 30,
            mac: [2, 0, 0, 0, 0, 1],
            peer: [0; 6],
            reserved: [0; 4],
        };
        let fields = Entry::new(&AddressKey::v4([10, 0, 0, 7]), address).fields();
        let of = |name: &str| {
            let found = fields.iter().find(|(its, _)| *its == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(of("flags"), Some("open,balanced,0x40000000"));
        assert_eq!(of("epoch"), Some("7"));
        assert_eq!(of("mac"), Some("02:00:00:00:00:01"));
    }
}
