//! What vipd versions of other schemas have left, each in its own folder of pins: read once, and taken away when this version
//! has taken over, or leaves.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    net::IpAddr,
    path::Path,
};

use aya::maps::{HashMap, Map, MapData, MapError, MapInfo};
use vipd_datapath_common::{AddressKey, Entry, MAPS, MapSpec, flags, name};

use super::{
    links::{CLSACT, detach_clsact},
    pins::Pins,
};
use crate::DatapathError;

/// What those versions left.
pub(super) struct Former {
    pins: Pins,
    /// Addresses and the interfaces that they put them on, by their maps. Before Linux 5.18 the kernel keeps no record of its own.
    added: BTreeSet<(IpAddr, u32)>,
}

impl Former {
    /// Reads what they recorded. What can't be read is told in the log: later kernels know it all the same.
    pub(super) fn read(pins: &Pins) -> Result<Self, DatapathError> {
        let mut added = BTreeSet::new();
        for spec in MAPS.iter().filter(|spec| spec.name == name::ADDRESSES) {
            for other in pins.others()? {
                let pin = other.map(spec.pin);
                if pin.exists() {
                    added.extend(added_by(&pin, spec));
                }
            }
        }
        let pins = pins.clone();
        Ok(Self { pins, added })
    }

    /// Whether one of them put the address there.
    pub(super) fn added(&self, address: IpAddr, ifindex: u32) -> bool {
        self.added.contains(&(address, ifindex))
    }

    /// Forgets what is not there any more: who puts it there again is somebody else. `there` is by address, interface and prefix
    /// length.
    pub(super) fn forget_gone(&mut self, there: &BTreeMap<(IpAddr, u32, u8), bool>) {
        self.added.retain(|(address, ifindex)| {
            let any = (*address, *ifindex, 0)..=(*address, *ifindex, u8::MAX);
            there.range(any).next().is_some()
        });
    }

    /// Takes their programs off and removes their pins, when the programs of this version sit on the interfaces, or when it leaves.
    /// Filters on the interfaces that `keep` names have been replaced by this version's.
    ///
    /// # Errors
    /// All of them: one that stays holds up no other.
    pub(super) fn remove(&self, keep: &[u32]) -> Result<(), DatapathError> {
        let mut errors = Vec::new();
        for other in self.pins.others()? {
            // These have no links that would go with their pins.
            match other.links(CLSACT) {
                Ok(marked) => {
                    let left = marked.into_iter().filter(|ifindex| !keep.contains(ifindex));
                    errors.extend(left.filter_map(|ifindex| detach_clsact(ifindex).err()));
                }
                // It was begun with, or is half gone.
                Err(DatapathError::Pin { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                Err(error) => errors.push(error),
            }
            errors.extend(other.remove_folder().err());
        }
        DatapathError::all(errors)
    }
}

/// What the map pinned there says was added by vipd, if it has the shape that it has now. (Flags keep their places as long
/// as it does.)
fn added_by(pin: &Path, spec: &MapSpec) -> Vec<(IpAddr, u32)> {
    let read = || -> Result<Option<Vec<_>>, MapError> {
        let info = MapInfo::from_pin(pin)?;
        let shape = (info.map_type()? as u32, info.key_size(), info.value_size());
        if shape != (spec.kind as u32, spec.key_size, spec.value_size) {
            return Ok(None);
        }
        let map = Map::from_map_data(MapData::from_pin(pin)?)?;
        let map = HashMap::<MapData, AddressKey, Entry>::try_from(map)?;
        let mut added = Vec::new();
        for item in map.iter() {
            let (key, entry) = item?;
            if entry.has(flags::ADDED) {
                added.push((key.into(), entry.ifindex));
            }
        }
        Ok(Some(added))
    };
    let why = match read() {
        Ok(Some(added)) => return added,
        Ok(None) => "it has another shape".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(
        pin = %pin.display(), %why,
        "what another version of vipd put on interfaces is not read: before Linux 5.18 its addresses stay there (`ip addr` shows them)"
    );
    Vec::new()
}
