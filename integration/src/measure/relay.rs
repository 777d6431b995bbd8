//! Bad weather on a cable: a program between a host and the switch that loses and delays frames, each by chance. Not
//! every kernel has `netem`; every one has packet sockets.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvmsg, sendto,
    setsockopt, socket, sockopt,
};
use socket2::SockRef;

use crate::lab::{Host, Lab, run};
use crate::wire::incoming_only;

/// What happens to frames, in each direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weather {
    /// Per cent of the frames that are lost.
    pub loss: f64,
    /// The longest delay; each frame has one between nothing and this.
    pub jitter: Duration,
}

/// Bad weather on one cable, until the end of its lab.
#[derive(Debug)]
pub struct Relay {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Takes the cable of `host` out of the switch and puts the relay between them.
    pub fn install(lab: &Lab, host: &Host, weather: Weather) -> Result<Self> {
        // A packet socket sees frames before the offload that would have cut and summed them: so no offload.
        let offload = [
            "-K",
            host.interface(),
            "tx",
            "off",
            "tso",
            "off",
            "gso",
            "off",
        ];
        let done = host.run(Command::new("ethtool").args(offload))?;
        ensure!(
            done.status.success(),
            "`ethtool {}` failed on {}: {}",
            offload.join(" "),
            host.name(),
            String::from_utf8_lossy(&done.stderr).trim()
        );
        let switch = lab.switch();
        let (port, inner, outer) = (
            host.name(),
            format!("{}-in", host.name()),
            format!("{}-out", host.name()),
        );
        run::ip(
            switch.name(),
            &format!(
                "link set {port} nomaster\nlink set {port} promisc on\n\
                 link add {inner} type veth peer name {outer}\n\
                 link set {outer} master br0 up\nlink set {inner} promisc on up\n"
            ),
        )?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (from, to) in [(port, &*inner), (&*inner, port)] {
            let ((source, _), (out, link)) =
                switch.enter(|| Ok((listen_on(from)?, listen_on(to)?)))?;
            let own = Arc::clone(&stop);
            threads.push(switch.thread(&format!("relay-{from}"), move || {
                carry(&source, &out, link, weather, &own);
            })?);
        }
        Ok(Self { stop, threads })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of the thread was already printed.
            let _ = thread.join();
        }
    }
}

/// A packet socket on one interface of the namespace of the calling thread, and the address to send from it.
fn listen_on(interface: &str) -> Result<(OwnedFd, LinkAddr)> {
    let link = getifaddrs()?
        .filter(|found| found.interface_name == interface)
        .find_map(|found| found.address?.as_link_addr().copied())
        .ok_or_else(|| anyhow!("the switch has no interface {interface}"))?;
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::EthAll,
    )
    .context("cannot open a packet socket (needs CAP_NET_RAW)")?;
    bind(socket.as_raw_fd(), &link).with_context(|| format!("cannot listen on {interface}"))?;
    SockRef::from(&socket).attach_filter(&incoming_only())?;
    setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20))?;
    Ok((socket, link))
}

/// Reads frames from `source` and sends them on `out` when their time has come.
fn carry(source: &OwnedFd, out: &OwnedFd, link: LinkAddr, weather: Weather, stop: &AtomicBool) {
    let mut waiting: BTreeMap<(Instant, u64), Vec<u8>> = BTreeMap::new();
    let mut number = 0;
    let mut frame = vec![0_u8; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        let next = waiting
            .keys()
            .next()
            .map(|(due, _)| due.saturating_duration_since(now));
        // Rounded up: a frame goes a millisecond late rather than never sleeping.
        let millis = next.map_or(20, |wait| wait.as_millis().min(20) as u8 + 1);
        let mut ready = [PollFd::new(source.as_fd(), PollFlags::POLLIN)];
        // An interrupted wait is as good as a short one.
        let _ = poll(&mut ready, PollTimeout::from(millis));
        loop {
            let mut parts = [IoSliceMut::new(&mut frame)];
            let got = recvmsg::<LinkAddr>(source.as_raw_fd(), &mut parts, None, MsgFlags::empty());
            let length = match got {
                Ok(message) => message.bytes,
                Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => break,
                Err(e) => return eprintln!("the relay ended: {e}"),
            };
            if rand::random_bool(weather.loss / 100.0) {
                continue;
            }
            let delay = weather.jitter.mul_f64(rand::random::<f64>());
            number += 1;
            waiting.insert((Instant::now() + delay, number), frame[..length].to_vec());
        }
        let now = Instant::now();
        while let Some(first) = waiting.first_entry()
            && first.key().0 <= now
        {
            // A frame that finds no room is lost, as on any cable.
            let _ = sendto(out.as_raw_fd(), &first.remove(), &link, MsgFlags::empty());
        }
    }
}
