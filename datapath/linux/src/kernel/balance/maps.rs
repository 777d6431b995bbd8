//! The maps of balancing, typed, in the words of the daemon.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex},
};

use aya::{
    Ebpf,
    maps::{
        Array, HashMap, IterableMap as _, Map, MapData, MapError, PerCpuHashMap, PerCpuValues,
        lpm_trie::{Key, LpmTrie},
    },
    util::nr_cpus,
};
use vipd_datapath_common::{
    balance::{
        Answer, Backend, Balance, Member, Range, SLOTS, Service, ServiceKey, Table, Tally, TallyKey,
    },
    name,
};

use super::{
    affinity::Clients,
    flows::{Door, again},
    lens::{Aside, KernelLens},
    news::News,
    records::SharedNumbers,
};
use crate::{
    Bounds, DatapathError, Frontend, LeftOut,
    balance::{self, Actual, Prefix, Spot, Step},
    kernel::{
        batch::read,
        maps::{missing_is_fine, take, with_patience},
    },
};

pub(super) struct Maps {
    balance: Array<MapData, Balance>,
    services: HashMap<MapData, ServiceKey, Service>,
    tables: HashMap<MapData, u32, Table>,
    backends: HashMap<MapData, u32, Backend>,
    tally: PerCpuHashMap<MapData, TallyKey, Tally>,
    ranges: LpmTrie<MapData, Range, u32>,
    answers: HashMap<MapData, ServiceKey, Answer>,
    members: HashMap<MapData, Member, u32>,
    cpus: usize,
}

pub(super) fn failed(
    map: &'static str,
    doing: impl Into<String>,
) -> impl FnOnce(MapError) -> DatapathError {
    let doing = doing.into();
    move |source| DatapathError::Map { doing, map, source }
}

/// Takes a map out of the object as what it is.
pub(super) fn typed<M: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<M, DatapathError> {
    take(ebpf, name)?.try_into().map_err(failed(name, "use it"))
}

