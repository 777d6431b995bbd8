use std::net::IpAddr;

use vipd_datapath_common::balance::{SLOTS, backend_flags, service_flags};

use super::*;
use crate::balance::{
    Dispatch, Forward, Protocol, Services, WantedBackend, WantedService,
    goal::{self, Reach, Reaches},
};

fn frontend(port: u16) -> Frontend {
    Frontend {
        address: "10.0.0.7".parse().unwrap(),
        port,
        protocol: Protocol::Tcp,
    }
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 1, last])
}

fn service(backends: &[(u8, u32)]) -> Arc<WantedService> {
    let backend = |(last, weight): &(u8, u32)| WantedBackend {
        address: address(*last),
        port: 8080,
        weight: *weight,
        draining: false,
    };
    Arc::new(WantedService {
        mode: Forward::Nat,
        backends: backends.iter().map(backend).collect(),
        keep: false,
        affinity: None,
        ranges: Vec::new(),
    })
}

/// All of 10.0.1.0/24, on a link.
fn reaches() -> Reaches {
    let reach = Reach {
        ifindex: 2,
        local: false,
        on_link: true,
        source: None,
        link: None,
        mtu: None,
    };
    (0..=255).map(|last| (address(last), Some(reach))).collect()
}

fn goal(services: &Services, reaches: &Reaches) -> Goal {
    let host = goal::Host {
        covered: [2].into(),
        loopback: BTreeSet::new(),
    };
    goal::goal(services, reaches, &host)
}

/// Does a plan on a model of the maps, and checks after each step that whatever is named is there.
fn run(goal: &Goal, actual: &mut Actual) -> Vec<Step> {
    let steps = plan(goal, actual);
    let in_use: BTreeSet<u32> = actual
        .services
        .values()
        .map(|service| service.table)
        .collect();
    let named: BTreeSet<u32> = actual
        .tables
        .values()
        .flat_map(|table| table.names.clone())
        .collect();
    for step in &steps {
        assert!(actual.has_what_it_names(step), "{step:?}");
        match step {
            Step::DropTable(number) => assert!(!in_use.contains(number), "still being read"),
            Step::DropBackend(number) => assert!(!named.contains(number), "still being read"),
            Step::Table(number, _, slots) => {
                assert!(!actual.tables.contains_key(number), "changed in place");
                assert_eq!(slots.len(), SLOTS);
            }
            _ => {}
        }
        actual.note(step);
        for service in actual.services.values() {
            let table = actual
                .tables
                .get(&service.table)
                .expect("a service without a table");
            let names = &table.names;
            assert!(
                names
                    .iter()
                    .all(|number| actual.backends.contains_key(number))
            );
        }
    }
    steps
}

/// Until nothing is left to do, which must be soon.
fn settle(goal: &Goal, actual: &mut Actual) {
    run(goal, actual);
    run(goal, actual);
    run(goal, actual);
    assert_eq!(plan(goal, actual), [], "it does not come to an end");
}

fn backends_of(actual: &Actual, frontend: Frontend) -> BTreeSet<IpAddr> {
    let table = &actual.tables[&actual.services[&frontend].table];
    let address = |number| Spot::of(&actual.backends[number]).address;
    table.names.iter().map(address).collect()
}

#[test]
fn a_service_is_made_from_the_backend_up() {
    let services: Services = [(frontend(80), service(&[(1, 1)]))].into();
    let mut actual = Actual::default();
    let steps = run(&goal(&services, &reaches()), &mut actual);
    let kinds: Vec<&str> = steps
        .iter()
        .map(|step| match step {
            Step::Backend(..) => "backend",
            Step::Table(..) => "table",
            Step::Tally(_) => "tally",
            Step::Service(..) => "service",
            _ => "other",
        })
        .collect();
    assert_eq!(
        kinds,
        ["backend", "table", "tally", "tally", "tally", "service"]
    );
    assert_eq!(plan(&goal(&services, &reaches()), &actual), []);
}

