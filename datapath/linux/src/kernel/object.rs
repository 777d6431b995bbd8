//! The eBPF object: the one checked in, or a fresh one for tests.

use std::{borrow::Cow, env, fs, io::ErrorKind, path::PathBuf};

use aya::{Ebpf, EbpfLoader, maps::MapInfo, programs::ProgramError};
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

/// Loads a program by `load`, five times at most. The kernel gives up a program that it is checking, which may take it a second,
/// when there is a signal for the thread (EAGAIN), and means it to be asked again; libbpf asks five times, too.
///
/// # Errors
/// Those of `load`; of the last time, if the kernel has given up each time.
pub fn verified(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    const MORE: usize = 4;
    let given_up = |result: &Result<(), ProgramError>| match result {
        Err(ProgramError::LoadError { io_error, .. }) => io_error.kind() == ErrorKind::WouldBlock,
        Ok(()) | Err(_) => false,
    };
    let mut result = load();
    for _ in 0..MORE {
        if !given_up(&result) {
            break;
        }
        result = load();
    }
    result
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

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// How often a load is tried whose kernel answers so each time, and how it ends.
    fn tries(answers: impl Fn(usize) -> Option<ErrorKind>) -> (usize, bool) {
        let mut tried = 0;
        let result = verified(|| {
            tried += 1;
            match answers(tried) {
                None => Ok(()),
                Some(kind) => Err(ProgramError::LoadError {
                    io_error: io::Error::from(kind),
                    verifier_log: aya_obj::VerifierLog::new(String::new()),
                }),
            }
        });
        (tried, result.is_ok())
    }

    #[test]
    fn a_program_that_the_kernel_gave_up_for_a_signal_is_loaded_again_and_one_that_it_refuses_is_not()
     {
        let signals = |n| move |tried| (tried <= n).then_some(ErrorKind::WouldBlock);
        assert_eq!(tries(signals(0)), (1, true));
        assert_eq!(tries(signals(4)), (5, true));
        assert_eq!(tries(signals(usize::MAX)), (5, false));
        assert_eq!(tries(|_| Some(ErrorKind::PermissionDenied)), (1, false));
    }
}
