//! Services, backends and flows around the programs on the bench.

use std::net::{IpAddr, SocketAddr};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, PerCpuHashMap, PerCpuValues, RingBuf};
use vipd_datapath_common::balance::{
    Affinity, AffinityKey, Answer, Backend, Balance, Flow, FlowKey, FlowRecord, Half, Member,
    Range, Reason, SLOTS, Service, ServiceKey, Table, Tally, TallyKey, backend_flags,
    balance_flags, service_flags,
};
use vipd_datapath_common::{AddressKey, flags, name};

use super::bench::{Bench, Direction, Verdict};
use super::segment::{Segment, Transport};

/// The number of the only service, of its table, and of the first backend.
pub const SERVICE: u32 = 70;
pub const TABLE: u32 = 7;
pub const BACKEND: u32 = 100;
/// The interface through which backends are reached.
pub const TO_BACKENDS: u32 = 77;

/// How often a piece comes round that waits for the first one.
pub const ROUNDS: u32 = 128;

/// How a service forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    Nat,
    /// nat to a backend on this host.
    Local,
    /// nat that keeps clients' addresses.
    Keep,
    Dsr,
}

impl Forward {
    /// What the node says of flows of this kind: bits of [`balance_flags`].
    pub fn of_node(self) -> u32 {
        match self {
            Self::Nat | Self::Dsr => 0,
            Self::Local => balance_flags::LOCAL_BACKENDS,
            Self::Keep => balance_flags::KEPT_CLIENTS,
        }
    }

    /// Whether packets of the client and answers are rewritten on their way between two other hosts.
    pub fn is_hop(self) -> bool {
        matches!(self, Self::Nat | Self::Keep)
    }
}

/// A bench with the maps of balancing.
pub struct Balanced {
    pub bench: Bench,
    pub services: HashMap<MapData, ServiceKey, Service>,
    pub tables: HashMap<MapData, u32, Table>,
    pub backends: HashMap<MapData, u32, Backend>,
    pub ranges: LpmTrie<MapData, Range, u32>,
    answers: HashMap<MapData, ServiceKey, Answer>,
    pub flows: HashMap<MapData, FlowKey, Half>,
    pub affinity: HashMap<MapData, AffinityKey, Affinity>,
    pub members: HashMap<MapData, Member, u32>,
    pub balance: Array<MapData, Balance>,
    tally: PerCpuHashMap<MapData, TallyKey, Tally>,
    new_flows: RingBuf<MapData>,
}

impl Balanced {
    pub fn new() -> Self {
        Self::on(Bench::new())
    }

    /// With the maps of this bench.
    fn on(mut bench: Bench) -> Self {
        let mut balanced = Self {
            services: bench.take(name::SERVICES),
            tables: bench.take(name::TABLES),
            backends: bench.take(name::BACKENDS),
            ranges: bench.take(name::RANGES),
            answers: bench.take(name::ANSWERS),
            flows: bench.take(name::FLOWS),
            affinity: bench.take(name::AFFINITY),
            members: bench.take(name::MEMBERS),
            balance: bench.take(name::BALANCE),
            tally: bench.take(name::TALLY),
            new_flows: bench.take(name::NEW_FLOWS),
            bench,
        };
        balanced.tally_for(0, 0);
        balanced
    }

    /// One service at `vip`, open here, with one backend. A port of 0 means all, or the client's.
    pub fn serve(&mut self, vip: SocketAddr, protocol: u8, how: Forward, backend: SocketAddr) {
        self.serve_also(vip, protocol, how, backend, 0);
    }

    /// Another one, whose table and backend have numbers that are `more`.
    pub fn serve_also(
        &mut self,
        vip: SocketAddr,
        protocol: u8,
        how: Forward,
        backend: SocketAddr,
        more: u32,
    ) {
        let address = vip.ip().to_string();
        self.bench
            .manage(&address, flags::OPEN | flags::LOCAL | flags::BALANCED);
        let number = BACKEND + more;
        self.tables
            .insert(TABLE + more, table(|_| number), 0)
            .unwrap();
        self.add_backend(number, backend, how == Forward::Local);
        self.add_service(vip, protocol, how, TABLE + more);
        if how == Forward::Keep {
            self.node(how.of_node(), 0);
            self.answers(backend, protocol, Some((vip, number)));
        }
    }

    /// For which service the end of a backend answers; `None`: nobody can tell.
    pub fn answers(&mut self, end: SocketAddr, protocol: u8, whose: Option<(SocketAddr, u32)>) {
        let key = ServiceKey {
            address: end.ip().into(),
            port: end.port().to_be_bytes(),
            protocol,
            reserved: 0,
        };
        let nobody = AddressKey { octets: [0; 16] };
        let answer = Answer {
            vip: whose.map_or(nobody, |(vip, _)| vip.ip().into()),
            port: whose.map_or(0, |(vip, _)| vip.port()).to_be_bytes(),
            reserved: [0; 2],
            backend: whose.map_or(0, |(_, number)| number),
        };
        self.answers.insert(key, answer, 0).unwrap();
    }

