//! The map AFFINITY, for whoever tells other nodes of clients, and for people.

use std::{collections::BTreeSet, net::IpAddr, os::fd::AsFd, time::Duration};

use aya::maps::{HashMap, IterableMap as _, Map, MapData, MapError};
use vipd_datapath_common::{
    balance::{Affinity, AffinityKey, FlowRecord},
    name,
};

use super::{flows::again, maps::failed, records::Numbers};
use crate::{
    DatapathError, Frontend, Kept,
    balance::Spot,
    kernel::{batch::Reading, boottime_ns, maps::missing_is_fine},
};

/// Where clients are kept, or were.
pub(super) struct Clients(HashMap<MapData, AffinityKey, Affinity>);

impl Clients {
    pub(super) fn new(map: HashMap<MapData, AffinityKey, Affinity>) -> Self {
        Self(map)
    }

    /// Another way to the map.
    pub(super) fn again(&self) -> Result<Self, DatapathError> {
        let map = again(self.0.map()).and_then(|data| Map::LruHashMap(data).try_into());
        map.map(Self)
            .map_err(failed(name::AFFINITY, "open it again"))
    }

    pub(super) fn get(&self, key: &AffinityKey) -> Result<Option<Affinity>, DatapathError> {
        match self.0.get(key, 0) {
            Ok(affinity) => Ok(Some(affinity)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(failed(name::AFFINITY, "read where a client is kept")(error)),
        }
    }

    /// `None`: it is kept nowhere.
    pub(super) fn set(
        &mut self,
        key: &AffinityKey,
        affinity: Option<Affinity>,
    ) -> Result<(), DatapathError> {
        match affinity {
            Some(affinity) => self.0.insert(key, affinity, 0),
            None => missing_is_fine(self.0.remove(key)),
        }
        .map_err(failed(name::AFFINITY, "write where a client is kept"))
    }

    /// Gives the clients of these virtual IPs. Not the programs of this host, which are nobody else's business.
    pub(super) fn read(
        &self,
        of: &BTreeSet<IpAddr>,
        numbers: &Numbers,
        mut each: impl FnMut(Kept),
    ) -> Result<(), DatapathError> {
        let now = boottime_ns();
        let mut reading = Reading::<AffinityKey, Affinity>::new();
        while let Some(part) = reading
            .next(self.0.map().fd().as_fd())
            .map_err(|error| DatapathError::system("read the map AFFINITY", error))?
        {
            for (key, affinity) in part {
                let client = IpAddr::from(key.client);
                if let Some((frontend, backend)) = numbers.named(key.service, affinity.backend)
                    && of.contains(&frontend.address)
                    && client != frontend.address
                {
                    let age = u64::try_from(affinity.age(now)).unwrap_or(0);
                    let age = Duration::from_nanos(age);
                    each(kept(client, frontend, backend, age));
                }
            }
        }
        Ok(())
    }

    /// Keeps a client where another node has it, unless a newer flow of it is known; whether it does.
    pub(super) fn keep(&mut self, kept: &Kept, numbers: &Numbers) -> Result<bool, DatapathError> {
        let (address, port) = kept.backend;
        let service = numbers.services.get(&kept.frontend);
        let backend = numbers.backends.get(&Spot { address, port });
        let (Some(service), Some(backend)) = (service, backend) else {
            return Ok(false);
        };
        let key = AffinityKey {
            client: kept.client.into(),
            service: *service,
        };
        let now = boottime_ns();
        let age = i64::try_from(kept.age.as_nanos()).unwrap_or(i64::MAX);
        if self.get(&key)?.is_some_and(|known| known.age(now) <= age) {
            return Ok(false);
        }
        let told = Affinity {
            seen: now.wrapping_sub(age.cast_unsigned()),
            backend: *backend,
            reserved: 0,
        };
        self.set(&key, Some(told))?;
        Ok(true)
    }
}

fn kept(client: IpAddr, frontend: Frontend, backend: Spot, age: Duration) -> Kept {
    Kept {
        client,
        frontend,
        backend: (backend.address, backend.port),
        age,
    }
}

/// What a flow that has just begun tells of its client.
pub(super) fn begun(record: &FlowRecord, numbers: &Numbers) -> Option<Kept> {
    let (frontend, backend) = numbers.named(record.flow.service, record.flow.backend)?;
    let client = record.key.source.into();
    Some(kept(client, frontend, backend, Duration::ZERO))
}
