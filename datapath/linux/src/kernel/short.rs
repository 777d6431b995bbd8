//! XDP in front of the other programs, where that is wanted and the driver takes it: pinned links like theirs. What can't be
//! had is done by them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aya::{Ebpf, programs::Xdp as Program};
use vipd_datapath_common::program;

use super::{object::verified, pins::Pins, sys::Link};
use crate::{
    DatapathError, HookSeen, Interface, Xdp,
    hook::{Facts, judge},
};

/// Kind of the pins.
const KIND: &str = "xdp";
/// How often it is looked whether something has changed about interfaces.
const LOOK: Duration = Duration::from_secs(5);

/// What is said where it could be had by now.
const LATER: &str = "it is put there when vipd is started or reloaded, since a driver may reset its card for it: drain the node, and \
                     reload vipd";

/// What interfaces have, for whoever shows it.
pub(super) type Hooks = Arc<Mutex<Vec<HookSeen>>>;

/// Name and hardware address of interfaces, by their index.
type Looked = BTreeMap<u32, (String, [u8; 6])>;

pub(super) struct ShortWay {
    pins: Pins,
    wanted: Xdp,
    /// Why the kernel does not take the program, if it does not: then it is done without.
    unloadable: Option<String>,
    /// By index.
    held: BTreeMap<u32, Held>,
    /// Why it could not be put on an interface: asked again by the next daemon, since asking may reset a card.
    refused: BTreeMap<u32, String>,
    hooks: Hooks,
    /// The interfaces that were looked at, and when.
    looked: Option<(Instant, Looked)>,
}

/// An interface that has it.
struct Held {
    /// Held, so that a pin that somebody removes takes nothing with it.
    link: Link,
    /// Why its program is still that of an earlier daemon, if it is. It knows the same maps.
    earlier: Option<String>,
}

impl ShortWay {
    /// Loads the program if it is wanted. Before any map is taken out of the object: the program names them by their
    /// descriptors, and another map may get that of one that was closed.
    pub(super) fn load(ebpf: &mut Ebpf, pins: Pins, wanted: Xdp) -> Result<Self, DatapathError> {
        let unloadable = match wanted {
            Xdp::Off => None,
            Xdp::Auto | Xdp::Force => {
                let program = program(ebpf)?;
                let refused = verified(|| program.load()).err();
                refused.map(|error| format!("the kernel refuses the program: {error}"))
            }
        };
        Ok(Self {
            pins,
            wanted,
            unloadable,
            held: BTreeMap::new(),
            refused: BTreeMap::new(),
            hooks: Hooks::default(),
            looked: None,
        })
    }

    /// What interfaces have.
    pub(super) fn hooks(&self) -> Hooks {
        Arc::clone(&self.hooks)
    }

