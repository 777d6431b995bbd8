//! Power cuts: the node writes to a file system in an image, the image is copied while the node is frozen, and the copy is
//! mounted as a machine would after the cut. What was acknowledged must be there. Needs root, for the mounts; they are
//! made in a mount namespace of the test's own, so that nothing is left behind however it ends.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use common::{PATIENCE, Place, has_pool, pool};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use vipd_raft::{RaftNode, Settings};

/// How often the power is cut.
const CUTS: u32 = 12;
const CHILD: &str = "VIPD_RAFT_TEST_POWER_CUT";

/// Not a test of its own: the node whose power is cut. It says what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_node() {
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    let mut settings = Settings::new(dir.into(), "127.0.0.1:0".parse().unwrap());
    settings.snapshot_every = 40;
    settings.keep_behind = 10;
    let node = RaftNode::open(settings).await.unwrap();
    for i in node.status().last_log.. {
        let name = format!("p-{i}");
        node.propose(pool(&name, u32::try_from(i).unwrap()))
            .await
            .unwrap()
            .unwrap();
        println!("\nacknowledged {name}");
    }
}

/// A file system in a file, mounted for as long as this exists.
struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Path, at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        run(Process::new("mount")
            .args(["-o", "loop"])
            .arg(image)
            .arg(at));
        Self(at.to_path_buf())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run(Process::new("umount").arg(&self.0));
    }
}

fn run(process: &mut Process) {
    let out = process.output().unwrap();
    assert!(
        out.status.success(),
        "{process:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// A mount namespace for this thread and what it starts. The runtime of these tests is made inside it.
fn own_mounts() {
    assert!(
        Uid::effective().is_root(),
        "this test mounts file systems: run it as root"
    );
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
    run(Process::new("mount").args(["--make-rprivate", "/"]));
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_is_cut() {
    own_mounts();
    let temp = tempfile::tempdir().unwrap();
    let (image, copy) = (temp.path().join("disk"), temp.path().join("copy"));
    std::fs::File::create(&image)
        .unwrap()
        .set_len(96 << 20)
        .unwrap();
    run(Process::new("mkfs.ext4").arg("-q").arg(&image));
    let place = Place::new("n1");
    let mut acknowledged = Vec::new();
    {
        let disk = Mounted::new(&image, &temp.path().join("first"));
        place.init_in(&disk.0.join("data"));
    }
    for cut in 0..CUTS {
        let disk = Mounted::new(&image, &temp.path().join(format!("life-{cut}")));
        acknowledged.extend(live_until_cut(
            &disk.0.join("data"),
            &image,
            &copy,
            20 + cut * 13 % 60,
        ));
        drop(disk);
        // The machine that comes back has what the image held at that moment.
        std::fs::rename(&copy, &image).unwrap();
    }
    let disk = Mounted::new(&image, &temp.path().join("last"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let lost: Vec<String> = runtime.block_on(async {
        let node = RaftNode::open(Settings::new(disk.0.join("data"), place.addr))
            .await
            .unwrap();
        node.linearizable().await.unwrap();
        let lost = acknowledged
            .iter()
            .filter(|name| !has_pool(&node, name))
            .cloned()
            .collect();
        node.shutdown().await;
        lost
    });
    println!(
        "{CUTS} power cuts, {} entries acknowledged, {} lost",
        acknowledged.len(),
        lost.len()
    );
    assert!(lost.is_empty(), "{lost:?}");
}

/// Runs the node on `data`, freezes it after `enough` acknowledgements, copies the image, kills it; returns what it had
/// acknowledged before the copy.
fn live_until_cut(data: &Path, image: &Path, copy: &Path, enough: u32) -> Vec<String> {
    let mut node = Process::new(std::env::current_exe().unwrap())
        .args(["child_node", "--exact", "--nocapture"])
        .env(CHILD, data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = BufReader::new(node.stdout.take().unwrap());
    let (mut seen, start) = (Vec::new(), Instant::now());
    for line in out.lines() {
        if let Some(name) = line.unwrap().strip_prefix("acknowledged ") {
            seen.push(name.to_owned());
        }
        if seen.len() >= enough as usize {
            break;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "only {} acknowledged",
            seen.len()
        );
    }
    assert!(
        seen.len() >= enough as usize,
        "the node ended by itself after {}",
        seen.len()
    );
    kill(
        Pid::from_raw(i32::try_from(node.id()).unwrap()),
        Signal::SIGSTOP,
    )
    .unwrap();
    wait_until_stopped(node.id());
    std::fs::copy(image, copy).unwrap();
    node.kill().unwrap();
    node.wait().unwrap();
    seen
}

fn wait_until_stopped(pid: u32) {
    let start = Instant::now();
    let tasks = PathBuf::from(format!("/proc/{pid}/task"));
    let running = || {
        let states = std::fs::read_dir(&tasks).unwrap().map(|task| {
            let stat =
                std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
            stat.rsplit(") ")
                .next()
                .and_then(|rest| rest.chars().next())
        });
        states
            .into_iter()
            .any(|state| state.is_some_and(|state| state != 'T'))
    };
    while running() {
        assert!(start.elapsed() < PATIENCE, "the node does not stop");
        std::thread::sleep(Duration::from_millis(1));
    }
}
