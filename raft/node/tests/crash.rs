//! Nodes that die in the middle: killed, and out of disk space. Each test runs this same program again as the node.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use common::{PATIENCE, Place, done, has_pool, pool, until};
use vipd_core::id::{Epoch, NodeId};
use vipd_raft::{RaftNode, Settings};

/// How often the node is killed. Each life commits until it dies.
const KILLS: u32 = 25;
const CHILD: &str = "VIPD_RAFT_TEST_DATA_DIR";
const LIMIT: &str = "VIPD_RAFT_TEST_FILE_LIMIT";

/// Not a test of its own: the node that the tests below start, kill and starve. It says what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_node() {
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    if let Ok(limit) = std::env::var(LIMIT) {
        limit_files(limit.parse().unwrap());
    }
    let mut settings = Settings::new(dir.into(), "127.0.0.1:0".parse().unwrap());
    settings.patience = Duration::from_secs(5);
    settings.snapshot_every = 50;
    settings.keep_behind = 10;
    let node = RaftNode::open(settings).await.unwrap();
    let mut failed = node.failed();
    let start = node.status().last_log;
    for i in start.. {
        let name = format!("p-{i}");
        let outcome = tokio::select! {
            outcome = node.propose(pool(&name, u32::try_from(i).unwrap())) => outcome,
            why = failed.wait_for(Option::is_some) => {
                println!("\nfailed {}", why.unwrap().as_ref().unwrap());
                return;
            }
        };
        match outcome {
            Ok(Ok(_)) => println!("\nacknowledged {name}"),
            Ok(Err(rejection)) => panic!("{rejection}"),
            Err(error) => println!("\nerror {error}"),
        }
        if i % 7 == 0 && node.persist_fence(NodeId(9), Epoch(i)).await.is_ok() {
            println!("\nfenced {i}");
        }
    }
}

fn limit_files(bytes: u64) {
    use nix::sys::resource::{Resource, setrlimit};
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SIGXFSZ would end the process; ignored, the write fails with EFBIG, as it does with ENOSPC on a full disk.
    ignore(Signal::SIGXFSZ);
    setrlimit(Resource::RLIMIT_FSIZE, bytes, bytes).unwrap();

    #[allow(unsafe_code)]
    fn ignore(which: Signal) {
        // SAFETY: ignoring a signal installs no handler code.
        unsafe { signal(which, SigHandler::SigIgn) }.unwrap();
    }
}

fn child(place: &Place, limit: Option<u64>) -> Child {
    let mut process = Process::new(std::env::current_exe().unwrap());
    process.args(["child_node", "--exact", "--nocapture"]);
    process.env(CHILD, place.dir.path().join("data"));
    if let Some(limit) = limit {
        process.env(LIMIT, limit.to_string());
    }
    process
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_node_is_killed_again_and_again() {
    let place = Place::new("n1");
    place.init().unwrap();
    let (mut acknowledged, mut fenced) = (Vec::new(), 0u64);
    for kill in 0..KILLS {
        let mut node = child(&place, None);
        let out = BufReader::new(node.stdout.take().unwrap());
        let (mut seen, start) = (0, Instant::now());
        // A different moment each time, but always after something was acknowledged.
        let enough = 3 + kill * 7 % 40;
        for line in out.lines() {
            let line = line.unwrap();
            if let Some(name) = line.strip_prefix("acknowledged ") {
                acknowledged.push(name.to_owned());
                seen += 1;
            }
            if let Some(epoch) = line.strip_prefix("fenced ") {
                fenced = epoch.parse().unwrap();
                seen += 1;
            }
            if seen == enough {
                node.kill().unwrap();
            }
            assert!(
                start.elapsed() < PATIENCE,
                "the node of life {kill} acknowledged only {seen}"
            );
        }
        node.wait().unwrap();
        assert!(seen >= enough, "life {kill} ended by itself after {seen}");
    }
    let node = place.open().await;
    node.linearizable().await.unwrap();
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|name| !has_pool(&node, name))
        .collect();
    println!(
        "{KILLS} kills, {} entries acknowledged, {} lost",
        acknowledged.len(),
        lost.len()
    );
    assert!(lost.is_empty(), "{lost:?}");
    assert!(node.fences()[&NodeId(9)] >= Epoch(fenced));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_the_node_with_the_reason_and_costs_nothing_acknowledged() {
    let place = Place::new("n1");
    place.init().unwrap();
    let mut node = child(&place, Some(600 * 1024));
    let out = BufReader::new(node.stdout.take().unwrap());
    let (mut acknowledged, mut reason) = (Vec::new(), None);
    for line in out.lines() {
        let line = line.unwrap();
        if let Some(name) = line.strip_prefix("acknowledged ") {
            acknowledged.push(name.to_owned());
        }
        if let Some(why) = line.strip_prefix("failed ") {
            reason = Some(why.to_owned());
        }
    }
    node.wait().unwrap();
    let reason = reason.expect("the node stops by itself");
    assert!(
        reason.contains("log") && reason.contains("File too large"),
        "{reason}"
    );
    let node = place.open().await;
    node.linearizable().await.unwrap();
    assert!(acknowledged.iter().all(|name| has_pool(&node, name)));
    until("it works again with room", || node.status().quorum_ok).await;
    done(node.propose(pool("again", 60_000u32)).await.unwrap());
    node.shutdown().await;
}