    fn add_service(&mut self, vip: SocketAddr, protocol: u8, how: Forward, table: u32) {
        let key = ServiceKey {
            address: vip.ip().into(),
            port: vip.port().to_be_bytes(),
            protocol,
            reserved: 0,
        };
        let service = Service {
            table,
            flags: match how {
                Forward::Nat | Forward::Local => service_flags::NAT,
                Forward::Keep => service_flags::NAT | service_flags::KEEP,
                Forward::Dsr => service_flags::DSR,
            },
            id: SERVICE,
            timeout: 0,
        };
        self.services.insert(key, service, 0).unwrap();
        self.tally_for(SERVICE, 0);
    }

    /// Sets these bits, too, for the only service.
    pub fn flag(&mut self, bits: u32) {
        let key = self.services.keys().next().unwrap().unwrap();
        let mut service = self.services.get(&key, 0).unwrap();
        service.flags |= bits;
        self.services.insert(key, service, 0).unwrap();
    }

    /// Lets clients of a range use the service.
    pub fn allow(&mut self, service: u32, address: &str, length: u32) {
        let address = ip(address);
        let front = match address {
            IpAddr::V4(_) => Range::IN_FRONT_OF_V4,
            IpAddr::V6(_) => Range::IN_FRONT_OF_V6,
        };
        let address = address.into();
        let key = Key::new(front + length, Range { service, address });
        self.ranges.insert(&key, 1, 0).unwrap();
    }

    pub fn add_backend(&mut self, number: u32, at: SocketAddr, local: bool) {
        let backend = Backend {
            address: at.ip().into(),
            source: AddressKey { octets: [0; 16] },
            port: at.port().to_be_bytes(),
            flags: if local { backend_flags::LOCAL } else { 0 },
            ifindex: TO_BACKENDS,
            id: number,
            mtu: 0,
        };
        self.backends.insert(number, backend, 0).unwrap();
        if local {
            self.node(balance_flags::LOCAL_BACKENDS, 0);
        }
        self.tally_for(SERVICE, number);
    }

    pub fn node(&mut self, flags: u32, new_flows: u32) {
        self.balance
            .set(0, Balance { flags, new_flows }, 0)
            .unwrap();
    }

    fn tally_for(&mut self, service: u32, backend: u32) {
        let cpus = aya::util::nr_cpus().unwrap();
        let zero = PerCpuValues::try_from(vec![Tally::default(); cpus]).unwrap();
        self.tally
            .insert(TallyKey { service, backend }, zero, 0)
            .unwrap();
    }

    pub fn tally(&self, service: u32, backend: u32) -> Tally {
        let values = self.tally.get(&TallyKey { service, backend }, 0).unwrap();
        values.iter().fold(Tally::default(), |mut sum, cpu| {
            sum.add(cpu);
            sum
        })
    }

    /// How many packets were dropped for a reason, under whatever service and backend.
    pub fn dropped(&self, reason: Reason) -> u64 {
        let keys: Vec<TallyKey> = self.tally.keys().map(Result::unwrap).collect();
        let count = |key: &TallyKey| self.tally(key.service, key.backend).dropped(reason);
        keys.iter().map(count).sum()
    }

    /// The half of a flow that a packet belongs to.
    pub fn flow(&self, segment: &Segment) -> Option<Flow> {
        self.flows.get(&key(segment), 0).ok().map(|half| half.flow)
    }

    pub fn count_flows(&self) -> usize {
        self.flows.keys().count()
    }

    pub fn records(&mut self) -> Vec<FlowRecord> {
        let mut records = Vec::new();
        while let Some(item) = self.new_flows.next() {
            records.push(FlowRecord::from_bytes(&item).unwrap());
        }
        records
    }

    pub fn ingress(&self, segment: &Segment) -> (Verdict, Vec<u8>) {
        self.bench.run(Direction::Ingress, &segment.frame())
    }

    /// A packet that comes round as often as its verdict says so.
    pub fn in_the_end(&self, segment: &Segment) -> (Verdict, Vec<u8>) {
        let rounds = 1 + ROUNDS;
        let ended = self
            .bench
            .times(Direction::Ingress, &segment.frame(), rounds);
        ended.unwrap()
    }

    pub fn egress(&self, segment: &Segment) -> (Verdict, Vec<u8>) {
        self.bench.run(Direction::Egress, &segment.frame())
    }
}

/// A table whose slots are filled by a function.
pub fn table(backend: impl Fn(usize) -> u32) -> Table {
    Table {
        slots: std::array::from_fn::<u32, SLOTS, _>(backend),
    }
}

