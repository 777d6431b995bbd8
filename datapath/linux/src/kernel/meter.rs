//! The counters of the programs, read when somebody asks.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    os::fd::AsFd,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use aya::maps::{Map, MapData, MapError, PerCpuHashMap};
use vipd_datapath_common::{AddressKey, Counter, Counters, name};

use crate::{Counts, DatapathError, Meter};

/// Counters cost a system call for each address: a reading is good for so many times the time that it took.
const WORTH: u32 = 500;

/// The map COUNTERS, for reading.
pub(super) struct KernelMeter {
    counters: PerCpuHashMap<MapData, AddressKey, Counters>,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    counts: Counts,
    good_until: Option<Instant>,
}

fn failed(doing: impl Into<String>) -> impl FnOnce(MapError) -> DatapathError {
    let doing = doing.into();
    move |source| DatapathError::Map {
        doing,
        map: name::COUNTERS,
        source,
    }
}

impl KernelMeter {
    /// A second way to the same map.
    pub(super) fn new(counters: &MapData) -> Result<Self, DatapathError> {
        let open = || {
            let fd = counters.fd().as_fd().try_clone_to_owned();
            let data = MapData::from_fd(fd.map_err(MapError::IoError)?)?;
            Map::PerCpuHashMap(data).try_into()
        };
        Ok(Self {
            counters: open().map_err(failed("open it for reading"))?,
            last: Mutex::default(),
        })
    }

    fn read(&self, address: IpAddr) -> Result<BTreeMap<&'static str, u64>, DatapathError> {
        let mut sum = Counters::default();
        match self.counters.get(&AddressKey::from(address), 0) {
            Ok(values) => values.iter().for_each(|cpu| sum.add(cpu)),
            Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(failed(format!("read {address}"))(error)),
        }
        Ok(Counter::ALL
            .map(|counter| (counter.name(), sum.get(counter)))
            .into())
    }
}

impl Meter for KernelMeter {
    fn counters(
        &self,
        addresses: &mut dyn Iterator<Item = IpAddr>,
    ) -> Result<Counts, DatapathError> {
        // A poisoned lock holds a whole reading: it is replaced at once.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let start = Instant::now();
        if last.good_until.is_none_or(|until| start >= until) {
            let counts = addresses.map(|address| Ok((address, self.read(address)?)));
            last.counts = counts.collect::<Result<_, DatapathError>>()?;
            last.good_until = Some(start + start.elapsed() * WORTH);
        }
        Ok(last.counts.clone())
    }
}
