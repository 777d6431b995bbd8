//! An established flow while daemons come, go and are killed: no packet is lost.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::{
    io::{BufRead, BufReader, ErrorKind},
    net::{SocketAddr, UdpSocket},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use support::{
    Net, SECOND, VIP4,
    lan::{Lan, balanced, services},
    with_net,
};
use vipd_datapath::{Datapath, FlowFilter, Forward, Kernel, boottime_ns};

/// The name of the helper below, and how it learns where to pin.
const HELPER: &str = "helper_is_a_daemon_until_it_is_killed";
const PINS: &str = "VIPD_TEST_PINS";
/// Datagrams on their way at a time: fewer than a socket has room for.
const WINDOW: u64 = 64;

/// Not a test of its own: another process runs it, in the namespace of the one that asks.
#[test]
#[ignore = "run by the other tests of this file, and killed"]
fn helper_is_a_daemon_until_it_is_killed() {
    let pins = std::env::var_os(PINS).expect("run by the other tests only");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let wanted = balanced(services(Forward::Nat, &[(11, 1)]));
        let mut kernel = Kernel::open(&pins).await.unwrap();
        let mut node = kernel.node_gate().unwrap();
        // A minute at most, in case nobody kills it.
        for round in 0..600 {
            kernel.apply(&wanted).await.unwrap();
            node.set_deadline(boottime_ns() + 300 * SECOND);
            if round == 0 {
                println!("serves");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}

/// Starts a daemon, waits until it serves, lets it audit for a moment and kills it with SIGKILL.
fn daemon_that_is_killed(net: &Net) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", HELPER, "--ignored", "--nocapture"])
        .env(PINS, &net.pins)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let served = lines
        .map_while(Result::ok)
        .any(|line| line.contains("serves"));
    thread::sleep(Duration::from_millis(150));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(served, "it did not come to serve");
}

/// Sends each number back.
fn echo(socket: &UdpSocket, stopped: &AtomicBool) {
    let mut buffer = [0; 8];
    while !stopped.load(Ordering::Relaxed) {
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..length], peer).unwrap();
        }
    }
}

/// Sends numbers and waits for each to come back, until so many have or somebody says stop after `least`. How many
/// came back.
fn ask(least: u64, stop: &AtomicBool) -> u64 {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket
        .connect(SocketAddr::new(VIP4.parse().unwrap(), 80))
        .unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let (mut sent, mut back) = (0u64, 0u64);
    let mut buffer = [0; 8];
    loop {
        let enough = sent >= least && stop.load(Ordering::Relaxed);
        while !enough && sent < back + WINDOW {
            socket.send(&sent.to_be_bytes()).unwrap();
            sent += 1;
        }
        if back == sent {
            return back;
        }
        match socket.recv(&mut buffer) {
            Ok(8) => {
                assert_eq!(
                    u64::from_be_bytes(buffer),
                    back,
                    "out of order, or one was lost"
                );
                back += 1;
            }
            Ok(length) => panic!("{length} bytes came back"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!("{} of {sent} datagrams are lost", sent - back)
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// `packets` through the holder, half of them answers, while daemons begin and end.
fn none_is_lost(packets: u64) {
    with_net(move |net| async move {
        let lan = Lan::new(net, 1);
        let wanted = balanced(services(Forward::Nat, &[(11, 1)]));
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        kernel.apply(&wanted).await.unwrap();
        kernel
            .node_gate()
            .unwrap()
            .set_deadline(boottime_ns() + 300 * SECOND);
        let (stop, stopped) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let backend = lan.socket(1, 8080);
        backend
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let server = thread::spawn({
            let stopped = Arc::clone(&stopped);
            move || echo(&backend, &stopped)
        });
        let client = net.client();
        let asker = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                support::enter(&client);
                ask(packets / 2, &stop)
            }
        });
        let start = Instant::now();
        let (mut restarts, mut kills) = (0, 0);
        drop(kernel);
        // At least three of each, however quick the packets are.
        while !asker.is_finished() {
            daemon_that_is_killed(net);
            kills += 1;
            let mut kernel = Kernel::open(&net.pins).await.unwrap();
            kernel.apply(&wanted).await.unwrap();
            kernel
                .node_gate()
                .unwrap()
                .set_deadline(boottime_ns() + 300 * SECOND);
            restarts += 1;
            assert!(
                start.elapsed() < Duration::from_secs(240),
                "it takes too long"
            );
            if kills >= 3 {
                stop.store(true, Ordering::Relaxed);
            }
        }
        let back = asker.join().unwrap();
        stopped.store(true, Ordering::Relaxed);
        server.join().unwrap();
        assert!(back >= packets / 2);
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        let flows = kernel
            .lens()
            .unwrap()
            .flows(&FlowFilter::default(), 10)
            .unwrap()
            .flows;
        let of_them = flows.iter().find(|flow| flow.from_client.0 == back);
        assert!(
            of_them.is_some_and(|flow| flow.to_client.0 == back),
            "one flow all along: {flows:?}"
        );
        println!(
            "{} packets in {:?}, {restarts} restarts, {kills} daemons killed, none lost",
            2 * back,
            start.elapsed()
        );
        kernel.remove().await.unwrap();
    });
}

#[test]
fn none_of_a_million_packets_is_lost_while_daemons_restart_and_are_killed() {
    none_is_lost(1_000_000);
}
