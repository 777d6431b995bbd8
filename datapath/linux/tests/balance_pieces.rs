//! Datagrams in pieces that do not come in order, through a balanced address, to real sockets.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use support::clients::{VIPS, at, client_address, hold};
use support::lan::{Lan, balanced, services};
use support::segment::{Segment, Transport};
use support::wire::send_from_client;
use support::{Net, run, with_net};
use vipd_datapath::{Datapath, Forward};

const BACKENDS: usize = 3;
/// Bytes of a datagram, and of a piece of it.
const WHOLE: usize = 3_000;
const PIECE: usize = 1_200;

/// Where the datagrams of the backends arrive.
fn listen(lan: &Lan) -> Vec<UdpSocket> {
    let sockets = (1..=BACKENDS).map(|number| lan.socket(number as u8, 8080));
    let listening = sockets.inspect(|socket| socket.set_nonblocking(true).unwrap());
    listening.collect()
}

/// Which backend gets a datagram, within a second; it must be this one.
fn heard(sockets: &[UdpSocket], expected: &[u8]) -> Option<usize> {
    let mut buffer = [0; 2 * WHOLE];
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        for (number, socket) in sockets.iter().enumerate() {
            match socket.recv(&mut buffer) {
                Ok(length) => {
                    assert!(buffer[..length] == *expected, "another datagram");
                    return Some(number);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

/// What the client sends, from a port of its own.
fn datagram(vip: &str, port: u16) -> Segment {
    let client = SocketAddr::new(client_address(vip), port);
    Segment {
        payload: (0..WHOLE).map(|n| (n % 251) as u8 ^ port as u8).collect(),
        ..Segment::new(client, at(vip, 80), Transport::Udp)
    }
}

/// Has frames that come in on the host worked on by the second CPU, as a card with queues does, and sends from the first, so that
/// there is a "meanwhile".
fn by_another_cpu() {
    let told = "mount -t sysfs sysfs /sys && echo 2 > /sys/class/net/lan/queues/rx-0/rps_cpus";
    run("unshare", &["-m", "sh", "-c", told]);
}

fn send(net: &Net, frames: Vec<Vec<u8>>) {
    let all = {
        let mut cpus = CpuSet::new();
        (0..2).for_each(|cpu| cpus.set(cpu).unwrap());
        cpus
    };
    let mut first = CpuSet::new();
    first.set(0).unwrap();
    // Inherited by the thread that sends.
    sched_setaffinity(Pid::from_raw(0), &first).unwrap();
    send_from_client(net, frames);
    sched_setaffinity(Pid::from_raw(0), &all).unwrap();
}

#[test]
fn a_datagram_whose_last_piece_comes_first_reaches_one_backend_whole() {
    const COUNT: u16 = 40;
    with_net(|net| async move {
        let lan = Lan::new(net, BACKENDS as u8);
        by_another_cpu();
        let sockets = listen(&lan);
        let wanted = balanced(services(Forward::Nat, &[(11, 1), (12, 1), (13, 1)]));
        let (kernel, _node) = hold(net, &wanted).await;
        for vip in VIPS {
            let mut whole = 0;
            for port in 0..COUNT {
                let datagram = datagram(vip, 40_000 + port);
                let mut frames = datagram.cut(port, PIECE);
                frames.reverse();
                send(net, frames);
                whole += usize::from(heard(&sockets, &datagram.payload).is_some());
            }
            // Each is an exchange of its own, so a guess is right one time in three. The sender may have stood still
            // between two pieces.
            assert!(
                whole >= usize::from(COUNT) * 3 / 4,
                "{vip}: {whole} of {COUNT}"
            );
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
fn a_piece_that_comes_long_before_the_first_one_goes_where_the_exchange_before_went() {
    with_net(|net| async move {
        let lan = Lan::new(net, BACKENDS as u8);
        let sockets = listen(&lan);
        let wanted = balanced(services(Forward::Nat, &[(11, 1), (12, 1), (13, 1)]));
        let (kernel, _node) = hold(net, &wanted).await;
        for vip in VIPS {
            for port in 40_000..40_010 {
                let datagram = datagram(vip, port);
                send_from_client(net, datagram.cut(port, PIECE));
                let one = heard(&sockets, &datagram.payload);
                assert!(one.is_some(), "{vip} {port}: in order");
                let mut frames = datagram.cut(port + 1_000, PIECE);
                frames.reverse();
                for frame in frames {
                    send_from_client(net, vec![frame]);
                    std::thread::sleep(Duration::from_millis(5));
                }
                assert_eq!(heard(&sockets, &datagram.payload), one, "{vip} {port}");
            }
        }
        kernel.remove().await.unwrap();
    });
}
