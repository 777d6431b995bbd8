//! Reads every frame at the moment it enters the switch, on whatever port, with the kernel's stamp.

use std::collections::{BTreeSet, HashMap};
use std::io::IoSliceMut;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType,
    recvmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeSpec, TimeVal};
use socket2::{SockFilter, SockRef};

use super::frame;
use super::verdict::Answer;
use crate::Stamp;
use crate::lab::{Mac, NetNs};

/// A sniffer on all ports of a switch. It keeps every claim to the addresses it watches.
///
/// A frame is taken where it enters, before any cut of [`crate::lab::Lab`] can drop it: what a host
/// says into a cut wire counts too. That is stricter than what a client could see.
#[derive(Debug)]
pub struct Tap {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    lost: AtomicU32,
    watched: Mutex<BTreeSet<IpAddr>>,
    answers: Mutex<Vec<Answer>>,
    probes: Mutex<Vec<Asked>>,
}

/// Somebody asked for an address in nobody's name, as who does wants to have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// When the frame entered the switch.
    pub at: Stamp,
    /// The address.
    pub address: IpAddr,
    /// Who asked.
    pub mac: Mac,
}

impl Tap {
    /// Starts to listen in the namespace of a switch; see [`crate::lab::Lab::switch`].
    pub fn start(switch: &NetNs) -> Result<Self> {
        let socket = switch.enter(open).context("cannot listen on the switch")?;
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = switch.thread("tap", move || listen(&socket, &own))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Also keeps the claims to `address` from now on.
    pub fn watch(&self, address: IpAddr) {
        self.shared
            .watched
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(address);
    }

    /// The claims to `address` since it is watched, oldest first.
    ///
    /// # Errors
    /// When frames were lost because the machine was too busy to read them: then nothing can be said.
    pub fn answers(&self, address: IpAddr) -> Result<Vec<Answer>> {
        self.answers_after(address, Stamp::default())
    }

    /// The claims to `address` later than `after`, oldest first; fails as [`Tap::answers`] does.
    pub fn answers_after(&self, address: IpAddr, after: Stamp) -> Result<Vec<Answer>> {
        self.ensure_whole()?;
        let answers = self
            .shared
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut heard: Vec<_> = answers
            .iter()
            .filter(|a| a.address == address && a.at > after)
            .cloned()
            .collect();
        // Two CPUs may queue two frames in the other order than they stamped them.
        heard.sort_by_key(|a| a.at);
        Ok(heard)
    }

    /// Who asked for `address`, since it is watched, in nobody's name; fails as [`Tap::answers`] does.
    pub fn probes(&self, address: IpAddr) -> Result<Vec<Asked>> {
        self.ensure_whole()?;
        let probes = self.shared.probes.lock();
        let probes = probes.unwrap_or_else(PoisonError::into_inner);
        Ok(probes
            .iter()
            .filter(|asked| asked.address == address)
            .copied()
            .collect())
    }

    /// Fails when frames were lost because the machine was too busy to read them.
    pub fn ensure_whole(&self) -> Result<()> {
        let lost = self.shared.lost.load(Ordering::Relaxed);
        anyhow::ensure!(
            lost == 0,
            "the tap lost {lost} frames: the machine is too busy to judge anything"
        );
        Ok(())
    }

    /// What was heard since the last call with the same `cursor`, which begins at 0: for those who
    /// follow along.
    pub fn news(&self, cursor: &mut usize) -> Vec<Answer> {
        let answers = self
            .shared
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let news = answers[*cursor..].to_vec();
        *cursor = answers.len();
        news
    }
}

impl Shared {
    fn asked(&self, asked: Asked, port: &str) {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        // As below.
        if port != "br0" && watched.contains(&asked.address) {
            let probes = self.probes.lock();
            probes.unwrap_or_else(PoisonError::into_inner).push(asked);
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was already printed.
            let _ = thread.join();
        }
    }
}

/// Accepts what comes in, not what goes out: each frame is then seen once, at its first port.
pub(crate) fn incoming_only() -> [SockFilter; 4] {
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    // Linux's ancillary loads: at this offset the byte is the packet type, and 4 is PACKET_OUTGOING.
    const PACKET_TYPE: u32 = 0xffff_f000 + 4;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, PACKET_TYPE),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, 4),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, 256),
    ]
}

fn open() -> Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )?;
    SockRef::from(&socket).attach_filter(&incoming_only())?;
    setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20))?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    setsockopt(&socket, sockopt::RxqOvfl, &1)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 50_000))?;
    Ok(socket)
}

fn listen(socket: &OwnedFd, shared: &Shared) {
    let mut ports = Ports::default();
    let mut frame = [0_u8; 256];
    let mut control = nix::cmsg_space!(TimeSpec, u32);
    while !shared.stop.load(Ordering::Relaxed) {
        let mut parts = [IoSliceMut::new(&mut frame)];
        let got = recvmsg::<LinkAddr>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::empty(),
        );
        let (length, index, at) = match got {
            Ok(message) => {
                let mut at = Stamp::now();
                for extra in message.cmsgs().into_iter().flatten() {
                    match extra {
                        ControlMessageOwned::ScmTimestampns(stamp) => at = stamp.into(),
                        ControlMessageOwned::RxqOvfl(lost) => {
                            shared.lost.store(lost, Ordering::Relaxed)
                        }
                        _ => {}
                    }
                }
                (
                    message.bytes,
                    message.address.map_or(0, |a| a.ifindex()),
                    at,
                )
            }
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => continue,
            Err(e) => return eprintln!("the tap went deaf: {e}"),
        };
        if let Some((address, mac)) = frame::probe(&frame[..length]) {
            shared.asked(Asked { at, address, mac }, &ports.name(index));
        }
        let Some(claim) = frame::claim(&frame[..length]) else {
            continue;
        };
        if !shared
            .watched
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&claim.address)
        {
            continue;
        }
        // The bridge's own device shows flooded frames a second time.
        let port = ports.name(index);
        if &*port != "br0" {
            let answer = Answer {
                at,
                address: claim.address,
                mac: claim.mac,
                how: claim.how,
                port,
            };
            shared
                .answers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(answer);
        }
    }
}

/// Names of ports by index; a port that is gone before its first frame was read is called "?".
#[derive(Default)]
struct Ports(HashMap<usize, Arc<str>>);

impl Ports {
    fn name(&mut self, index: usize) -> Arc<str> {
        let look = || {
            let name = u32::try_from(index)
                .ok()
                .and_then(|index| if_indextoname(index).ok());
            name.map_or_else(|| "?".into(), |name| name.to_string_lossy().into())
        };
        Arc::clone(self.0.entry(index).or_insert_with(look))
    }
}