pub fn key(segment: &Segment) -> FlowKey {
    FlowKey {
        source: segment.source.ip().into(),
        destination: segment.destination.ip().into(),
        source_port: segment.source.port().to_be_bytes(),
        destination_port: segment.destination.port().to_be_bytes(),
        protocol: segment.transport.number(),
        reserved: [0; 3],
    }
}

pub fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// Where a flow sends its packets.
pub fn target(flow: &Flow) -> SocketAddr {
    let port = u16::from_be_bytes(flow.destination_port);
    SocketAddr::new(AddressKey::into(flow.destination), port)
}

/// Every so-manieth case, where `VIPD_CASES_STEP` says so: each loads programs, and that takes seconds where the machine is emulated.
pub fn sample<T>(cases: Vec<T>) -> Vec<T> {
    let step = std::env::var("VIPD_CASES_STEP");
    let step = step.map_or(1, |text| text.parse().expect("VIPD_CASES_STEP"));
    cases.into_iter().step_by(step).collect()
}

/// One row of the matrix: a service, a client of it, and what the client's packets become.
#[derive(Clone, Debug)]
pub struct Case {
    pub how: Forward,
    pub transport: Transport,
    pub client: SocketAddr,
    pub vip: SocketAddr,
    pub backend: SocketAddr,
}

impl Case {
    /// All families, protocols and modes.
    pub fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for how in [Forward::Nat, Forward::Local, Forward::Keep, Forward::Dsr] {
            for number in [6, 17] {
                for (client, vip, backend) in [
                    ("192.0.2.9", super::VIP4, "10.9.0.21"),
                    ("2001:db8::9", super::VIP6, "fd09::21"),
                ] {
                    let port = if how == Forward::Dsr { 80 } else { 8080 };
                    cases.push(Self {
                        how,
                        transport: if number == 6 {
                            Transport::Tcp(super::segment::SYN)
                        } else {
                            Transport::Udp
                        },
                        client: at(client, 40_000),
                        vip: at(vip, 80),
                        backend: at(backend, port),
                    });
                }
            }
        }
        sample(cases)
    }

    /// A bench with this service alone.
    pub fn bench(&self) -> Balanced {
        self.served(Balanced::new())
    }

    /// The same with room for so many halves of flows.
    pub fn bench_with_flows(&self, flows: u32) -> Balanced {
        self.served(Balanced::on(Bench::with_flows(flows)))
    }

    fn served(&self, mut balanced: Balanced) -> Balanced {
        let mut backend = self.backend;
        if self.how == Forward::Dsr {
            backend.set_port(0);
        }
        balanced.serve(self.vip, self.transport.number(), self.how, backend);
        balanced
    }

    pub fn is_tcp(&self) -> bool {
        matches!(self.transport, Transport::Tcp(_))
    }

    /// A packet of the client, with these flags where it is TCP.
    pub fn asks(&self, flags: u8) -> Segment {
        Segment::new(self.client, self.vip, self.with(flags))
    }

    /// What that becomes.
    pub fn asked(&self, segment: &Segment) -> Segment {
        match self.how {
            Forward::Nat => segment.became(self.translated(), self.backend, 1),
            Forward::Local => segment.became(self.client, self.backend, 0),
            Forward::Keep => segment.became(self.client, self.backend, 1),
            Forward::Dsr => segment.clone(),
        }
    }

    /// The verdict for that.
    pub fn goes(&self) -> Verdict {
        match self.how {
            Forward::Nat | Forward::Keep | Forward::Dsr => Verdict::Answer,
            Forward::Local => Verdict::Pass,
        }
    }

    /// A packet of the backend in answer, as it reaches the programs.
    pub fn answers(&self, flags: u8) -> Segment {
        let to = match self.how {
            Forward::Nat => self.translated(),
            Forward::Local | Forward::Keep | Forward::Dsr => self.client,
        };
        Segment::new(self.backend, to, self.with(flags))
    }

    /// What that becomes.
    pub fn answered(&self, segment: &Segment) -> Segment {
        segment.became(self.vip, self.client, u8::from(self.how.is_hop()))
    }

    /// Answers of a backend elsewhere come in, those of one on this host go out.
    pub fn way_back(&self) -> Direction {
        match self.how {
            Forward::Nat | Forward::Keep | Forward::Dsr => Direction::Ingress,
            Forward::Local => Direction::Egress,
        }
    }

    fn translated(&self) -> SocketAddr {
        SocketAddr::new(self.vip.ip(), self.client.port())
    }

    fn with(&self, flags: u8) -> Transport {
        match self.transport {
            Transport::Tcp(_) => Transport::Tcp(flags),
            other => other,
        }
    }
}

/// The same addresses without the VIP: `IpAddr` of a text.
pub fn ip(address: &str) -> IpAddr {
    address.parse().unwrap()
}
