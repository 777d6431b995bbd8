//! What the daemon makes of wanted services in the kernel's maps. No packet passes here: that is tests/balance.rs.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use support::{
    VIP4, VIP6,
    lan::{balanced, frontend, service, services},
    run, with_net,
};
use vipd_datapath::{
    Bounds, Datapath, Dispatch, Flow, FlowFilter, FlowKey, FlowNews, FlowRecord, Forward, Gate,
    Kernel, Lens, Options, Protocol, Records, ServiceSeen, Services, Times, Wanted, Why,
    boottime_ns,
};
use vipd_datapath_common::{
    AddressKey,
    balance::{Progress, flow_flags},
};

fn made(news: FlowNews) -> FlowRecord {
    match news {
        FlowNews::Made(record) => record,
        other => panic!("{other:?}"),
    }
}

fn shares(service: &ServiceSeen) -> Vec<(String, usize)> {
    let share = |backend: &vipd_datapath::BackendSeen| (backend.address.to_string(), backend.share);
    service.backends.iter().map(share).collect()
}

#[test]
fn services_come_change_and_go_as_they_are_wanted() {
    with_net(|net| async {
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        let lens = kernel.lens().unwrap();
        kernel
            .apply(&balanced(services(Forward::Nat, &[(11, 1), (12, 3)])))
            .await
            .unwrap();
        let seen = lens.services(None).unwrap();
        assert_eq!(seen.len(), 4);
        let of = frontend(VIP4, 80, Protocol::Tcp);
        let one = seen.iter().find(|service| service.frontend == of).unwrap();
        assert_eq!(one.mode, Forward::Nat);
        let [(_, a), (_, b)] = &shares(one)[..] else {
            panic!("{one:?}");
        };
        assert!(a + b == 8171 && (3 * a).abs_diff(*b) <= 6, "{a} {b}");
        let index = nix::net::if_::if_nametoindex("lan").unwrap();
        assert!(
            one.backends
                .iter()
                .all(|it| it.ifindex == index && !it.local)
        );
        let udp = lens
            .services(Some(frontend(VIP4, 80, Protocol::Udp)))
            .unwrap();
        assert_eq!(udp[0].table, one.table, "the same backends: the same table");

        kernel
            .apply(&balanced(services(Forward::Dsr(Dispatch::L2), &[(12, 1)])))
            .await
            .unwrap();
        let after = lens.services(Some(of)).unwrap();
        assert_eq!(after[0].mode, Forward::Dsr(Dispatch::L2));
        assert_eq!(shares(&after[0]), [("10.9.0.12".to_owned(), 8171)]);
        let table = lens.table(of).unwrap().unwrap();
        assert_eq!(table.backends, [("10.9.0.12".parse().unwrap(), 0)]);
        assert!(table.slots.iter().all(|slot| *slot == Some(0)));

        kernel.apply(&balanced(Services::new())).await.unwrap();
        assert_eq!(lens.services(None).unwrap(), []);
        assert_eq!(lens.table(of).unwrap(), None);
        kernel.remove().await.unwrap();
    });
}

#[test]
fn the_next_daemon_goes_on_with_the_same_tables() {
    with_net(|net| async {
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        let wanted = balanced(services(Forward::Nat, &[(11, 1), (12, 2)]));
        kernel.apply(&wanted).await.unwrap();
        let before = kernel.lens().unwrap().services(None).unwrap();
        drop(kernel);
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        kernel.apply(&wanted).await.unwrap();
        kernel.apply(&wanted).await.unwrap();
        assert_eq!(kernel.lens().unwrap().services(None).unwrap(), before);
        kernel.remove().await.unwrap();
    });
}

