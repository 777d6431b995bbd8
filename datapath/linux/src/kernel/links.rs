//! The two programs on the interfaces: attached by tcx links that are pinned, so that they outlive
//! the daemon and a new daemon replaces the programs without a gap; by clsact where the kernel has
//! no tcx (before Linux 6.6).

use std::{
    collections::BTreeMap,
    io, mem,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        links::{FdLink, PinnedLink},
        tc::{
            self, NlOptions, SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions, TcHandle,
        },
    },
};
use vipd_datapath_common::program;

use super::{object::verified, pins::Pins, sys::Link};
use crate::DatapathError;

/// How programs are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attach {
    /// tcx, and clsact if the kernel has none.
    #[default]
    Auto,
    /// clsact, whatever the kernel has.
    Clsact,
}

const DIRECTIONS: [(&str, &str, TcAttachType); 2] = [
    ("egress", program::EGRESS, TcAttachType::Egress),
    ("ingress", program::INGRESS, TcAttachType::Ingress),
];
/// Marks an interface whose programs sit in clsact: those filters have no pins of their own.
pub(super) const CLSACT: &str = "clsact";
/// First in line, with a handle nobody else would choose ("vi", "pd").
pub(super) const FILTER: (u16, TcHandle) = (1, TcHandle::new(0x7669, 0x7064));

pub(crate) struct Links {
    pins: Pins,
    attach: Attach,
    /// By index.
    attached: BTreeMap<u32, Attached>,
}

/// An interface that has the programs.
struct Attached {
    /// For messages, and for aya.
    name: String,
    /// The tcx links and their pins, none with clsact. Held, so that a pin that somebody removes takes nothing with it.
    links: Vec<(PathBuf, Link)>,
}

/// Loads one program into the kernel.
fn classifier<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, DatapathError> {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(DatapathError::Incomplete { what: name })
}

impl Links {
    pub(crate) fn new(ebpf: &mut Ebpf, pins: Pins, attach: Attach) -> Result<Self, DatapathError> {
        for (_, name, _) in DIRECTIONS {
            let program = classifier(ebpf, name)?;
            verified(|| program.load()).map_err(|source| DatapathError::Program {
                program: name,
                source: Box::new(source),
            })?;
        }
        Ok(Self {
            pins,
            attach,
            attached: BTreeMap::new(),
        })
    }

    /// The names of the interfaces that have the programs.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.attached.values().map(|attached| &attached.name)
    }

    /// Looks whether the programs are still where they were put, forgets them where they are not, and returns the names
    /// of these interfaces. `filters` tells whether an interface has both clsact filters.
    pub(crate) fn verify(&mut self, filters: &BTreeMap<u32, bool>) -> Vec<String> {
        let gone = |ifindex: u32, attached: &Attached| {
            let detached = |(pin, link): &(PathBuf, Link)| {
                if !pin.exists() {
                    tracing::warn!(pin = %pin.display(), "the pin of a link was removed; it is put back");
                    if let Err(error) = link.pin(pin) {
                        tracing::warn!(pin = %pin.display(), %error, "it is not put back");
                    }
                }
                link.ifindex().is_ok_and(|now| now != ifindex)
            };
            attached.links.iter().any(detached) || filters.get(&ifindex) == Some(&false)
        };
        let lost: Vec<u32> = self
            .attached
            .iter()
            .filter(|(ifindex, attached)| gone(**ifindex, attached))
            .map(|(ifindex, _)| *ifindex)
            .collect();
        let forget = |ifindex| self.attached.remove(&ifindex).map(|it| it.name);
        lost.into_iter().filter_map(forget).collect()
    }

    /// The interfaces whose programs are clsact filters.
    pub(crate) fn by_clsact(&self) -> Vec<u32> {
        let by_clsact = self.attached.iter().filter(|(_, it)| it.links.is_empty());
        by_clsact.map(|(ifindex, _)| *ifindex).collect()
    }

    /// Whether an interface has them.
    pub(crate) fn has(&self, ifindex: u32) -> bool {
        self.attached.contains_key(&ifindex)
    }

    /// Attaches both programs, or takes over the links that an earlier daemon pinned.
    pub(crate) fn attach(
        &mut self,
        ebpf: &mut Ebpf,
        ifindex: u32,
        interface: &str,
    ) -> Result<(), DatapathError> {
        let mut links = Vec::new();
        for (kind, name, direction) in DIRECTIONS {
            let program = classifier(ebpf, name)?;
            let pin = self.pins.link(kind, ifindex);
            let result = match self.attach {
                Attach::Clsact => clsact(program, &self.pins, ifindex, interface, direction),
                Attach::Auto => match tcx(program, &pin, interface, direction) {
                    Ok(()) => Link::from_pin(&pin)
                        .map(|link| links.push((pin, link)))
                        .map_err(Into::into),
                    Err(error) if lacks_tcx(&error) => {
                        clsact(program, &self.pins, ifindex, interface, direction)
                    }
                    Err(error) => Err(error),
                },
            };
            result.map_err(|source| DatapathError::Attach {
                program: name,
                interface: interface.to_owned(),
                source: Box::new(source),
            })?;
        }
        let name = interface.to_owned();
        self.attached.insert(ifindex, Attached { name, links });
        Ok(())
    }

    /// Takes the programs off every interface that `keep` does not name, also off those on which
    /// an earlier daemon had put them.
    pub(crate) fn retain(&mut self, keep: &dyn Fn(u32) -> bool) -> Result<(), DatapathError> {
        let mut errors = Vec::new();
        self.attached.retain(|ifindex, _| keep(*ifindex));
        for (kind, _, _) in DIRECTIONS {
            for ifindex in self.pins.links(kind)? {
                if !keep(ifindex) {
                    // A link without a pin and without a descriptor is detached.
                    errors.extend(Pins::remove(&self.pins.link(kind, ifindex)).err());
                }
            }
        }
        for ifindex in self.pins.links(CLSACT)? {
            if !keep(ifindex) {
                match detach_clsact(ifindex) {
                    Ok(()) => errors.extend(Pins::remove(&self.pins.link(CLSACT, ifindex)).err()),
                    Err(error) => errors.push(error),
                }
            }
        }
        DatapathError::all(errors)
    }
}