#[test]
fn a_change_of_backends_is_a_new_table_and_one_write_of_the_service() {
    let mut actual = Actual::default();
    let before: Services = [(frontend(80), service(&[(1, 1), (2, 1)]))].into();
    settle(&goal(&before, &reaches()), &mut actual);
    let old = actual.services[&frontend(80)];
    let after: Services = [(frontend(80), service(&[(1, 1)]))].into();
    let goal = goal(&after, &reaches());
    let steps = run(&goal, &mut actual);
    let [
        Step::Table(number, ..),
        Step::Service(_, new),
        Step::DropTally(_),
    ] = &steps[..]
    else {
        panic!("{steps:?}");
    };
    assert_eq!((new.table, new.id), (*number, old.id));
    assert!(
        actual.tables.contains_key(&old.table),
        "a program may be reading it"
    );
    assert_eq!(run(&goal, &mut actual), [Step::DropTable(old.table)]);
    let steps = run(&goal, &mut actual);
    assert!(matches!(steps[..], [Step::DropBackend(_)]), "{steps:?}");
    assert_eq!(plan(&goal, &actual), []);
}

#[test]
fn without_services_nothing_stays() {
    let mut actual = Actual::default();
    let services: Services = [
        (frontend(80), service(&[(1, 1)])),
        (frontend(81), service(&[])),
    ]
    .into();
    settle(&goal(&services, &reaches()), &mut actual);
    settle(&Goal::default(), &mut actual);
    let last = actual.last;
    assert_eq!(
        actual,
        Actual {
            last,
            ..Actual::default()
        }
    );
}

#[test]
fn a_service_without_backends_has_an_empty_table() {
    let mut actual = Actual::default();
    let services: Services = [(frontend(80), service(&[]))].into();
    settle(&goal(&services, &reaches()), &mut actual);
    assert!(backends_of(&actual, frontend(80)).is_empty());
}

#[test]
fn services_of_the_same_backends_share_a_table() {
    let same = service(&[(1, 1), (2, 2)]);
    let services: Services = (80..90)
        .map(|port| (frontend(port), Arc::clone(&same)))
        .collect();
    let mut actual = Actual::default();
    settle(&goal(&services, &reaches()), &mut actual);
    assert_eq!((actual.services.len(), actual.tables.len()), (10, 1));
    let ids: BTreeSet<u32> = actual.services.values().map(|service| service.id).collect();
    assert_eq!(ids.len(), 10, "each is counted by itself");
}

#[test]
fn a_backend_that_moves_to_this_host_is_written_in_place() {
    let mut actual = Actual::default();
    let services: Services = [(frontend(80), service(&[(1, 1)]))].into();
    settle(&goal(&services, &reaches()), &mut actual);
    let mut elsewhere = reaches();
    let here = Reach {
        ifindex: 1,
        local: true,
        on_link: true,
        source: None,
        link: None,
        mtu: None,
    };
    elsewhere.insert(address(1), Some(here));
    let steps = run(&goal(&services, &elsewhere), &mut actual);
    let [Step::Backend(_, backend)] = steps[..] else {
        panic!("{steps:?}");
    };
    assert_eq!((backend.ifindex, backend.flags), (1, backend_flags::LOCAL));
}

#[test]
fn a_backend_that_nothing_leads_to_any_more_keeps_its_number() {
    let mut actual = Actual::default();
    let services: Services = [(frontend(80), service(&[(1, 1), (2, 1)]))].into();
    settle(&goal(&services, &reaches()), &mut actual);
    let before = actual.backends.clone();
    let mut fewer = reaches();
    fewer.insert(address(2), None);
    settle(&goal(&services, &fewer), &mut actual);
    assert_eq!(backends_of(&actual, frontend(80)), [address(1)].into());
    settle(&goal(&services, &reaches()), &mut actual);
    assert_eq!(actual.backends, before);
}

/// What the next daemon reads back.
fn read_back(actual: &Actual) -> Actual {
    let mut read = actual.clone();
    for table in read.tables.values_mut() {
        table.recipe = None;
    }
    let ids = read.services.values().map(|service| service.id);
    let numbers = ids.chain(read.backends.keys().copied());
    read.last = numbers
        .chain(read.tables.keys().copied())
        .max()
        .unwrap_or(0);
    read
}

