//! The eBPF object: the one checked in, or a fresh one for tests.

use std::{borrow::Cow, env, fs, path::PathBuf};

use aya::{Ebpf, EbpfLoader, maps::MapInfo};
use vipd_datapath_common::{MAPS, MapKind, MapSpec, NAMESPACE, name};

use super::{pins::Pins, sys};
use crate::DatapathError;

/// Built from `datapath/ebpf` by `cargo xtask ebpf`.
static EMBEDDED: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../ebpf/vipd.bpf.o"));

/// Names a file to load instead of the embedded object: CI tests a freshly built one by it. Debug
/// builds only: whoever starts a privileged daemon shall not choose what it loads.
const VARIABLE: &str = "VIPD_EBPF_OBJECT";

pub(crate) fn bytes() -> Result<Cow<'static, [u8]>, DatapathError> {
    let path = env::var_os(VARIABLE).filter(|_| cfg!(debug_assertions));
    let Some(path) = path.map(PathBuf::from) else {
        return Ok(Cow::Borrowed(EMBEDDED));
    };
    match fs::read(&path) {
        Ok(bytes) => Ok(Cow::Owned(bytes)),
        Err(source) => Err(DatapathError::Object { path, source }),
    }
}

/// Loads the object; its maps are those pinned by an earlier daemon, or become pinned.
pub(crate) fn load(pins: &Pins, flows: u32) -> Result<Ebpf, DatapathError> {
    // Without it the programs at sockets do nothing, and are not attached.
    let namespace = sys::namespace().unwrap_or(0);
    let mut loader = EbpfLoader::new();
    loader.map_max_entries(name::FLOWS, flows);
    loader.override_global(NAMESPACE, &namespace, true);
    for map in MAPS {
        check_layout(pins, &map)?;
        loader.map_pin_path(map.name, pins.map(map.pin));
    }
    loader
        .load(&bytes()?)
        .map_err(|source| DatapathError::Load {
            source: Box::new(source),
        })
}

/// aya takes a pinned map as it is. So a map of another shape is refused here.
fn check_layout(pins: &Pins, spec: &MapSpec) -> Result<(), DatapathError> {
    let path = pins.map(spec.pin);
    if !path.exists() {
        return Ok(());
    }
    let failed = |source| DatapathError::Map {
        doing: "read the shape".to_owned(),
        map: spec.name,
        source,
    };
    let info = MapInfo::from_pin(&path).map_err(failed)?;
    let kind = info.map_type().map_err(failed)? as u32;
    let mut shape = vec![
        ("type", kind, spec.kind as u32),
        ("key size", info.key_size(), spec.key_size),
        ("value size", info.value_size(), spec.value_size),
        ("flags", info.map_flags(), spec.flags),
    ];
    // A ring buffer is rounded up to whole pages, and the table of flows has the size of the daemon that made it.
    if spec.kind != MapKind::RingBuf && spec.name != name::FLOWS {
        shape.push(("size", info.max_entries(), spec.max_entries));
    }
    for (what, found, expected) in shape {
        if found != expected {
            return Err(DatapathError::Layout {
                path,
                what,
                found,
                expected,
            });
        }
    }
    Ok(())
}