#[test]
fn a_backend_is_left_out_while_no_route_leads_to_it() {
    with_net(|net| async {
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        let lens = kernel.lens().unwrap();
        let of = frontend(VIP4, 80, Protocol::Tcp);
        let mut backends = (*service(VIP4, Forward::Nat, 80, &[(11, 1), (1, 1), (12, 1)])).clone();
        backends.backends[2].address = "198.51.100.7".parse().unwrap();
        let wanted = balanced([(of, Arc::new(backends))].into());
        kernel.apply(&wanted).await.unwrap();
        let left = kernel.observe().await.unwrap().left_out;
        assert_eq!(left.len(), 1);
        assert_eq!(
            (left[0].backend.to_string(), left[0].why),
            ("198.51.100.7".to_owned(), Why::Unreachable)
        );
        let seen = lens.services(Some(of)).unwrap().remove(0);
        let local: Vec<bool> = seen.backends.iter().map(|backend| backend.local).collect();
        assert_eq!(local, [true, false, false], "10.9.0.1 is this host");
        assert_eq!(seen.backends[2].share, 0);

        // Behind a router, from then on.
        run(
            "ip",
            &["route", "add", "198.51.100.0/24", "via", "10.9.0.2"],
        );
        kernel.apply(&wanted).await.unwrap();
        assert!(kernel.observe().await.unwrap().left_out.is_empty());
        let seen = lens.services(Some(of)).unwrap().remove(0);
        assert!(
            seen.backends.iter().all(|backend| backend.share > 2700),
            "{seen:?}"
        );

        let mut direct = (*wanted.services[&of]).clone();
        direct.mode = Forward::Dsr(Dispatch::L2);
        let direct = balanced([(of, Arc::new(direct))].into());
        kernel.apply(&direct).await.unwrap();
        let left = kernel.observe().await.unwrap().left_out;
        assert_eq!(left[0].why, Why::BehindRouter);
        run("ip", &["link", "set", "lan", "down"]);
        kernel.apply(&direct).await.unwrap();
        assert_eq!(kernel.observe().await.unwrap().left_out.len(), 2);
        kernel.remove().await.unwrap();
    });
}

fn record(client: u16, backend: &str) -> FlowRecord {
    let key = |address: &str| AddressKey::from(address.parse::<IpAddr>().unwrap());
    let [port, http] = [client, 80].map(u16::to_be_bytes);
    FlowRecord {
        key: FlowKey {
            source: key("10.9.0.2"),
            destination: key(VIP4),
            source_port: port,
            destination_port: http,
            protocol: 6,
            reserved: [0; 3],
        },
        flow: Flow {
            source: key(VIP4),
            destination: key(backend),
            source_port: port,
            destination_port: 8080u16.to_be_bytes(),
            ifindex: 4711,
            flags: 0,
            progress: Progress::default(),
            backend: 4712,
            service: 4713,
            seen: 1,
            packets: 5,
            bytes: 6,
        },
    }
}

fn known(lens: &dyn Lens) -> Vec<(u16, String)> {
    let flows = lens.flows(&FlowFilter::default(), 100).unwrap().flows;
    let mut known: Vec<_> = flows
        .iter()
        .map(|flow| (flow.client.1, flow.backend.0.to_string()))
        .collect();
    known.sort();
    known
}

#[test]
fn flows_of_another_node_are_kept_as_this_nodes_own() {
    with_net(|net| async {
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        let (lens, records) = (kernel.lens().unwrap(), kernel.records().unwrap());
        let backends = services(Forward::Nat, &[(11, 1), (12, 1)]);
        let standby = Wanted {
            services: Arc::new(backends.clone()),
            ..support::wanted(Gate::Shut, 1)
        };
        kernel.apply(&standby).await.unwrap();
        let told = [record(1000, "10.9.0.11"), record(1001, "10.9.0.12")];
        assert_eq!(records.install(&told).unwrap(), 2);
        let oldest = |records: &dyn Records| {
            let mut seen = Vec::new();
            let of = [VIP4.parse().unwrap()].into();
            records
                .all(&of, &mut |it| seen.push(made(it).flow.seen))
                .unwrap();
            seen.into_iter().min().unwrap()
        };
        let before = oldest(&*records);
        assert_eq!(records.install(&told).unwrap(), 2);
        assert!(
            oldest(&*records) > before,
            "told again, they are young again"
        );

        let lan = nix::net::if_::if_nametoindex("lan").unwrap();
        let mut all = Vec::new();
        records
            .all(&[VIP4.parse().unwrap()].into(), &mut |it| {
                all.push(made(it))
            })
            .unwrap();
        assert_eq!(all.len(), 2);
        let service = lens
            .services(Some(frontend(VIP4, 80, Protocol::Tcp)))
            .unwrap()
            .remove(0);
        for FlowRecord { flow, .. } in &all {
            assert_eq!(flow.ifindex, lan);
            assert!(flow.progress.established == 0 && flow.packets == 0);
            assert!(
                flow.service != 4713
                    && flow.backend != 4712
                    && flow.service != 0
                    && flow.backend != 0
            );
            assert!(boottime_ns() - flow.seen < support::SECOND * 60);
        }
        assert!(service.backends.len() == 2);
        let mut others = 0;
        records
            .all(&[VIP6.parse().unwrap()].into(), &mut |_| others += 1)
            .unwrap();
        assert_eq!(others, 0);

        // The holder's newer word counts while this node does not hold the address, and no longer.
        assert_eq!(records.install(&[record(1000, "10.9.0.12")]).unwrap(), 1);
        let now = [
            (1000, "10.9.0.12".to_owned()),
            (1001, "10.9.0.12".to_owned()),
        ];
        assert_eq!(known(&*lens), now);
        kernel.apply(&balanced(backends)).await.unwrap();
        assert_eq!(records.install(&[record(1000, "10.9.0.11")]).unwrap(), 0);
        records.forget(&[record(1001, "10.9.0.12").key]).unwrap();
        assert_eq!(known(&*lens), now);
        kernel.apply(&standby).await.unwrap();
        records.forget(&[record(1001, "10.9.0.12").key]).unwrap();
        assert_eq!(known(&*lens), now[..1]);
        kernel.remove().await.unwrap();
    });
}