#[test]
fn the_next_daemon_finds_everything_as_it_shall_be_and_writes_nothing() {
    let mut actual = Actual::default();
    let services: Services = [
        (frontend(80), service(&[(1, 1), (2, 3)])),
        (frontend(81), service(&[(9, 1)])),
        (frontend(82), service(&[])),
    ]
    .into();
    let goal = goal(&services, &reaches());
    settle(&goal, &mut actual);
    let mut read = read_back(&actual);
    let steps = run(&goal, &mut read);
    assert!(
        steps.iter().all(|step| matches!(step, Step::Adopt(..))),
        "{steps:?}"
    );
    assert_eq!(read, actual);
}

#[test]
fn another_mode_is_one_write_of_the_service() {
    let mut actual = Actual::default();
    let nat = service(&[(1, 1)]);
    let dsr = Arc::new(WantedService {
        mode: Forward::Dsr(Dispatch::L2),
        ..(*nat).clone()
    });
    settle(
        &goal(&[(frontend(80), nat)].into(), &reaches()),
        &mut actual,
    );
    let steps = run(
        &goal(&[(frontend(80), dsr)].into(), &reaches()),
        &mut actual,
    );
    let [Step::Service(_, service)] = steps[..] else {
        panic!("{steps:?}");
    };
    assert_eq!(service.flags, service_flags::DSR);
}

#[test]
fn more_backends_than_can_be_counted_are_counted_as_far_as_there_is_room() {
    let many: Vec<(u8, u32)> = (0..=255).map(|last| (last, 1)).collect();
    let same = service(&many);
    let services: Services = (1..=600)
        .map(|port| (frontend(port), Arc::clone(&same)))
        .collect();
    let goal = goal(&services, &reaches());
    let mut actual = Actual::default();
    plan(&goal, &actual)
        .iter()
        .for_each(|step| actual.note(step));
    assert_eq!(actual.tallies.len(), max_entries::TALLY);
    let of_services = actual.tallies.iter().filter(|key| key.backend == 0);
    assert_eq!(
        of_services.count(),
        601,
        "each service, and what belongs to none"
    );
    assert_eq!(
        plan(&goal, &actual),
        [],
        "and nothing is tried again and again"
    );
}

/// As `service`, for these clients only.
fn admitting(prefixes: &[(&str, u8)]) -> Arc<WantedService> {
    let ranges = prefixes.iter();
    Arc::new(WantedService {
        affinity: Some(std::time::Duration::from_secs(60)),
        ranges: ranges
            .map(|(address, length)| (address.parse().unwrap(), *length))
            .collect(),
        ..(*service(&[(1, 1)])).clone()
    })
}

#[test]
fn clients_are_admitted_before_the_service_asks_for_it_and_dismissed_after() {
    let mut actual = Actual::default();
    let mut then = |service: Arc<WantedService>| {
        let goal = goal(&[(frontend(80), service)].into(), &reaches());
        let steps = run(&goal, &mut actual);
        settle(&goal, &mut actual);
        let kinds = steps.iter().filter_map(|step| match step {
            Step::Range(_, prefix) => Some(format!("+{}/{}", prefix.address, prefix.length)),
            Step::DropRange(_, prefix) => Some(format!("-{}/{}", prefix.address, prefix.length)),
            Step::Service(_, service) => Some(format!("{:#x}", service.flags)),
            _ => None,
        });
        kinds.collect::<Vec<_>>()
    };
    let asks = format!(
        "{:#x}",
        service_flags::NAT | service_flags::BY_CLIENT | service_flags::RANGES
    );
    let lan = ("10.1.2.3", 8);
    assert_eq!(
        then(admitting(&[lan, ("fd00::", 8)])),
        ["+10.0.0.0/8", &asks]
    );
    assert_eq!(
        then(admitting(&[("192.0.2.0", 24)])),
        ["+192.0.2.0/24", "-10.0.0.0/8"]
    );
    // Of the other family only: nobody.
    assert_eq!(then(admitting(&[("fd00::", 8)])), ["-192.0.2.0/24"]);
    assert_eq!(then(admitting(&[lan])), ["+10.0.0.0/8"]);
    assert_eq!(then(service(&[(1, 1)])), ["0x1", "-10.0.0.0/8"]);
    assert!(actual.ranges.is_empty());
}