    /// Brings it onto the interfaces that have the other programs, which are these, and takes it off all others. That
    /// an interface has none is no failure, but that one has it which shall not is.
    pub(super) fn follow<'a>(
        &mut self,
        ebpf: &mut Ebpf,
        interfaces: impl Iterator<Item = &'a Interface> + Clone,
    ) -> Result<(), DatapathError> {
        let now: Looked = interfaces
            .clone()
            .map(|it| (it.index, (it.name.clone(), it.mac)))
            .collect();
        let known = match &self.looked {
            Some((when, before)) if when.elapsed() < LOOK && *before == now => return Ok(()),
            Some((_, before)) => before.keys().copied().collect(),
            None => BTreeSet::new(),
        };
        let mut seen = Vec::new();
        let mut keep = Vec::new();
        self.refused.retain(|ifindex, _| now.contains_key(ifindex));
        for interface in interfaces {
            let fresh = !known.contains(&interface.index);
            let (xdp, why) = match self.bring(ebpf, interface, fresh) {
                Ok(used) => (true, used),
                Err(why) => (false, why),
            };
            if xdp {
                keep.push(interface.index);
            }
            let interface = interface.name.clone();
            seen.push(HookSeen {
                interface,
                xdp,
                why,
            });
        }
        let result = self.retain(&keep);
        *self.hooks.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        self.looked = Some((Instant::now(), now));
        result
    }

    /// Takes it off every interface.
    pub(super) fn remove(&mut self) -> Result<(), DatapathError> {
        self.retain(&[])
    }

    /// Also off those on which an earlier daemon had put it.
    fn retain(&mut self, keep: &[u32]) -> Result<(), DatapathError> {
        self.held.retain(|ifindex, _| keep.contains(ifindex));
        let mut errors = Vec::new();
        for ifindex in self.pins.links(KIND)? {
            if !keep.contains(&ifindex) {
                // A link without a pin and without a descriptor is detached.
                errors.extend(Pins::remove(&self.pins.link(KIND, ifindex)).err());
            }
        }
        DatapathError::all(errors)
    }

    /// What it does on an interface, or why it is not there. On one that this daemon has looked at before, `fresh` or not, it is
    /// not begun with: it may hold addresses by now.
    fn bring(
        &mut self,
        ebpf: &mut Ebpf,
        interface: &Interface,
        fresh: bool,
    ) -> Result<String, String> {
        let ifindex = interface.index;
        let pin = self.pins.link(KIND, ifindex);
        self.held
            .retain(|at, held| *at != ifindex || is_on(&held.link, ifindex));
        let held = self.held.contains_key(&ifindex);
        let pinned = (!held).then(|| taken_over(&pin, ifindex)).flatten();
        let has = held || pinned.is_some();
        let used = judge(self.wanted, has, || facts(interface))?;
        if let Some(link) = pinned {
            let replaced = self
                .loaded(ebpf)
                .and_then(|program| link.update(program).map_err(|error| error.to_string()));
            let earlier = replaced.err();
            if let Some(why) = &earlier {
                tracing::warn!(interface = %interface.name, %why, "XDP's program there cannot be replaced: it stays that of an earlier vipd");
            }
            self.held.insert(ifindex, Held { link, earlier });
        }
        if let Some(Held { link, earlier }) = self.held.get(&ifindex) {
            if !pin.exists()
                && let Err(error) = link.pin(&pin)
            {
                tracing::warn!(pin = %pin.display(), %error, "XDP's link cannot be pinned again: it ends with the daemon");
            }
            return Ok(match earlier {
                None => used,
                Some(why) => format!(
                    "{used}, by the program of an earlier vipd, since it cannot be replaced ({why}): drain the node, set xdp to off, reload \
                     vipd, and turn it on again"
                ),
            });
        }
        // What was said when it was tried is still the reason.
        if let Some(why) = self.refused.get(&ifindex).or(self.unloadable.as_ref()) {
            return Err(why.clone());
        }
        if !fresh {
            return Err(LATER.to_owned());
        }
        match self.begin(ebpf, ifindex, &pin) {
            Ok(link) => {
                let earlier = None;
                self.held.insert(ifindex, Held { link, earlier });
                Ok(used)
            }
            Err(why) => {
                tracing::info!(interface = %interface.name, %why, "no XDP there: tcx does all");
                self.refused.insert(ifindex, why.clone());
                Err(why)
            }
        }
    }

    /// Puts it on an interface that has none of ours.
    fn begin(&self, ebpf: &mut Ebpf, ifindex: u32, pin: &Path) -> Result<Link, String> {
        let program = self.loaded(ebpf)?;
        let _ = fs::remove_file(pin); // of an interface that has gone, if any
        let link = Link::attach_xdp(program, ifindex).map_err(|error| refusal(&error))?;
        link.pin(pin)
            .map_err(|error| format!("its link cannot be pinned at {}: {error}", pin.display()))?;
        Ok(link)
    }

    fn loaded<'a>(&self, ebpf: &'a mut Ebpf) -> Result<BorrowedFd<'a>, String> {
        if let Some(why) = &self.unloadable {
            return Err(why.clone());
        }
        let program = program(ebpf).map_err(|error| error.to_string())?;
        let fd = program.fd().map_err(|error| error.to_string())?;
        Ok(fd.as_fd())
    }
}