#[test]
fn a_flow_whose_backend_sees_the_client_is_so_on_the_node_that_is_told_of_it() {
    with_net(|net| async {
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        let records = kernel.records().unwrap();
        let standby = Wanted {
            services: Arc::new(services(Forward::Nat, &[(11, 1)])),
            ..support::wanted(Gate::Shut, 1)
        };
        kernel.apply(&standby).await.unwrap();
        let plain = record(1000, "10.9.0.11");
        let mut kept = record(1001, "10.9.0.11");
        kept.flow.source = kept.key.source;
        assert_eq!(records.install(&[plain, kept]).unwrap(), 2);
        let mut flags = BTreeMap::new();
        let of = [VIP4.parse().unwrap()].into();
        let each = &mut |it| {
            let it = made(it);
            flags.insert(it.key.source_port, it.flow.flags);
        };
        records.all(&of, each).unwrap();
        let expected = [(plain, 0), (kept, flow_flags::KEEP)];
        assert_eq!(
            flags,
            expected.map(|(of, bits)| (of.key.source_port, bits)).into()
        );
        kernel.remove().await.unwrap();
    });
}

#[test]
fn a_hundred_thousand_flows_are_read_and_filtered_in_a_moment() {
    with_net(|net| async {
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        let (lens, records) = (kernel.lens().unwrap(), kernel.records().unwrap());
        let standby = Wanted {
            services: Arc::new(services(Forward::Nat, &[(11, 1)])),
            ..support::wanted(Gate::Shut, 1)
        };
        kernel.apply(&standby).await.unwrap();
        let told: Vec<_> = (0..100_000u32)
            .map(|n| {
                let mut record = record((n % 50_000) as u16 + 1024, "10.9.0.11");
                if n >= 50_000 {
                    record.key.protocol = 17;
                }
                record
            })
            .collect();
        let start = Instant::now();
        assert_eq!(records.install(&told).unwrap(), 100_000);
        let installed = start.elapsed();
        let start = Instant::now();
        let mut found = BTreeSet::new();
        records
            .all(&[VIP4.parse().unwrap()].into(), &mut |it| {
                found.insert(made(it).key);
            })
            .unwrap();
        let all = start.elapsed();
        assert_eq!(found.len(), 100_000);
        let start = Instant::now();
        let filter = FlowFilter {
            port: Some(80),
            backend: Some("10.9.0.11".parse().unwrap()),
            ..FlowFilter::default()
        };
        let flows = lens.flows(&filter, 10).unwrap();
        println!(
            "install {installed:?}, all {all:?}, filtered {:?}",
            start.elapsed()
        );
        assert_eq!(
            (flows.flows.len(), flows.matching, flows.known),
            (10, 100_000, 100_000)
        );
        let nobody = FlowFilter {
            client: Some("10.9.0.3".parse().unwrap()),
            ..filter
        };
        assert_eq!(lens.flows(&nobody, 10).unwrap().matching, 0);
        kernel.remove().await.unwrap();
    });
}

