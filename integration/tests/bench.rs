//! The bench measures what it says: vipd's outages are seen, and so are keepalived's two owners.
//!
//! Needs root, keepalived, and `cargo build -p vipd -p vipctl`.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;
use std::time::Duration;

use vipd_integration::cluster::Binaries;
use vipd_integration::lab::Lab;
use vipd_integration::measure::{self, Contender, Failover, Fault, Relay, Trial, Weather};

/// The file of a report, as text.
fn read(folder: &tempfile::TempDir, name: &str) -> String {
    fs::read_to_string(folder.path().join(name)).unwrap()
}

#[test]
fn a_frozen_holder_is_two_owners_with_keepalived_and_one_with_vipd() {
    let out = tempfile::tempdir().unwrap();
    let wanted = Failover {
        binaries: Binaries::built().unwrap(),
        trials: 1,
        faults: vec![Fault::PowerOff, Fault::Drain, Fault::Freeze],
        vips: vec![1],
        systems: vec![
            "vipd-lan".parse().unwrap(),
            Contender::Keepalived(Duration::from_millis(100)),
        ],
        out: out.path().to_owned(),
        log_level: "info".into(),
        keep_logs: false,
    };
    let trials = measure::failover(&wanted).unwrap();
    let trial = |system: &str, fault| -> &Trial {
        let found = |t: &&Trial| t.system.starts_with(system) && t.fault == fault;
        trials.iter().find(found).unwrap()
    };

    // keepalived has no drain: five trials, not six.
    assert_eq!(trials.len(), 5, "{trials:?}");
    // Without its lease a lost holder could not be replaced before it is over: less would be a mistake of the bench.
    let lost = trial("vipd", Fault::PowerOff).seen.outage;
    assert!(lost > Duration::from_millis(90), "{lost:?}");
    let lost = trial("keepalived", Fault::PowerOff).seen.outage;
    assert!(lost > Duration::from_millis(200), "{lost:?}");
    for trial in &trials {
        let (seen, vipd) = (&trial.seen, trial.system.starts_with("vipd"));
        assert!(!trial.dark, "{trial:?}");
        if vipd {
            assert_eq!(seen.overlap, Some(Duration::ZERO), "{trial:?}");
        } else if trial.fault == Fault::Freeze {
            assert!(seen.overlap > Some(Duration::from_millis(200)), "{trial:?}");
        }
    }

    let raw: serde_json::Value = serde_json::from_str(&read(&out, "failover.json")).unwrap();
    assert_eq!(raw["trials"].as_array().unwrap().len(), 5);
    let table = read(&out, "failover.md");
    assert!(table.contains("| freeze | "), "{table}");
    assert!(table.contains("two owners for"), "{table}");
    assert_eq!(read(&out, "failover.svg").matches("<circle").count(), 5);
}

#[test]
fn many_vips_are_all_served_again() {
    let out = tempfile::tempdir().unwrap();
    let wanted = Failover {
        binaries: Binaries::built().unwrap(),
        trials: 1,
        faults: vec![Fault::PowerOff],
        vips: vec![50],
        systems: vec!["vipd-lan".parse().unwrap()],
        out: out.path().to_owned(),
        log_level: "info".into(),
        keep_logs: false,
    };
    let trials = measure::failover(&wanted).unwrap();
    let [trial] = &trials[..] else {
        panic!("{trials:?}");
    };
    assert_eq!((trial.vips, trial.seen.lost), (50, 0), "{trial:?}");
    assert!(trial.seen.median_vip <= trial.seen.outage, "{trial:?}");
    assert!(trial.seen.announced.is_some(), "{trial:?}");
}

#[test]
fn a_relay_loses_some_frames_and_delays_the_others() {
    let lab = Lab::new(&["n1", "n2"]).unwrap();
    let (host, other) = (lab.host("n1"), lab.host("n2"));
    let ping = || -> (u32, f64) {
        let address = host.v4().to_string();
        let mut ping = Command::new("ping");
        ping.args(["-q", "-c", "100", "-i", "0.01", "-W", "1", &address]);
        let said = String::from_utf8(other.run(&mut ping).unwrap().stdout).unwrap();
        let part = |end: &str| said.split(end).next().unwrap().rsplit(' ').next().unwrap();
        let received = part(" received").parse().unwrap();
        // rtt min/avg/max/mdev = 0.021/0.034/0.059/0.010 ms
        let average = said
            .rsplit(" = ")
            .next()
            .unwrap()
            .split('/')
            .nth(1)
            .unwrap();
        (received, average.parse().unwrap())
    };
    let (received, average) = ping();
    assert_eq!(received, 100);
    assert!(average < 5.0, "{average} ms without any relay");

    let weather = Weather {
        loss: 20.0,
        jitter: Duration::from_millis(20),
    };
    let _relay = Relay::install(&lab, host, weather).unwrap();
    let (received, average) = ping();
    // Lost are a fifth of the requests and of the answers: 64 of 100 return, within five deviations of that.
    assert!((40..=88).contains(&received), "{received} of 100 returned");
    assert!((10.0..40.0).contains(&average), "{average} ms on average");
}
