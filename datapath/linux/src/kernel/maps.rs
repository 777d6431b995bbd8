//! The maps ADDRESSES and COUNTERS, typed, in the words of the daemon.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    thread,
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{HashMap, IterableMap as _, Map, MapData, MapError, PerCpuHashMap, PerCpuValues},
    util::nr_cpus,
};
use vipd_datapath_common::{Address, AddressKey, Counters, Entry, name};

use super::meter::KernelMeter;
use crate::DatapathError;

pub(crate) struct Maps {
    addresses: HashMap<MapData, AddressKey, Entry>,
    counters: PerCpuHashMap<MapData, AddressKey, Counters>,
    handed: HashMap<MapData, AddressKey, u64>,
    cpus: usize,
    uncounted: BTreeSet<IpAddr>,
}

/// Takes a map out of the object.
pub(crate) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, DatapathError> {
    ebpf.take_map(name)
        .ok_or(DatapathError::Incomplete { what: name })
}

fn failed(
    map: &'static str,
    doing: &'static str,
    address: Option<IpAddr>,
) -> impl Fn(MapError) -> DatapathError {
    move |source| DatapathError::Map {
        doing: address.map_or_else(|| doing.to_owned(), |address| format!("{doing} {address}")),
        map,
        source,
    }
}

impl Maps {
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        Ok(Self {
            addresses: take(ebpf, name::ADDRESSES)?.try_into().map_err(failed(
                name::ADDRESSES,
                "use it",
                None,
            ))?,
            counters: take(ebpf, name::COUNTERS)?.try_into().map_err(failed(
                name::COUNTERS,
                "use it",
                None,
            ))?,
            handed: take(ebpf, name::HANDED)?.try_into().map_err(failed(
                name::HANDED,
                "use it",
                None,
            ))?,
            cpus: nr_cpus()
                .map_err(|(path, source)| DatapathError::system(format!("read {path}"), source))?,
            uncounted: BTreeSet::new(),
        })
    }

    /// All managed addresses.
    pub(crate) fn addresses(&self) -> Result<BTreeMap<IpAddr, Address>, DatapathError> {
        self.addresses
            .iter()
            .map(|item| item.map(|(key, entry)| (IpAddr::from(key), entry.address)))
            .collect::<Result<_, _>>()
            .map_err(failed(name::ADDRESSES, "list the addresses", None))
    }

    /// Writes an entry: one map write. A `new` one gets counters by [`Self::make_all_counters`].
    pub(crate) fn write(
        &mut self,
        address: IpAddr,
        entry: Address,
        new: bool,
    ) -> Result<(), DatapathError> {
        let key = AddressKey::from(address);
        let entry = Entry::new(&key, entry);
        with_patience(|| self.addresses.insert(key, entry, 0)).map_err(failed(
            name::ADDRESSES,
            "write",
            Some(address),
        ))?;
        if new {
            self.uncounted.insert(address);
        }
        Ok(())
    }

    /// Makes the counters of addresses that have none yet. Whoever answers does not wait for it: a program that finds no
    /// counters counts nothing.
    pub(crate) fn make_all_counters(&mut self) -> Result<(), DatapathError> {
        while let Some(address) = self.uncounted.first().copied() {
            with_patience(|| self.make_counters(AddressKey::from(address))).map_err(failed(
                name::COUNTERS,
                "write",
                Some(address),
            ))?;
            self.uncounted.remove(&address);
        }
        Ok(())
    }

    fn make_counters(&mut self, key: AddressKey) -> Result<(), MapError> {
        /// BPF_NOEXIST: counters that are there go on counting.
        const NOEXIST: u64 = 1;
        let zero = PerCpuValues::try_from(vec![Counters::default(); self.cpus])?;
        match self.counters.insert(key, zero, NOEXIST) {
            Err(MapError::SyscallError(error)) if is(&error.io_error, nix::libc::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// Forgets when a packet to the address was last handed to this node.
    pub(crate) fn forget_handed(&mut self, address: IpAddr) -> Result<(), DatapathError> {
        missing_is_fine(self.handed.remove(&AddressKey::from(address))).map_err(failed(
            name::HANDED,
            "remove",
            Some(address),
        ))
    }

    /// Forgets an address and its counters.
    pub(crate) fn forget(&mut self, address: IpAddr) -> Result<(), DatapathError> {
        self.uncounted.remove(&address);
        let key = AddressKey::from(address);
        missing_is_fine(self.addresses.remove(&key)).map_err(failed(
            name::ADDRESSES,
            "remove",
            Some(address),
        ))?;
        self.forget_handed(address)?;
        missing_is_fine(self.counters.remove(&key)).map_err(failed(
            name::COUNTERS,
            "remove",
            Some(address),
        ))
    }

    /// The map of the addresses.
    pub(crate) fn addresses_map(&self) -> &MapData {
        self.addresses.map()
    }

    /// The counters, for reading.
    pub(crate) fn meter(&self) -> Result<KernelMeter, DatapathError> {
        KernelMeter::new(self.counters.map())
    }
}

/// The kernel takes elements from a reserve that it fills up a little later; many at once find it empty.
pub(super) fn with_patience(
    mut write: impl FnMut() -> Result<(), MapError>,
) -> Result<(), MapError> {
    const TRIES: u32 = 50;
    const PAUSE: Duration = Duration::from_micros(100);
    for _ in 1..TRIES {
        match write() {
            Err(MapError::SyscallError(error)) if is(&error.io_error, nix::libc::ENOMEM) => {
                thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
    write()
}

pub(super) fn missing_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if is(&error.io_error, nix::libc::ENOENT) => Ok(()),
        other => other,
    }
}

pub(super) fn is(error: &std::io::Error, errno: i32) -> bool {
    error.raw_os_error() == Some(errno)
}
