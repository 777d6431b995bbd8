//! A lab ends with the process that made it, however that one ends.
#![allow(clippy::unwrap_used)]

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vipd_integration::lab::Lab;

/// Not a test: the victim of the tests below, which run it in a process of its own.
#[test]
#[ignore = "started by the other tests of this file"]
fn a_process_with_a_lab() {
    let lab = Lab::new(&["n1"]).unwrap();
    lab.host("n1")
        .spawn("sleeper", Command::new("sleep").arg("600"))
        .unwrap();
    std::fs::write(lab.dir().join("ready"), "").unwrap();
    sleep(Duration::from_secs(30));
}

fn start_victim() -> (Child, String) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "a_process_with_a_lab"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let name = format!("vipdlab-{}-0", child.id());
    let ready = std::env::temp_dir().join(&name).join("ready");
    wait_until("the victim has its lab", || ready.exists());
    (child, name)
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < until, "in vain: {what}");
        sleep(Duration::from_millis(10));
    }
}

fn leftovers(name: &str) -> usize {
    let folders = [std::path::Path::new("/run/netns"), &std::env::temp_dir()];
    let entries = folders
        .into_iter()
        .flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(name))
        .count()
}

#[test]
fn a_lab_whose_owner_was_killed_is_removed_by_the_next_lab() {
    let (mut victim, name) = start_victim();
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(leftovers(&name) > 0, "the test proves nothing");
    drop(Lab::new(&[]).unwrap());
    assert_eq!(leftovers(&name), 0);
}

#[test]
fn a_lab_whose_owner_is_asked_to_end_is_removed_at_once() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let (mut victim, name) = start_victim();
        kill(Pid::from_raw(victim.id().cast_signed()), signal).unwrap();
        assert_eq!(victim.wait().unwrap().code(), Some(code));
        assert_eq!(leftovers(&name), 0, "{signal}");
    }
}

#[test]
fn a_lab_whose_owner_lives_is_left_alone() {
    let (mut victim, name) = start_victim();
    let before = leftovers(&name);
    drop(Lab::new(&[]).unwrap());
    assert_eq!(leftovers(&name), before);
    kill(Pid::from_raw(victim.id().cast_signed()), Signal::SIGTERM).unwrap();
    victim.wait().unwrap();
}
