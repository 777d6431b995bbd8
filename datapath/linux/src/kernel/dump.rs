//! Reads the pinned maps for people, whichever they ask for.

use std::{
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, MapError, MapInfo, PerCpuHashMap, lpm_trie},
};
use vipd_datapath_common::{
    AddressKey, Counters, Entry, MAPS, MapSpec,
    balance::{
        Affinity, AffinityKey, Answer, Backend, Balance, FlowKey, Half, Member, Range, Service,
        ServiceKey, Table, Tally, TallyKey,
    },
    name,
};

use super::batch::Reading;
use crate::{
    DatapathError, MapSeen,
    balance::Prefix,
    dump::{Element, Elements, Key, Value, kind},
};

/// The maps of one daemon, by their pins.
pub(crate) struct Atlas {
    dir: PathBuf,
}

/// Which elements are wanted.
struct Wanted<'a> {
    /// Only those whose key contains this.
    key: Option<&'a str>,
    at_most: usize,
}

impl Atlas {
    /// `dir` is the folder of the pins.
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// All maps, as they are in the kernel.
    pub(crate) fn list(&self) -> Result<Vec<MapSeen>, DatapathError> {
        let seen = MAPS.iter().map(|spec| {
            let info = MapInfo::from_pin(self.dir.join(spec.pin)).map_err(failed(spec))?;
            Ok(MapSeen {
                name: spec.pin,
                kind: kind(spec.kind),
                key_size: info.key_size(),
                value_size: info.value_size(),
                max_entries: info.max_entries(),
            })
        });
        seen.collect()
    }

    /// Elements of a map, by its pin's name; `None` if there is no such map, or none that can be read.
    pub(crate) fn read(
        &self,
        map: &str,
        key: Option<&str>,
        at_most: usize,
    ) -> Result<Option<Elements>, DatapathError> {
        let Some(spec) = MAPS.iter().find(|spec| spec.pin == map) else {
            return Ok(None);
        };
        let wanted = Wanted { key, at_most };
        let data = MapData::from_pin(self.dir.join(spec.pin)).map_err(failed(spec))?;
        let read = match spec.name {
            name::ADDRESSES => hash::<AddressKey, Entry>(data, &wanted),
            name::HANDED => hash::<AddressKey, u64>(data, &wanted),
            name::COUNTERS => per_cpu::<AddressKey, Counters>(data, &wanted, Counters::add),
            name::BALANCE => array::<Balance>(data, &wanted),
            name::SERVICES => hash::<ServiceKey, Service>(data, &wanted),
            name::BACKENDS => hash::<u32, Backend>(data, &wanted),
            name::ANSWERS => hash::<ServiceKey, Answer>(data, &wanted),
            name::AFFINITY => hash::<AffinityKey, Affinity>(data, &wanted),
            name::MEMBERS => hash::<Member, u32>(data, &wanted),
            name::TABLES => hash::<u32, Table>(data, &wanted),
            name::TALLY => per_cpu::<TallyKey, Tally>(data, &wanted, Tally::add),
            name::RANGES => ranges(data, &wanted),
            name::FLOWS => return flows(&data, &wanted).map(Some),
            _ => return Ok(None),
        };
        read.map(Some).map_err(failed(spec))
    }
}

fn failed(spec: &MapSpec) -> impl FnOnce(MapError) -> DatapathError + use<> {
    let map = spec.name;
    move |source| DatapathError::Map {
        doing: "read it for people".to_owned(),
        map,
        source,
    }
}

impl Wanted<'_> {
    /// Takes an element if it is wanted; whether more are.
    fn take(&self, into: &mut Elements, key: String, value: &impl Value) -> bool {
        if self.key.is_some_and(|part| !key.contains(part)) {
            return true;
        }
        if into.elements.len() == self.at_most {
            into.more = true;
            return false;
        }
        into.elements.push(Element {
            key,
            value: value.fields(),
        });
        true
    }
}

/// What has just gone is no error.
fn there<T>(found: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

fn hash<K: Pod + Key, V: Pod + Value>(
    data: MapData,
    wanted: &Wanted<'_>,
) -> Result<Elements, MapError> {
    // Those that forget by themselves are read as others are.
    let map: HashMap<_, K, V> = Map::HashMap(data).try_into()?;
    let mut found = Elements::default();
    for key in map.keys() {
        let key = key?;
        if let Some(value) = there(map.get(&key, 0))?
            && !wanted.take(&mut found, key.text(), &value)
        {
            break;
        }
    }
    Ok(found)
}

fn per_cpu<K: Pod + Key, V: Pod + Value + Default>(
    data: MapData,
    wanted: &Wanted<'_>,
    add: fn(&mut V, &V),
) -> Result<Elements, MapError> {
    let map: PerCpuHashMap<_, K, V> = Map::PerCpuHashMap(data).try_into()?;
    let mut found = Elements::default();
    for key in map.keys() {
        let key = key?;
        let Some(cpus) = there(map.get(&key, 0))? else {
            continue;
        };
        let mut sum = V::default();
        cpus.iter().for_each(|cpu| add(&mut sum, cpu));
        if !wanted.take(&mut found, key.text(), &sum) {
            break;
        }
    }
    Ok(found)
}

fn array<V: Pod + Value>(data: MapData, wanted: &Wanted<'_>) -> Result<Elements, MapError> {
    let map: Array<_, V> = Map::Array(data).try_into()?;
    let mut found = Elements::default();
    for index in 0..map.len() {
        if !wanted.take(&mut found, index.text(), &map.get(&index, 0)?) {
            break;
        }
    }
    Ok(found)
}

fn ranges(data: MapData, wanted: &Wanted<'_>) -> Result<Elements, MapError> {
    let map: lpm_trie::LpmTrie<_, Range, u32> = Map::LpmTrie(data).try_into()?;
    let mut found = Elements::default();
    for key in map.keys() {
        let key = key?;
        let text = match Prefix::of(key.prefix_len(), key.data()) {
            Some((Range::ANSWERS, Prefix { address, length })) => {
                format!("answers of {address}/{length}")
            }
            Some((service, Prefix { address, length })) => {
                format!("service {service} {address}/{length}")
            }
            None => format!("{} bits", key.prefix_len()),
        };
        if !wanted.take(&mut found, text, &1u32) {
            break;
        }
    }
    Ok(found)
}

/// The only map of millions: many at a time.
fn flows(data: &MapData, wanted: &Wanted<'_>) -> Result<Elements, DatapathError> {
    let mut found = Elements::default();
    let mut reading = Reading::<FlowKey, Half>::new();
    while let Some(part) = reading
        .next(data.fd().as_fd())
        .map_err(|error| DatapathError::system("read the map FLOWS", error))?
    {
        for (key, half) in part {
            if !wanted.take(&mut found, key.text(), half) {
                return Ok(found);
            }
        }
    }
    Ok(found)
}
