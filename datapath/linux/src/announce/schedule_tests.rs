use super::*;

const TARGET: Target = Target {
    ifindex: 2,
    mac: [2; 6],
    router: false,
};
const REFRESH: Duration = Duration::from_secs(30);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn vip(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    IpAddr::from([10, 0, high, low])
}

fn schedule() -> Schedule {
    Schedule::new(REFRESH)
}

/// Runs until `end`, as the thread does, and returns when what was announced.
fn run(schedule: &mut Schedule, end: Duration) -> Vec<(u64, IpAddr, Form)> {
    let mut sent = Vec::new();
    while let Some(now) = schedule.next().filter(|next| *next <= end) {
        for made in schedule.due(now) {
            sent.push((now.as_millis() as u64, made.address, made.form));
        }
    }
    sent
}

#[test]
fn a_burst_thins_out_into_a_slow_refresh() {
    let mut schedule = schedule();
    schedule.start(vip(1), TARGET, ms(1000));
    let sent = run(&mut schedule, ms(63_000));
    let times: Vec<u64> = sent.iter().map(|s| s.0).collect();
    let burst = [1000, 1000, 1050, 1100, 1200, 1500, 2000, 3000];
    assert_eq!(times, [&burst[..], &[33_000, 63_000]].concat());
    assert_eq!((sent[0].2, sent[1].2), (Form::Request, Form::Reply));
    assert!(sent[2..].iter().all(|s| s.2 == Form::Both));
}

#[test]
fn an_ipv6_address_has_one_form_and_is_announced_once_at_a_time() {
    let mut schedule = schedule();
    schedule.start("fd00::1".parse().unwrap(), TARGET, ms(0));
    let times: Vec<u64> = run(&mut schedule, ms(2_000)).iter().map(|s| s.0).collect();
    assert_eq!(times, [0, 50, 100, 200, 500, 1000, 2000]);
}

#[test]
fn the_refresh_is_as_slow_as_configured() {
    let mut schedule = Schedule::new(ms(7_000));
    schedule.start(vip(1), TARGET, ms(0));
    run(&mut schedule, ms(2_000));
    let times: Vec<u64> = run(&mut schedule, ms(20_000)).iter().map(|s| s.0).collect();
    assert_eq!(times, [9_000, 16_000]);
}

#[test]
fn nothing_is_due_after_a_stop() {
    let mut schedule = schedule();
    schedule.start(vip(1), TARGET, ms(0));
    schedule.start(vip(2), TARGET, ms(0));
    run(&mut schedule, ms(60));
    schedule.stop(vip(1));
    let after = run(&mut schedule, ms(90_000));
    assert!(!after.is_empty() && after.iter().all(|s| s.1 == vip(2)));
}

#[test]
fn every_address_is_announced_once_before_any_is_twice() {
    let mut schedule = schedule();
    for number in 0..1000 {
        schedule.start(vip(number), TARGET, ms(0));
    }
    let sent = run(&mut schedule, ms(3_000));
    let first: BTreeSet<IpAddr> = sent[..1000].iter().map(|s| s.1).collect();
    assert_eq!(first.len(), 1000);
    assert!(sent[..1000].iter().all(|s| s.2 == Form::Request));
    let second: BTreeSet<IpAddr> = sent[1000..2000].iter().map(|s| s.1).collect();
    assert_eq!(second.len(), 1000);
}

#[test]
fn a_newly_claimed_address_overtakes_the_repeats_of_ten_thousand() {
    let mut schedule = schedule();
    for number in 0..10_000 {
        schedule.start(vip(number), TARGET, ms(0));
    }
    run(&mut schedule, ms(500));
    schedule.start(vip(20_000), TARGET, ms(500));
    let next = schedule.due(ms(500));
    assert_eq!(next[0].address, vip(20_000));
}

#[test]
fn repeats_of_many_addresses_are_paced_and_all_of_them_come() {
    let mut schedule = schedule();
    for number in 0..10_000 {
        schedule.start(vip(number), TARGET, ms(0));
    }
    let sent = run(&mut schedule, ms(10_000));
    let repeats: Vec<_> = sent.iter().filter(|s| s.2 != Form::Request).collect();
    let repeated: BTreeSet<IpAddr> = repeats.iter().map(|s| s.1).collect();
    assert_eq!(repeated.len(), 10_000);
    for second in 0..10 {
        let of_second = |s: &&&(u64, IpAddr, Form)| s.0 / 1000 == second;
        let frames = repeats.iter().filter(of_second).count() * 2;
        assert!(frames <= 10_200, "{frames} frames in second {second}");
    }
}

#[test]
fn a_conflict_is_answered_at_once_but_not_without_end() {
    let mut schedule = schedule();
    schedule.start(vip(1), TARGET, ms(0));
    run(&mut schedule, ms(5_000));
    let mut sent = Vec::new();
    for now in (5_000..6_000).step_by(5) {
        schedule.again(vip(1), ms(now));
        sent.extend(run(&mut schedule, ms(now)));
    }
    let times: Vec<u64> = sent.iter().map(|s| s.0).collect();
    assert_eq!(times[..3], [5_000, 5_100, 5_200]);
    assert_eq!(times.len(), 10);
    assert!(sent.iter().all(|s| s.2 == Form::Both));
}

#[test]
fn a_thread_that_slept_sends_one_announcement_not_all_it_missed() {
    let mut schedule = schedule();
    schedule.start(vip(1), TARGET, ms(0));
    let forms = |made: Vec<Announcement>| made.iter().map(|m| m.form).collect::<Vec<_>>();
    assert_eq!(forms(schedule.due(ms(1_600))), [Form::Request, Form::Both]);
    assert_eq!(forms(schedule.due(ms(1_600))), []);
    assert_eq!(schedule.next(), Some(ms(2_000)));
}
