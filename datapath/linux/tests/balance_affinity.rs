//! Clients come back to their backends while these change, with real sockets, and what another node is told of it.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use support::{
    VIP4, VIP6,
    clients::{VIPS, ask_all, at, by_backend, client_address, hold},
    lan::{Connection, Lan, balanced, frontend, services},
    with_net,
};
use vipd_datapath::{
    Affine, Datapath, Dispatch, FlowNews, Forward, Frontend, Kept, Kernel, Lens, Packet, Protocol,
    Verdict, Wanted,
};

const LONG: Duration = Duration::from_secs(600);

/// These backends, and clients are kept for so long.
fn sticky(backends: &[(u8, u32)], time: Duration) -> Wanted {
    let mut all = services(Forward::Nat, backends);
    for service in all.values_mut() {
        Arc::make_mut(service).affinity = Some(time);
    }
    balanced(all)
}

/// Three backends, of which this one (1 to 3) has nearly nothing of the table.
fn against(number: u8) -> Vec<(u8, u32)> {
    let weight = |it| if it == number { 1 } else { 256 };
    (1..=3).map(|it| (10 + it, weight(it))).collect()
}

/// Where the client is with TCP port 80 of a virtual IP.
fn affine(lens: &dyn Lens, vip: &str) -> Affine {
    let of = frontend(vip, 80, Protocol::Tcp);
    let all = lens.affinity(client_address(vip)).unwrap();
    *all.iter().find(|it| it.frontend == of).unwrap()
}

/// The number of the backend that an address is of.
fn number(backend: Option<(IpAddr, u16)>) -> u8 {
    let (address, port) = backend.unwrap();
    assert_eq!(port, 8080);
    let text = address.to_string();
    let last = text.rsplit(['.', ':']).next().unwrap().parse::<u8>();
    last.unwrap() - 10
}