/// A pinned link gets the new program atomically. A link whose interface has gone is dead for
/// good: its pin is replaced.
fn tcx(
    program: &mut SchedClassifier,
    pin: &Path,
    interface: &str,
    direction: TcAttachType,
) -> Result<(), ProgramError> {
    if let Ok(pinned) = PinnedLink::from_pin(pin) {
        let updated = SchedClassifierLink::try_from(FdLink::from(pinned))
            .map_err(other)
            .and_then(|link| program.attach_to_link(link));
        match updated {
            Ok(id) => return release(program, id),
            Err(error) => {
                tracing::debug!(%error, pin = %pin.display(), "replacing a dead link");
                std::fs::remove_file(pin)?;
            }
        }
    }
    // Before the programs of others, which might end the chain before the fence.
    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(interface, direction, order)?;
    let link = FdLink::try_from(program.take_link(id)?).map_err(other)?;
    link.pin(pin).map(drop).map_err(other)
}

/// aya's program error has no place for errors of links and pins.
fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ProgramError {
    io::Error::other(error).into()
}

/// Forgets the link without detaching it: the pin holds it.
fn release(program: &mut SchedClassifier, id: SchedClassifierLinkId) -> Result<(), ProgramError> {
    program.take_link(id).map(drop)
}

/// Before Linux 6.6 the kernel does not know the attach type.
fn lacks_tcx(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error)
        if error.call == "bpf_mprog_attach"
            && error.io_error.raw_os_error() == Some(nix::libc::EINVAL))
}

fn clsact(
    program: &mut SchedClassifier,
    pins: &Pins,
    ifindex: u32,
    interface: &str,
    direction: TcAttachType,
) -> Result<(), ProgramError> {
    // It fails when it is there already, which no error tells apart; then attaching works.
    let added = tc::qdisc_add_clsact(interface);
    let (priority, handle) = FILTER;
    let options = || {
        TcAttachOptions::Netlink(NlOptions {
            priority,
            handle,
            classid: None,
        })
    };
    // Replacing fails when there is nothing to replace.
    let link = SchedClassifierLink::attached(interface, direction, priority, handle, None)?;
    let id = match program.attach_to_link(link) {
        Ok(id) => id,
        Err(_) => program
            .attach_with_options(interface, direction, options())
            .map_err(|error| match added {
                Err(qdisc) => qdisc.into(),
                Ok(()) => error,
            })?,
    };
    // The filter stays when this process ends.
    mem::forget(program.take_link(id)?);
    let pin = pins.link(CLSACT, ifindex);
    if !pin.exists() {
        program.pin(&pin).map_err(other)?;
    }
    Ok(())
}

/// Takes vipd's filters off an interface, whichever version put them there; that there are none is fine.
pub(super) fn detach_clsact(ifindex: u32) -> Result<(), DatapathError> {
    // The interface may be gone, and its filters with it.
    let Ok(name) = nix::net::if_::if_indextoname(ifindex) else {
        return Ok(());
    };
    let name = name.to_string_lossy();
    let (priority, handle) = FILTER;
    let mut errors = Vec::new();
    for (_, _, direction) in DIRECTIONS {
        let link = SchedClassifierLink::attached(&name, direction, priority, handle, None);
        match link
            .map_err(ProgramError::from)
            .and_then(aya::programs::Link::detach)
        {
            Err(error) if !is_gone(&error) => {
                let doing = format!(
                    "take vipd's filters off interface {name} (`tc qdisc del dev {name} clsact` takes off all of that kind)"
                );
                errors.push(DatapathError::system(doing, io::Error::other(error)));
            }
            Ok(()) | Err(_) => {}
        }
    }
    DatapathError::all(errors)
}

/// What the kernel says where there is no such filter, no place for one, or no interface any more.
fn is_gone(error: &ProgramError) -> bool {
    use nix::libc::{EINVAL, ENODEV, ENOENT};
    let errno = match error {
        ProgramError::NetlinkError(error) => error.raw_os_error(),
        ProgramError::IOError(error) => error.raw_os_error(),
        _ => None,
    };
    matches!(errno, Some(EINVAL | ENODEV | ENOENT))
}
