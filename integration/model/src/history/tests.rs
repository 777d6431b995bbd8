//! The checker must find planted faults, and nothing where there is none.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::{Call, Counted, Op, Said, check};

/// A script of calls at given milliseconds.
struct Script {
    start: Instant,
    clients: Vec<Vec<Call>>,
}

fn address(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))
}

impl Script {
    fn new(clients: usize) -> Self {
        Self {
            start: Instant::now(),
            clients: vec![Vec::new(); clients],
        }
    }

    /// `client` asks at `from` and is told `said` at `to`, or never.
    fn call(mut self, client: usize, from: u64, op: Op, said: Option<(u64, Said)>) -> Self {
        let at = |ms| self.start + Duration::from_millis(ms);
        let call = Call {
            asked: at(from),
            op,
            said: said.map(|(to, said)| (at(to), said)),
        };
        self.clients[client].push(call);
        self
    }

    fn check(&self) -> Result<Counted, String> {
        check(&self.clients, Duration::from_secs(10)).map_err(|why| why.to_string())
    }
}

fn put(name: &str) -> Op {
    Op::Put(name.to_owned())
}

fn get(name: &str) -> Op {
    Op::Get(name.to_owned())
}

fn delete(name: &str) -> Op {
    Op::Delete(name.to_owned())
}

#[test]
fn a_history_that_reads_as_one_order_passes() {
    let counted = Script::new(2)
        .call(0, 0, put("a"), Some((10, Said::Has(address(1)))))
        .call(1, 5, get("a"), Some((15, Said::Absent)))
        .call(1, 20, get("a"), Some((25, Said::Has(address(1)))))
        .call(0, 30, delete("a"), Some((40, Said::Deleted)))
        .call(1, 45, put("b"), Some((50, Said::Has(address(1)))))
        .check();
    let (calls, unknown) = (5, 0);
    assert_eq!(counted, Ok(Counted { calls, unknown }));
}

#[test]
fn a_lost_write_is_found() {
    let lost = Script::new(2)
        .call(0, 0, put("a"), Some((10, Said::Has(address(1)))))
        .call(1, 20, get("a"), Some((25, Said::Absent)))
        .check();
    assert!(lost.unwrap_err().contains("not linearizable"));
}

#[test]
fn an_address_given_twice_is_found() {
    let twice = Script::new(2)
        .call(0, 0, put("a"), Some((10, Said::Has(address(1)))))
        .call(1, 5, put("b"), Some((15, Said::Has(address(1)))))
        .check();
    assert!(twice.is_err());
}

#[test]
fn an_address_that_changes_under_a_vip_is_found() {
    let changed = Script::new(1)
        .call(0, 0, put("a"), Some((10, Said::Has(address(1)))))
        .call(0, 20, get("a"), Some((25, Said::Has(address(2)))))
        .check();
    assert!(changed.is_err());
}

#[test]
fn a_stale_read_is_found() {
    let stale = Script::new(2)
        .call(0, 0, put("a"), Some((10, Said::Has(address(1)))))
        .call(0, 20, delete("a"), Some((30, Said::Deleted)))
        .call(1, 40, get("a"), Some((45, Said::Has(address(1)))))
        .check();
    assert!(stale.is_err());
}

#[test]
fn what_nobody_knows_the_outcome_of_may_have_happened_late_or_never() {
    let unknown = |script: Script| script.call(0, 0, put("a"), None);
    unknown(Script::new(2))
        .call(1, 20, get("a"), Some((25, Said::Absent)))
        .check()
        .unwrap();
    unknown(Script::new(2))
        .call(0, 10, get("a"), Some((15, Said::Absent)))
        .call(1, 20, get("a"), Some((25, Said::Has(address(1)))))
        .check()
        .unwrap();
    let gone_again = unknown(Script::new(2))
        .call(1, 20, get("a"), Some((25, Said::Has(address(1)))))
        .call(1, 30, get("a"), Some((35, Said::Absent)))
        .check();
    assert!(gone_again.is_err(), "once seen, it is there");
}

#[test]
fn what_nobody_knows_the_outcome_of_takes_no_address_of_another() {
    let taken = Script::new(2)
        .call(0, 0, put("a"), None)
        .call(1, 5, put("b"), Some((10, Said::Has(address(1)))))
        .call(1, 20, get("a"), Some((25, Said::Has(address(1)))))
        .check();
    assert!(taken.is_err());
}