#[test]
fn a_client_comes_back_to_its_backend_as_long_as_that_takes_new_connections() {
    with_net(|net| async move {
        let lan = Lan::new(net, 3);
        let _servers: Vec<_> = (1..=3).map(|n| lan.serve(n, 8080)).collect();
        let (mut kernel, _node) = hold(net, &sticky(&[(11, 1), (12, 1), (13, 1)], LONG)).await;
        let lens = kernel.lens().unwrap();
        for vip in VIPS {
            let one = |count| {
                let [tcp, _] = ask_all(net, vip, 80, count);
                let by: Vec<_> = by_backend(&tcp).into_keys().collect();
                assert_eq!(by.len(), 1, "{by:?}");
                by[0]
            };
            assert_eq!(affine(&*lens, vip).left, None, "it was not here yet");
            let there = one(3);
            kernel.apply(&sticky(&against(there), LONG)).await.unwrap();
            let shown = affine(&*lens, vip);
            assert_eq!(number(shown.backend), there);
            assert!(shown.left.unwrap() > LONG / 2, "{shown:?}");
            assert_eq!(one(5), there, "{vip}");

            // What a trace says, and that it leaves nothing behind.
            let packet = Packet {
                client: (client_address(vip), 40_000),
                vip: (vip.parse().unwrap(), 80),
                protocol: Protocol::Tcp,
                opens: true,
            };
            let traced = lens.trace(&packet).unwrap();
            assert!(traced.verdict == Verdict::Sent && traced.kept, "{traced:?}");
            assert_eq!(traced.backend, shown.backend);
            let other = if vip == VIP4 { "10.9.0.77" } else { "fd09::77" };
            let packet = Packet {
                client: (other.parse().unwrap(), 40_000),
                ..packet
            };
            for _ in 0..2 {
                let traced = lens.trace(&packet).unwrap();
                assert!(traced.backend.is_some() && !traced.kept, "{traced:?}");
            }

            // It drains: the client goes elsewhere, and stays there.
            let mut drained = against(there);
            drained[usize::from(there) - 1].1 = 0;
            kernel.apply(&sticky(&drained, LONG)).await.unwrap();
            assert_eq!(affine(&*lens, vip).left, None, "{vip}");
            let then = one(5);
            assert_ne!(then, there, "{vip}");
            kernel.apply(&sticky(&against(then), LONG)).await.unwrap();
            assert_eq!(one(5), then, "{vip}: the former one is back");

            // The next daemon finds it all in the maps.
            drop(kernel);
            kernel = Kernel::open(&net.pins).await.unwrap();
            kernel.apply(&sticky(&against(then), LONG)).await.unwrap();
            assert_eq!(one(5), then, "{vip}");
            kernel
                .apply(&sticky(&[(11, 1), (12, 1), (13, 1)], LONG))
                .await
                .unwrap();
            assert_eq!(one(5), then, "{vip}");
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
fn what_the_maps_have_for_clients_goes_with_the_service_whichever_daemon_wrote_it() {
    with_net(|net| async {
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        let backends = [(11, 1), (12, 1), (13, 0)];
        let lens = kernel.lens().unwrap();
        let members = || {
            let found = lens.map("members", None, 100).unwrap();
            found.unwrap().elements.len()
        };
        kernel.apply(&sticky(&backends, LONG)).await.unwrap();
        assert_eq!(members(), 4, "two of each family take new connections");
        // By the same table: who takes new ones of that is true as long as it is used.
        let without = balanced(services(Forward::Nat, &backends));
        kernel.apply(&without).await.unwrap();
        assert_eq!(members(), 4);
        drop(kernel);
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        let without = balanced(services(Forward::Nat, &[(11, 1)]));
        for _ in 0..3 {
            kernel.apply(&without).await.unwrap();
        }
        assert_eq!(members(), 0);
        kernel.remove().await.unwrap();
    });
}

#[test]
fn of_a_service_of_all_ports_it_is_said_where_a_client_is_once_it_is_kept() {
    with_net(|net| async {
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        let (lens, records) = (kernel.lens().unwrap(), kernel.records().unwrap());
        let mut all = services(Forward::Nat, &[(11, 1), (12, 1)]);
        let mut service = all.remove(&frontend(VIP4, 80, Protocol::Tcp)).unwrap();
        Arc::make_mut(&mut service).affinity = Some(LONG);
        let frontend = frontend(VIP4, 0, Protocol::Tcp);
        kernel
            .apply(&balanced([(frontend, service)].into()))
            .await
            .unwrap();
        let client = client_address(VIP4);
        assert_eq!(lens.affinity(client).unwrap(), [], "the port decides");
        let backend = (lan_address(true, 2), 8080);
        let kept = Kept {
            client,
            frontend,
            backend,
            age: Duration::ZERO,
        };
        assert_eq!(records.keep(&[kept]).unwrap(), 1);
        let [one] = lens.affinity(client).unwrap()[..] else {
            panic!("it is kept");
        };
        assert_eq!((one.frontend, one.backend), (frontend, Some(backend)));
        kernel.remove().await.unwrap();
    });
}

#[test]
fn a_client_that_stays_away_for_the_time_is_placed_by_the_table() {
    const SHORT: Duration = Duration::from_secs(1);
    with_net(|net| async move {
        let lan = Lan::new(net, 3);
        let _servers: Vec<_> = (1..=3).map(|n| lan.serve(n, 8080)).collect();
        let (mut kernel, _node) = hold(net, &sticky(&[(11, 1), (12, 1), (13, 1)], SHORT)).await;
        let lens = kernel.lens().unwrap();
        for vip in VIPS {
            let ask = || by_backend(&ask_all(net, vip, 80, 1)[0]);
            let there = ask();
            let there = *there.keys().next().unwrap();
            kernel.apply(&sticky(&against(there), SHORT)).await.unwrap();
            let begin = Instant::now();
            while affine(&*lens, vip).left.is_some() {
                assert!(begin.elapsed() < Duration::from_secs(5), "{vip}");
                thread::sleep(Duration::from_millis(20));
            }
            let by_table = number(affine(&*lens, vip).backend);
            assert_ne!(by_table, there, "that has 16 of 8171 slots");
            // But for a connection that has begun elsewhere, perhaps when it was there.
            let traced = |opens| {
                let packet = Packet {
                    client: (client_address(vip), 40_000),
                    vip: (vip.parse().unwrap(), 80),
                    protocol: Protocol::Tcp,
                    opens,
                };
                let traced = lens.trace(&packet).unwrap();
                (number(traced.backend), traced.kept)
            };
            assert_eq!(traced(false), (there, true), "{vip}");
            assert_eq!(traced(true), (by_table, false), "{vip}");
            assert_eq!(ask(), [(by_table, 1)].into(), "{vip}");
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
fn the_next_holder_is_told_where_clients_are_and_sends_them_there() {
    with_net(|net| async move {
        let lan = Lan::new(net, 3);
        let _servers: Vec<_> = (1..=3).map(|n| lan.serve(n, 8080)).collect();
        let same = [(11, 1), (12, 1), (13, 1)];
        let (mut kernel, _node) = hold(net, &sticky(&same, LONG)).await;
        let records = kernel.records().unwrap();
        let mut news = records.news().unwrap();
        let asked = VIPS.map(|vip| by_backend(&ask_all(net, vip, 80, 2)[0]));
        let there = asked.map(|by| *by.keys().next().unwrap());
        // TCP and UDP of two addresses, twice each, or more often where a client had to ask again.
        let mut told: BTreeMap<_, usize> = BTreeMap::new();
        let begin = Instant::now();
        while told.len() < 4 || told.values().any(|times| *times < 2) {
            assert!(begin.elapsed() < Duration::from_secs(5), "{told:?}");
            let Ok(batch) = news.try_recv() else {
                thread::sleep(Duration::from_millis(5));
                continue;
            };
            for it in batch {
                match it {
                    FlowNews::Kept(kept) => *told.entry(whom(&kept)).or_default() += 1,
                    FlowNews::Made(_) | FlowNews::Gone(_) => {}
                }
            }
        }
        // A program of this host is nobody else's business.
        Connection::open(at(VIP4, 80)).unwrap().ask("who").unwrap();
        let mut all = Vec::new();
        let of = VIPS.map(|vip| vip.parse().unwrap()).into();
        let mut each = |it| match it {
            FlowNews::Kept(kept) => all.push(kept),
            FlowNews::Made(_) | FlowNews::Gone(_) => {}
        };
        records.all(&of, &mut each).unwrap();
        assert_eq!(all.len(), 4, "{all:?}");
        for kept in &all {
            assert!(told.contains_key(&whom(kept)), "{told:?}");
            assert!(kept.age < Duration::from_secs(60), "{kept:?}");
        }
        let mut none = 0;
        let elsewhere = ["10.9.0.5".parse().unwrap()].into();
        records.all(&elsewhere, &mut |_| none += 1).unwrap();
        assert_eq!(none, 0);
        kernel.remove().await.unwrap();

        // Another node, with other backends in favour.
        for ((vip, there), other) in VIPS.into_iter().zip(there).zip([VIP6, VIP4]) {
            let (mut kernel, _node) = hold(net, &sticky(&against(there), LONG)).await;
            let (lens, records) = (kernel.lens().unwrap(), kernel.records().unwrap());
            assert_ne!(
                number(affine(&*lens, vip).backend),
                there,
                "by the table alone"
            );
            let known: Vec<Kept> = all
                .iter()
                .map(|kept| Kept {
                    age: Duration::from_secs(300),
                    ..*kept
                })
                .collect();
            assert_eq!(records.keep(&known).unwrap(), 4);
            assert_eq!(number(affine(&*lens, vip).backend), there);
            let left = affine(&*lens, vip).left.unwrap();
            assert!(left <= LONG - Duration::from_secs(300), "{left:?}");

            // Older news, and such of nobody whom this node knows, change nothing.
            let mut wrong = known.clone();
            for kept in &mut wrong {
                kept.age += Duration::from_secs(1);
                kept.backend.0 = lan_address(kept.client.is_ipv4(), there % 3 + 1);
            }
            assert_eq!(records.keep(&wrong).unwrap(), 0);
            for kept in &mut wrong {
                kept.age = Duration::ZERO;
                kept.backend.1 = 9;
            }
            assert_eq!(records.keep(&wrong).unwrap(), 0, "no such backend");
            for kept in &mut wrong {
                kept.backend.1 = 8080;
                kept.frontend.port = 81;
            }
            assert_eq!(records.keep(&wrong).unwrap(), 0, "no such service");
            let answers = ask_all(net, vip, 80, 3);
            assert_eq!(by_backend(&answers[0]), [(there, 3)].into(), "{vip}");

            // What is new counts, here and there.
            for kept in &mut wrong {
                kept.frontend.port = 80;
            }
            wrong.retain(|kept| kept.frontend.address == at(other, 0).ip());
            assert_eq!(records.keep(&wrong).unwrap(), 2);
            kernel.remove().await.unwrap();
        }
    });
}

/// With what is told of a flow the next holder could not know that it is none of nat.
#[test]
fn of_flows_without_translation_the_next_holder_is_told_the_client_alone() {
    with_net(|net| async move {
        let _lan = Lan::new(net, 1);
        let mut all = services(Forward::Dsr(Dispatch::L2), &[(11, 1)]);
        for service in all.values_mut() {
            Arc::make_mut(service).affinity = Some(LONG);
        }
        let (mut kernel, _node) = hold(net, &balanced(all)).await;
        let (lens, records) = (kernel.lens().unwrap(), kernel.records().unwrap());
        let mut news = records.news().unwrap();
        for vip in VIPS {
            let client = client_address(vip);
            let packet = Packet {
                client: (client, 40_000),
                vip: (vip.parse().unwrap(), 80),
                protocol: Protocol::Tcp,
                opens: true,
            };
            assert_eq!(lens.trace(&packet).unwrap().verdict, Verdict::Sent);
            let begin = Instant::now();
            let batch = loop {
                assert!(begin.elapsed() < Duration::from_secs(5), "{vip}");
                if let Ok(batch) = news.try_recv() {
                    break batch;
                }
                thread::sleep(Duration::from_millis(5));
            };
            let kept = Kept {
                client,
                frontend: frontend(vip, 80, Protocol::Tcp),
                backend: (lan_address(client.is_ipv4(), 1), 0),
                age: Duration::ZERO,
            };
            assert_eq!(batch, [FlowNews::Kept(kept)]);
        }
        drop((lens, records));
        kernel.remove().await.unwrap();
    });
}

/// All of it but the age.
fn whom(kept: &Kept) -> (IpAddr, Frontend, (IpAddr, u16)) {
    (kept.client, kept.frontend, kept.backend)
}

fn lan_address(v4: bool, number: u8) -> IpAddr {
    let last = 10 + number;
    let text = if v4 {
        format!("10.9.0.{last}")
    } else {
        format!("fd09::{last}")
    };
    text.parse().unwrap()
}