#[test]
fn what_a_flood_leaves_in_the_table_is_gone_after_a_look_or_two() {
    const FLOWS: u32 = 300_000;
    with_net(|net| async {
        let second = Duration::from_secs(1);
        let bounds = Bounds {
            collect: second,
            times: Times {
                question: second,
                stream: second,
                ..Times::default()
            },
            ..Bounds::default()
        };
        let options = Options {
            pin_dir: net.pins.clone(),
            bounds,
            ..Options::default()
        };
        let mut kernel = Kernel::open_with(options).await.unwrap();
        let (lens, records) = (kernel.lens().unwrap(), kernel.records().unwrap());
        let backends = services(Forward::Nat, &[(11, 1)]);
        let standby = Wanted {
            services: Arc::new(backends.clone()),
            ..support::wanted(Gate::Shut, 1)
        };
        kernel.apply(&standby).await.unwrap();
        let told: Vec<_> = (0..FLOWS)
            .map(|n| {
                let mut record = record(n as u16, "10.9.0.11");
                let [_, net, ..] = n.to_be_bytes();
                let client = IpAddr::from([10, 10, net, 1]);
                record.key.source = AddressKey::from(client);
                // Answers are told by what they come to: each its own.
                record.flow.destination = AddressKey::from(IpAddr::from([10, 9, 0, 11 + net]));
                record.key.protocol = 17;
                record
            })
            .collect();
        assert_eq!(records.install(&told).unwrap(), FLOWS as usize);
        kernel.apply(&balanced(backends)).await.unwrap();
        let start = Instant::now();
        let known = || lens.flows(&FlowFilter::default(), 0).unwrap().known;
        while known() > 0 {
            assert!(start.elapsed() < 60 * second, "{} stay", known());
            thread::sleep(second / 2);
        }
        println!("{FLOWS} forgotten in {:?}", start.elapsed());
        kernel.remove().await.unwrap();
    });
}

#[test]
fn ten_thousand_services_of_many_backends_are_applied_and_audited() {
    with_net(|net| async {
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        let addresses = 2_000u32;
        let mut services = Services::new();
        for n in 0..addresses {
            let [_, _, high, low] = n.to_be_bytes();
            let vip = format!("10.9.{}.{low}", 16 + high);
            let last = 11 + (n % 100) as u8;
            for port in 80..85 {
                let service = service(VIP4, Forward::Nat, 8080, &[(last, 1), (last + 1, 2)]);
                services.insert(frontend(&vip, port, Protocol::Tcp), service);
            }
        }
        let wanted = balanced(services);
        let start = Instant::now();
        kernel.apply(&wanted).await.unwrap();
        let first = start.elapsed();
        kernel.apply(&wanted).await.unwrap();
        kernel.apply(&wanted).await.unwrap();
        let start = Instant::now();
        kernel.apply(&wanted).await.unwrap();
        println!("first {first:?}, then {:?}", start.elapsed());
        assert_eq!(kernel.lens().unwrap().services(None).unwrap().len(), 10_000);
        kernel.remove().await.unwrap();
    });
}

/// How often the threads of balancing have gone to sleep, by name.
fn sleeps() -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        // One of another test may end meanwhile.
        let Ok(status) = std::fs::read_to_string(task.unwrap().path().join("status")) else {
            continue;
        };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim_start_matches(':').trim().to_owned()
        };
        if ["vipd-flows", "vipd-news"].contains(&field("Name").as_str()) {
            let id = format!("{} {}", field("Name"), field("Pid"));
            found.push((id, field("voluntary_ctxt_switches").parse().unwrap()));
        }
    }
    found
}

/// Not a test of its own: alone in a process, so that the threads are its own.
#[test]
#[ignore = "run by the test below in a process of its own"]
fn helper_counts_what_wakes_up_without_services() {
    with_net(|net| async {
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        let _news = kernel.records().unwrap().news();
        kernel
            .apply(&balanced(services(Forward::Nat, &[(11, 1)])))
            .await
            .unwrap();
        kernel.apply(&balanced(Services::new())).await.unwrap();
        // Until the look that the services had asked for is over.
        let start = Instant::now();
        let mut before = sleeps();
        loop {
            std::thread::sleep(std::time::Duration::from_secs(6));
            let after = sleeps();
            if after == before {
                break;
            }
            before = after;
            assert!(start.elapsed().as_secs() < 40, "{before:?} go on waking up");
        }
        println!("{} threads sleep", before.len());
        kernel.remove().await.unwrap();
    });
}

#[test]
fn without_services_no_thread_of_balancing_wakes_up() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "helper_counts_what_wakes_up_without_services",
            "--ignored",
            "--nocapture",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("2 threads sleep"), "{text}");
}