/// The link that an earlier daemon has pinned, if it is still attached.
fn taken_over(pin: &Path, ifindex: u32) -> Option<Link> {
    let link = Link::from_pin(pin).ok()?;
    is_on(&link, ifindex).then_some(link)
}

fn is_on(link: &Link, ifindex: u32) -> bool {
    link.ifindex().is_ok_and(|now| now == ifindex)
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Program, DatapathError> {
    let what = program::XDP;
    ebpf.program_mut(what)
        .and_then(|program| program.try_into().ok())
        .ok_or(DatapathError::Incomplete { what })
}

/// What the kernel means.
fn refusal(error: &io::Error) -> String {
    use nix::libc::{EBUSY, EEXIST, EOPNOTSUPP};
    match error.raw_os_error() {
        Some(EBUSY | EEXIST) => {
            "an XDP program of somebody else was there when vipd tried (`ip link` shows it): once that has gone, drain the node, and \
             reload vipd"
                .to_owned()
        }
        Some(EOPNOTSUPP) => "its driver has no XDP".to_owned(),
        _ => format!(
            "its driver refuses XDP ({error}): often its MTU is more than one page of memory carries (about 3500), or it merges packets \
             (`ethtool -K … lro off`); `dmesg` may say more. Tried again when vipd is started or reloaded"
        ),
    }
}

/// What sysfs and procfs say of an interface of this network namespace.
fn facts(interface: &Interface) -> Facts {
    let shown = Path::new("/sys/class/net").join(&interface.name);
    let bus =
        is_shown(&shown, interface).then(|| fs::read_link(shown.join("device/subsystem")).ok());
    let bus = bus.flatten();
    let bus = bus.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let forwards = ["ipv4", "ipv6"].map(|family| {
        let name = &interface.name;
        let setting = format!("/proc/sys/net/{family}/conf/{name}/forwarding");
        fs::read_to_string(setting).is_ok_and(|text| text.trim() != "0")
    });
    Facts { bus, forwards }
}

/// Whether sysfs shows this interface: that is of the namespace in which it was mounted, which may be another. If it does not, it is as if
/// there were no hardware.
fn is_shown(shown: &Path, interface: &Interface) -> bool {
    let says = |what: &str, wanted: &str| {
        fs::read_to_string(shown.join(what)).is_ok_and(|text| text.trim() == wanted)
    };
    let mac = interface.mac.map(|byte| format!("{byte:02x}")).join(":");
    says("ifindex", &interface.index.to_string()) && says("address", &mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysfs_shows_an_interface_if_its_index_and_hardware_address_are_the_same() {
        let loopback = Interface {
            name: "lo".to_owned(),
            index: 1,
            mac: [0; 6],
            up: true,
            prefixes: Vec::new(),
        };
        let lo = Path::new("/sys/class/net/lo");
        assert!(is_shown(lo, &loopback));
        let other = Interface {
            index: 2,
            ..loopback.clone()
        };
        assert!(!is_shown(lo, &other));
        let other = Interface {
            mac: [2, 0, 0, 0, 0, 0xab],
            ..loopback
        };
        assert!(!is_shown(lo, &other));
    }

    #[test]
    fn a_refusal_names_what_is_the_matter() {
        let said = |errno| refusal(&io::Error::from_raw_os_error(errno));
        assert!(said(nix::libc::EBUSY).contains("somebody else"));
        assert!(said(nix::libc::EOPNOTSUPP).contains("has no XDP"));
        assert!(said(nix::libc::ERANGE).contains("MTU"));
    }
}
