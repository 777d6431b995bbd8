//! What is read from the kernel's maps for people, and how large they are. No packet passes here.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use support::{
    VIP4, VIP6,
    lan::{balanced, frontend, services},
    with_net,
};
use vipd_datapath::{
    Bounds, Datapath, Elements, Forward, Kernel, Options, Protocol, Services, Times,
};

fn by_key(elements: Elements) -> BTreeMap<String, BTreeMap<&'static str, String>> {
    let all = elements.elements.into_iter();
    all.map(|it| (it.key, it.value.into_iter().collect()))
        .collect()
}

#[test]
fn maps_are_listed_and_what_is_in_them_is_decoded() {
    with_net(|net| async {
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        let lens = kernel.lens().unwrap();
        kernel
            .apply(&balanced(services(Forward::Nat, &[(11, 1), (12, 1)])))
            .await
            .unwrap();
        let maps = lens.maps().unwrap();
        let flows = maps.iter().find(|map| map.name == "flows").unwrap();
        assert_eq!((flows.kind, flows.max_entries), ("hash", 1_048_576));

        let read = |map: &str, key: Option<&str>, most| {
            let found = lens.map(map, key, most).unwrap();
            found.unwrap_or_else(|| panic!("there is no map {map}"))
        };
        let address = by_key(read("addresses", Some(VIP4), 10));
        assert!(address[VIP4]["flags"].contains("balanced"), "{address:?}");
        assert_eq!(read("addresses", None, 10).elements.len(), 2);
        assert!(read("addresses", None, 1).more);

        let backends = by_key(read("backends", None, 100));
        let places: Vec<_> = backends.values().map(|it| it["address"].as_str()).collect();
        assert!(places.contains(&"10.9.0.11"), "{backends:?}");
        let service = by_key(read("services", Some(VIP4), 100));
        assert!(!service.is_empty());
        for of in service.values() {
            assert_eq!(of["flags"], "nat");
            let table = by_key(read("tables", Some(&of["table"]), 100));
            let slots = &table[&of["table"]]["slots_of_backends"];
            assert_eq!(slots.split(' ').count(), 2, "{slots}");
        }
        for map in ["handed", "counters", "balance", "tally", "ranges", "flows"] {
            read(map, None, 10);
        }
        for none in ["nothing", "new_flows", "../maps"] {
            assert_eq!(lens.map(none, None, 10).unwrap(), None, "{none}");
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
fn a_client_is_kept_with_the_backend_that_the_table_says() {
    with_net(|net| async {
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        let lens = kernel.lens().unwrap();
        let mut kept = Services::new();
        for (frontend, service) in &services(Forward::Nat, &[(11, 1), (12, 1), (13, 1)]) {
            let mut service = (**service).clone();
            let tcp = frontend.protocol == Protocol::Tcp;
            service.affinity = tcp.then_some(Duration::from_secs(60));
            kept.insert(*frontend, Arc::new(service));
        }
        kernel.apply(&balanced(kept)).await.unwrap();
        let mut used = BTreeMap::<_, u32>::new();
        for last in 1..=60 {
            let client = format!("192.0.2.{last}").parse().unwrap();
            let affine = lens.affinity(client).unwrap();
            let of = frontend(VIP4, 80, Protocol::Tcp);
            let [one] = &affine[..] else {
                panic!("{affine:?}: TCP 80 of the client's family alone")
            };
            assert_eq!(one.frontend, of);
            *used.entry(one.backend.unwrap().0).or_default() += 1;
            assert_eq!(lens.affinity(client).unwrap(), affine);
        }
        assert_eq!(used.len(), 3, "{used:?}");
        assert_eq!(lens.affinity(VIP6.parse().unwrap()).unwrap().len(), 1);
        kernel.remove().await.unwrap();
    });
}

#[test]
fn a_table_is_made_as_large_as_it_shall_be_and_stays_so_until_it_is_removed() {
    with_net(|net| async {
        let open = |flows, new_flows| {
            let bounds = Bounds {
                flows,
                new_flows,
                times: Times {
                    open: Duration::from_secs(600),
                    ..Times::default()
                },
                ..Bounds::default()
            };
            let options = Options {
                pin_dir: net.pins.clone(),
                bounds,
                ..Options::default()
            };
            Kernel::open_with(options)
        };
        let mut kernel = open(65_536, None).await.unwrap();
        let bounds = kernel.lens().unwrap().bounds();
        assert_eq!((bounds.flows, bounds.times.open.as_secs()), (65_536, 600));
        assert!(
            bounds.new_flows.is_some_and(|all| all >= 5_000),
            "{bounds:?}"
        );
        let maps = kernel.lens().unwrap().maps().unwrap();
        let flows = maps.iter().find(|map| map.name == "flows").unwrap();
        assert_eq!(flows.max_entries, 65_536);
        drop(kernel);

        let mut kernel = open(131_072, Some(1_000)).await.unwrap();
        let bounds = kernel.lens().unwrap().bounds();
        assert_eq!(bounds.flows, 65_536, "open connections are in it");
        assert!(
            bounds.new_flows.is_some_and(|all| all <= 1_000),
            "{bounds:?}"
        );
        kernel.remove().await.unwrap();

        let mut kernel = open(131_072, None).await.unwrap();
        assert_eq!(kernel.lens().unwrap().bounds().flows, 131_072);
        kernel.remove().await.unwrap();
    });
}