impl Maps {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        Ok(Self {
            balance: typed(ebpf, name::BALANCE)?,
            services: typed(ebpf, name::SERVICES)?,
            tables: typed(ebpf, name::TABLES)?,
            backends: typed(ebpf, name::BACKENDS)?,
            tally: typed(ebpf, name::TALLY)?,
            ranges: typed(ebpf, name::RANGES)?,
            answers: typed(ebpf, name::ANSWERS)?,
            members: typed(ebpf, name::MEMBERS)?,
            cpus: nr_cpus()
                .map_err(|(path, source)| DatapathError::system(format!("read {path}"), source))?,
        })
    }

    pub(super) fn cpus(&self) -> usize {
        self.cpus
    }

    /// What holds for the node as a whole, as it is.
    pub(super) fn balance(&self) -> Result<Balance, DatapathError> {
        self.balance
            .get(&0, 0)
            .map_err(failed(name::BALANCE, "read"))
    }

    /// What holds for the node as a whole.
    pub(super) fn set_balance(&mut self, balance: Balance) -> Result<(), DatapathError> {
        self.balance
            .set(0, balance, 0)
            .map_err(failed(name::BALANCE, "write"))
    }

    /// All that they hold.
    pub(super) fn read_back(&self) -> Result<Actual, DatapathError> {
        let mut actual = Actual {
            services: self.services()?,
            backends: self.backends()?,
            tallies: self
                .tally
                .keys()
                .collect::<Result<_, _>>()
                .map_err(failed(name::TALLY, "list the counters"))?,
            ranges: self.ranges()?,
            answers: self.answers()?,
            members: self.members()?,
            ..Actual::default()
        };
        for item in self.tables.iter() {
            let (number, table) = item.map_err(failed(name::TABLES, "list the tables"))?;
            let table = balance::Table::read(&table.slots, None);
            actual.tables.insert(number, table);
        }
        let ids = actual.services.values().map(|service| service.id);
        let tables = actual.tables.keys().copied();
        let backends = actual.backends.keys().copied();
        // Those of a table that was not made any more, too: its number is not given again while they are there.
        let members = actual.members.iter().map(|member| member.table);
        let all = ids.chain(tables).chain(backends).chain(members);
        actual.last = all.max().unwrap_or(0);
        Ok(actual)
    }

    pub(super) fn services(&self) -> Result<BTreeMap<Frontend, Service>, DatapathError> {
        let all = read::<ServiceKey, Service>(self.services.map().fd().as_fd())
            .map_err(|error| DatapathError::system("read the map SERVICES", error))?;
        let known = |(key, service)| Some((Frontend::of(&key)?, service));
        Ok(all.into_iter().filter_map(known).collect())
    }

    pub(super) fn backends(&self) -> Result<BTreeMap<u32, Backend>, DatapathError> {
        read(self.backends.map().fd().as_fd())
            .map_err(|error| DatapathError::system("read the map BACKENDS", error))
    }

    fn answers(&self) -> Result<BTreeMap<Frontend, Answer>, DatapathError> {
        let all = read::<ServiceKey, Answer>(self.answers.map().fd().as_fd())
            .map_err(|error| DatapathError::system("read the map ANSWERS", error))?;
        let known = |(key, answer)| Some((Frontend::of(&key)?, answer));
        Ok(all.into_iter().filter_map(known).collect())
    }

    fn members(&self) -> Result<BTreeSet<Member>, DatapathError> {
        let all = read::<Member, u32>(self.members.map().fd().as_fd())
            .map_err(|error| DatapathError::system("read the map MEMBERS", error))?;
        Ok(all.into_keys().collect())
    }

    fn ranges(&self) -> Result<BTreeSet<(u32, Prefix)>, DatapathError> {
        let known = |key: Key<Range>| Prefix::of(key.prefix_len(), key.data());
        let keys = self.ranges.keys().map(|key| key.map(known));
        let keys: Result<Vec<_>, _> = keys.collect();
        let keys = keys.map_err(failed(name::RANGES, "list the ranges of clients"))?;
        Ok(keys.into_iter().flatten().collect())
    }

    /// Does one step.
    pub(super) fn carry_out(&mut self, step: &Step) -> Result<(), DatapathError> {
        match step {
            Step::Backend(number, backend) => {
                with_patience(|| self.backends.insert(number, backend, 0)).map_err(failed(
                    name::BACKENDS,
                    format!("write {}", Spot::of(backend)),
                ))
            }
            Step::Table(number, recipe, slots) => {
                let mut table = Box::new(Table { slots: [0; SLOTS] });
                table.slots.copy_from_slice(slots);
                with_patience(|| self.tables.insert(number, table.as_ref(), 0)).map_err(failed(
                    name::TABLES,
                    format!("write the table of {} backends", recipe.len()),
                ))
            }
            Step::Adopt(..) => Ok(()), // it is there already
            Step::Tally(key) => with_patience(|| self.make_tally(*key))
                .map_err(failed(name::TALLY, format!("make the counters of {key:?}"))),
            Step::Service(frontend, service) => {
                let key = ServiceKey::from(*frontend);
                with_patience(|| self.services.insert(key, service, 0))
                    .map_err(failed(name::SERVICES, format!("write {frontend}")))
            }
            Step::Range(service, prefix) => {
                let (bits, range) = prefix.key(*service);
                let Prefix { address, length } = prefix;
                with_patience(|| self.ranges.insert(&Key::new(bits, range), 1, 0))
                    .map_err(failed(name::RANGES, format!("admit {address}/{length}")))
            }
            Step::DropRange(service, prefix) => {
                let (bits, range) = prefix.key(*service);
                let Prefix { address, length } = prefix;
                missing_is_fine(self.ranges.remove(&Key::new(bits, range)))
                    .map_err(failed(name::RANGES, format!("remove {address}/{length}")))
            }
            Step::Answer(end, answer) => {
                let key = ServiceKey::from(*end);
                with_patience(|| self.answers.insert(key, answer, 0))
                    .map_err(failed(name::ANSWERS, format!("write {end}")))
            }
            Step::DropAnswer(end) => {
                let key = ServiceKey::from(*end);
                missing_is_fine(self.answers.remove(&key))
                    .map_err(failed(name::ANSWERS, format!("remove {end}")))
            }
            Step::Member(member) => with_patience(|| self.members.insert(member, 1, 0))
                .map_err(failed(name::MEMBERS, format!("keep clients by {member:?}"))),
            Step::DropMember(member) => missing_is_fine(self.members.remove(member))
                .map_err(failed(name::MEMBERS, format!("remove {member:?}"))),
            Step::DropService(frontend) => {
                let key = ServiceKey::from(*frontend);
                missing_is_fine(self.services.remove(&key))
                    .map_err(failed(name::SERVICES, format!("remove {frontend}")))
            }
            Step::DropTable(number) => missing_is_fine(self.tables.remove(number))
                .map_err(failed(name::TABLES, format!("remove the table {number}"))),
            Step::DropBackend(number) => missing_is_fine(self.backends.remove(number)).map_err(
                failed(name::BACKENDS, format!("remove the backend {number}")),
            ),
            Step::DropTally(key) => missing_is_fine(self.tally.remove(key)).map_err(failed(
                name::TALLY,
                format!("remove the counters of {key:?}"),
            )),
        }
    }

    /// For reading, on another thread.
    pub(super) fn lens(
        &self,
        (door, clients): (Door, Clients),
        (left_out, numbers): (Arc<Mutex<Arc<[LeftOut]>>>, SharedNumbers),
        program: Arc<OwnedFd>,
        news: News,
        bounds: Bounds,
        aside: Aside,
    ) -> Result<KernelLens, DatapathError> {
        let hash = |map: &MapData| again(map).map(Map::HashMap);
        let open = || {
            Ok(KernelLens {
                door,
                clients,
                members: hash(self.members.map())?.try_into()?,
                services: hash(self.services.map())?.try_into()?,
                tables: hash(self.tables.map())?.try_into()?,
                backends: hash(self.backends.map())?.try_into()?,
                tally: Map::PerCpuHashMap(again(self.tally.map())?).try_into()?,
                left_out,
                numbers,
                program,
                news,
                bounds,
                aside,
            })
        };
        open().map_err(failed(name::SERVICES, "open it and its like again"))
    }

    fn make_tally(&mut self, key: TallyKey) -> Result<(), MapError> {
        let zero = PerCpuValues::try_from(vec![Tally::default(); self.cpus])?;
        self.tally.insert(key, zero, 0)
    }
}
