//! Frames as a network card hands them up: made by a program in the kernel, which sends them out of an interface of the
//! client without any socket or stack.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::maps::Array;
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp};
use etherparse::PacketBuilder;
use nix::net::if_::if_nametoindex;

use super::forwarder::stay;
use super::site::{macs, to};
use super::way::{Arms, Way};

/// The source port of the first.
const FIRST_PORT: u16 = 10_000;
/// Frames that are on their way at a time; a card's driver takes as many.
const BATCH: u32 = 64;
/// All headers, which the program writes anew for each frame.
const HEADERS: usize = 42;

/// What is to be sent, and from which CPU.
#[derive(Clone, Debug)]
pub struct Frames {
    /// The object that `cargo xtask bench balance` has compiled of `datapath/baseline/generate.bpf.c`.
    pub generator: PathBuf,
    /// The name of the host that they go through.
    pub way: String,
    /// Bytes of a frame.
    pub length: usize,
    /// UDP exchanges, one source port each, in turn: 1 to 50,000.
    pub flows: u16,
    /// The number of the CPU.
    pub cpu: usize,
}

/// Sends frames until the process is killed: to be run as a process of its own, in the client's namespace. (The kernel
/// begins and ends such a run slowly, since it changes its own code for it; only a signal ends it early.)
pub fn send(wanted: &Frames) -> Result<()> {
    let mut ways = Way::packets(Arms::One).iter();
    let way = ways.find(|way| way.host() == wanted.way);
    let way = *way.with_context(|| format!("there is no way {:?}", wanted.way))?;
    stay(0, wanted.cpu)?;
    let path = wanted.generator.display();
    let mut ebpf = Ebpf::load_file(&wanted.generator)
        .with_context(|| format!("cannot load the generator of frames {path}"))?;
    let frame = frame(way, wanted.length)?;
    let ifindex = if_nametoindex(to(way).as_str())
        .with_context(|| format!("the client has no interface {}", to(way)))?;
    let map = ebpf.map_mut("PLAN").context("the object has no PLAN")?;
    let mut map: Array<_, [u8; 64]> = map.try_into()?;
    map.set(0, plan(&frame, wanted.flows, ifindex), 0)?;
    let program = ebpf.program_mut("generate");
    let program: &mut Xdp = program
        .context("the object has no `generate`")?
        .try_into()?;
    program.load().context("the kernel refuses `generate`")?;
    let all = TestRunOptions {
        data_in: Some(&frame),
        repeat: u32::MAX,
        attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
        ..TestRunOptions::new()
    };
    program.test_run(all).context("cannot send")?;
    Ok(())
}

/// A frame with all checksums filled in, of source port 0.
fn frame(way: Way, length: usize) -> Result<Vec<u8>> {
    let ([client, host], target) = (macs(way), way.datagrams());
    let payload = length.checked_sub(HEADERS);
    let payload = vec![0; payload.with_context(|| format!("{length} bytes are no frame"))?];
    let mut frame = Vec::with_capacity(length);
    PacketBuilder::ethernet2(client.0, host.0)
        .ipv4(way.client().octets(), target.ip().octets(), 64)
        .udp(0, target.port())
        .write(&mut frame, &payload)?;
    ensure!(frame.len() == length, "a frame of {} bytes", frame.len());
    Ok(frame)
}

/// `struct plan` of the program.
fn plan(frame: &[u8], flows: u16, ifindex: u32) -> [u8; 64] {
    let mut plan = [0; 64];
    plan[..HEADERS].copy_from_slice(&frame[..HEADERS]);
    plan[42..44].copy_from_slice(&FIRST_PORT.to_ne_bytes());
    plan[44..48].copy_from_slice(&u32::from(flows).to_ne_bytes());
    plan[48..52].copy_from_slice(&ifindex.to_ne_bytes());
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_as_long_as_it_shall_be_and_whole() {
        for length in [60, 1514] {
            let frame = frame(Way::Vipd, length).unwrap();
            let read = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
            let Some(etherparse::TransportSlice::Udp(udp)) = read.transport else {
                panic!("{read:?}");
            };
            assert_eq!(udp.destination_port(), Way::Vipd.datagrams().port());
            assert_ne!(udp.checksum(), 0);
            assert_eq!(plan(&frame, 1000, 7)[..HEADERS], frame[..HEADERS]);
        }
        assert!(frame(Way::Vipd, 41).is_err());
    }
}