#[test]
fn who_answers_to_the_ports_of_a_service_is_known_before_that_and_forgotten_after() {
    let mut actual = Actual::default();
    let answering = |actual: &Actual| -> Vec<String> {
        let ours = actual.ranges.iter().filter(|(of, _)| *of == Range::ANSWERS);
        ours.map(|(_, prefix)| format!("{}/{}", prefix.address, prefix.length))
            .collect()
    };
    for (port, expected) in [(80, vec![]), (0, vec!["10.0.1.1/32", "10.0.1.2/32"])] {
        let all = [(frontend(port), service(&[(1, 1), (2, 0)]))].into();
        let goal = goal(&all, &reaches());
        let steps = run(&goal, &mut actual);
        let place = |wanted: fn(&Step) -> bool| steps.iter().position(wanted);
        let range = place(|step| matches!(step, Step::Range(..)));
        let named = place(|step| matches!(step, Step::Service(..)));
        assert!(range < named, "none is less than any: {steps:?}");
        settle(&goal, &mut actual);
        assert_eq!(answering(&actual), expected);
    }
    settle(&goal(&Services::new(), &reaches()), &mut actual);
    assert_eq!(answering(&actual), [""; 0]);
}

/// A generator for tests: the same numbers each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(bound)) as u32
    }

    fn services(&mut self) -> Services {
        let mut services = Services::new();
        for _ in 0..self.below(5) {
            let backends: Vec<(u8, u32)> = (0..self.below(4))
                .map(|_| (self.below(6) as u8, self.below(3)))
                .collect();
            services.insert(frontend(80 + self.below(4) as u16), service(&backends));
        }
        services
    }

    fn reaches(&mut self) -> Reaches {
        let mut reaches = reaches();
        if self.below(2) == 0 {
            reaches.insert(address(self.below(6) as u8), None);
        }
        reaches
    }
}

#[test]
fn whatever_is_wanted_one_after_the_other_nothing_is_ever_named_that_is_not_there() {
    let mut chance = Chance(42);
    let mut actual = Actual::default();
    for round in 0..400 {
        let goal = goal(&chance.services(), &chance.reaches());
        // Not always to the end; sometimes by the next daemon; sometimes steps fail.
        for _ in 0..chance.below(3) {
            run(&goal, &mut actual);
        }
        match chance.below(8) {
            0 => actual = read_back(&actual),
            1 => {
                for step in plan(&goal, &actual) {
                    let fails = chance.below(3) == 0 || !actual.has_what_it_names(&step);
                    if !fails {
                        actual.note(&step);
                    }
                }
            }
            _ => {}
        }
        let mut settled = actual.clone();
        settle(&goal, &mut settled);
        assert_eq!(settled.services.len(), goal.services.len(), "round {round}");
        let recipes: BTreeSet<&Recipe> = goal.services.values().map(|want| &want.recipe).collect();
        assert_eq!(settled.tables.len(), recipes.len());
        assert_eq!(settled.backends.len(), goal.spots.len());
        for (frontend, want) in &goal.services {
            let spots: BTreeSet<IpAddr> =
                want.recipe.iter().map(|(spot, _)| spot.address).collect();
            assert_eq!(backends_of(&settled, *frontend), spots, "round {round}");
        }
    }
}

#[test]
fn ends_of_backends_are_known_by_their_numbers_and_forgotten_with_their_services() {
    let mut actual = Actual::default();
    let keeping = Arc::new(WantedService {
        keep: true,
        ..(*service(&[(1, 1)])).clone()
    });
    let kept = goal(&[(frontend(80), keeping)].into(), &reaches());
    settle(&kept, &mut actual);
    let [(end, answer)] = actual.answers.iter().collect::<Vec<_>>()[..] else {
        panic!("{:?}", actual.answers);
    };
    assert_eq!((end.address, end.port), (address(1), 8080));
    assert_eq!(IpAddr::from(answer.vip), frontend(80).address);
    assert_eq!(u16::from_be_bytes(answer.port), 80);
    let backend = &actual.backends[&answer.backend];
    assert_eq!(IpAddr::from(backend.address), address(1));
    assert_eq!(plan(&kept, &actual), []);

    let plain = goal(&[(frontend(80), service(&[(1, 1)]))].into(), &reaches());
    settle(&plain, &mut actual);
    assert!(actual.answers.is_empty());
}

#[path = "plan_tests_members.rs"]
mod members;
