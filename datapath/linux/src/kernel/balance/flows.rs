//! The map FLOWS, as each thread that works on it holds it.

use std::{os::fd::AsFd, sync::Arc};

use aya::maps::{HashMap, IterableMap as _, Map, MapData, MapError};
use vipd_datapath_common::{
    Address, AddressKey, Entry,
    balance::{Flow, FlowKey, Half, flow_flags},
    flags, name,
};

use super::maps::failed;
use crate::{
    DatapathError,
    kernel::{
        batch::Reading,
        maps::{is, missing_is_fine, with_patience},
    },
};

/// BPF_NOEXIST: only where there is none.
const NOEXIST: u64 = 1;

/// Another way to a map.
pub(super) fn again(map: &MapData) -> Result<MapData, MapError> {
    let fd = map.fd().as_fd().try_clone_to_owned();
    MapData::from_fd(fd.map_err(MapError::IoError)?)
}

/// Opens the maps that it needs, as often as somebody asks.
#[derive(Clone)]
pub(super) struct Door {
    flows: Arc<HashMap<MapData, FlowKey, Half>>,
    addresses: Arc<MapData>,
}

impl Door {
    pub(super) fn new(
        flows: HashMap<MapData, FlowKey, Half>,
        addresses: &MapData,
    ) -> Result<Self, DatapathError> {
        let addresses = again(addresses).map_err(failed(name::ADDRESSES, "open it again"))?;
        Ok(Self {
            flows: Arc::new(flows),
            addresses: Arc::new(addresses),
        })
    }

    pub(super) fn open(&self) -> Result<FlowTable, DatapathError> {
        let flows = again(self.flows.map()).and_then(|data| Map::HashMap(data).try_into());
        let addresses = again(&self.addresses).and_then(|data| Map::HashMap(data).try_into());
        Ok(FlowTable {
            flows: flows.map_err(failed(name::FLOWS, "open it again"))?,
            addresses: addresses.map_err(failed(name::ADDRESSES, "open it again"))?,
        })
    }
}

/// All flows, and the addresses that they are of.
pub(super) struct FlowTable {
    flows: HashMap<MapData, FlowKey, Half>,
    addresses: HashMap<MapData, AddressKey, Entry>,
}

impl FlowTable {
    /// Gives each half of each flow, until `each` says `false`.
    pub(super) fn read(
        &self,
        mut each: impl FnMut(&FlowKey, &Flow) -> bool,
    ) -> Result<(), DatapathError> {
        let mut reading = Reading::new();
        while let Some(part) = self.next(&mut reading)? {
            for (key, flow) in part {
                if !each(key, flow) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The next part of a reading; `None` at the end.
    pub(super) fn next<'a>(
        &self,
        reading: &'a mut Reading<FlowKey, Half>,
    ) -> Result<Option<impl Iterator<Item = (&'a FlowKey, &'a Flow)> + use<'a>>, DatapathError>
    {
        let part = reading.next(self.flows.map().fd().as_fd());
        let part = part.map_err(|error| DatapathError::system("read the map FLOWS", error))?;
        Ok(part.map(|part| part.map(|(key, half)| (key, &half.flow))))
    }

    /// How many halves there is room for.
    pub(super) fn elements(&self) -> Result<usize, DatapathError> {
        let info = self.flows.map().info();
        let info = info.map_err(failed(name::FLOWS, "ask how large it is"))?;
        Ok(info.max_entries() as usize)
    }

    pub(super) fn get(&self, key: &FlowKey) -> Result<Option<Flow>, DatapathError> {
        match self.flows.get(key, 0) {
            Ok(half) => Ok(Some(half.flow)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(failed(name::FLOWS, "read a flow")(error)),
        }
    }

    /// Adds a half; whether there was none.
    pub(super) fn add(&mut self, key: &FlowKey, flow: &Flow) -> Result<bool, DatapathError> {
        let half = Half::new(key, *flow);
        let added = with_patience(|| self.flows.insert(key, half, NOEXIST));
        match added {
            Ok(()) => Ok(true),
            Err(MapError::SyscallError(error)) if is(&error.io_error, nix::libc::EEXIST) => {
                Ok(false)
            }
            Err(error) => Err(failed(name::FLOWS, "record a flow")(error)),
        }
    }

    /// Forgets a flow, both of its halves: the client's first, so that none of its packets is sent on while the answers
    /// are not known any more.
    pub(super) fn forget(&mut self, key: &FlowKey, client: &Flow) -> Result<(), DatapathError> {
        self.forget_half(key)?;
        if client.has(flow_flags::DSR) {
            return Ok(());
        }
        self.forget_half(&client.other(key.protocol))
    }

    pub(super) fn forget_half(&mut self, key: &FlowKey) -> Result<(), DatapathError> {
        missing_is_fine(self.flows.remove(key)).map_err(failed(name::FLOWS, "remove a flow"))
    }

    /// The entry of a virtual IP; `None` if this node knows nothing of it.
    pub(super) fn address(&self, key: &AddressKey) -> Result<Option<Address>, DatapathError> {
        match self.addresses.get(key, 0) {
            Ok(entry) => Ok(Some(entry.address)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(failed(name::ADDRESSES, "read an address")(error)),
        }
    }

    /// Whether this node serves the virtual IP, or is just taking it over.
    pub(super) fn serves(&self, key: &AddressKey) -> Result<bool, DatapathError> {
        let entry = self.address(key)?;
        Ok(entry.is_some_and(|entry| entry.has(flags::OPEN) || entry.has(flags::TAKE)))
    }
}
