//! What another version of vipd has left: its programs, pins and addresses, when this one takes over and when it is cleaned up.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::{fs, path::PathBuf};

use support::{
    Net, SECOND, VIP4, VIP6, open, programs, run, vips, wait_for_programs, wanted, with_net,
};
use vipd_datapath::{Attach, Datapath, Gate, Kernel, Options, Wanted, boottime_ns};
use vipd_datapath_common::SCHEMA;

fn folder(net: &Net, schema: u32) -> PathBuf {
    net.pins.join(format!("v{schema}"))
}

/// Makes what this version has left look as if another had.
fn make_former(net: &Net, schema: u32) {
    fs::rename(folder(net, SCHEMA), folder(net, schema)).unwrap();
}

/// A datapath as on kernels without tcx.
async fn by_clsact(net: &Net) -> Kernel {
    let options = Options {
        pin_dir: net.pins.clone(),
        attach: Attach::Clsact,
        ..Options::default()
    };
    Kernel::open_with(options).await.unwrap()
}

#[test]
fn pins_of_another_schema_go_once_this_one_is_in_place() {
    with_net(|net| async {
        drop(open(net, Gate::Shut, 0).await);
        make_former(net, 0);
        let (mut kernel, _node) = open(net, Gate::Open, 60 * SECOND).await;
        assert!(!net.pins.join("v0").exists());
        assert!(net.answers(VIP4));
        assert_eq!(
            kernel.observe().await.unwrap().addresses.len(),
            vips().len()
        );
        assert_eq!(programs(), 2);
    });
}

#[test]
fn removal_takes_off_the_filters_of_another_version() {
    with_net(|net| async {
        let mut kernel = by_clsact(net).await;
        kernel.apply(&wanted(Gate::Open, 1)).await.unwrap();
        assert_eq!(programs(), 2);
        drop(kernel);
        make_former(net, 1);
        Kernel::open(&net.pins)
            .await
            .unwrap()
            .remove()
            .await
            .unwrap();
        assert_eq!(programs(), 0);
        assert!(!net.pins.exists());
        assert!(!net.addresses().contains(VIP4) && !net.addresses().contains(VIP6));
    });
}

#[test]
fn filters_of_another_version_are_replaced_by_filters_and_go_beside_tcx() {
    with_net(|net| async {
        let mut kernel = by_clsact(net).await;
        kernel.apply(&wanted(Gate::Open, 1)).await.unwrap();
        drop(kernel);
        make_former(net, 1);
        let mut kernel = by_clsact(net).await;
        kernel.apply(&wanted(Gate::Open, 1)).await.unwrap();
        assert_eq!(programs(), 2);
        let mut node = kernel.node_gate().unwrap();
        node.set_deadline(boottime_ns() + 60 * SECOND);
        assert!(net.answers(VIP4), "by the lease of this one");
        drop(kernel);
        make_former(net, 1);
        let (kernel, _node) = open(net, Gate::Open, 60 * SECOND).await;
        assert_eq!(programs(), 2, "tcx, and no filters beside");
        assert!(net.answers(VIP4));
        kernel.remove().await.unwrap();
    });
}

#[test]
fn filters_of_another_version_go_where_none_are_wanted() {
    with_net(|net| async {
        let mut kernel = by_clsact(net).await;
        kernel.apply(&wanted(Gate::Open, 1)).await.unwrap();
        drop(kernel);
        make_former(net, 1);
        let mut kernel = by_clsact(net).await;
        kernel.apply(&Wanted::default()).await.unwrap();
        assert_eq!(programs(), 0);
        assert!(!folder(net, 1).exists());
    });
}

/// As the kernel has it before Linux 5.18: without the protocol, by which one sees who put it there.
fn without_record() {
    for (address, bits) in [(VIP4, "32"), (VIP6, "128")] {
        let address = format!("{address}/{bits}");
        run("ip", &["addr", "del", &address, "dev", "lan"]);
        run("ip", &["addr", "add", &address, "dev", "lan", "nodad"]);
    }
}

#[test]
fn removal_takes_off_addresses_that_only_the_map_of_another_version_knows() {
    with_net(|net| async {
        drop(open(net, Gate::Open, 60 * SECOND).await);
        make_former(net, 1);
        without_record();
        Kernel::open(&net.pins)
            .await
            .unwrap()
            .remove()
            .await
            .unwrap();
        assert!(!net.addresses().contains(VIP4) && !net.addresses().contains(VIP6));
        wait_for_programs(0);
    });
}

#[test]
fn removal_leaves_an_address_that_no_version_has_put_there() {
    with_net(|net| async {
        run("ip", &["addr", "add", "10.9.0.100/32", "dev", "lan"]);
        drop(open(net, Gate::Open, 60 * SECOND).await);
        make_former(net, 1);
        Kernel::open(&net.pins)
            .await
            .unwrap()
            .remove()
            .await
            .unwrap();
        assert!(net.addresses().contains(VIP4) && !net.addresses().contains(VIP6));
    });
}

#[test]
fn a_map_of_another_version_that_is_not_understood_is_no_hindrance() {
    with_net(|net| async {
        drop(open(net, Gate::Open, 60 * SECOND).await);
        make_former(net, 1);
        let former = folder(net, 1);
        fs::rename(former.join("counters"), former.join("addresses")).unwrap();
        let (kernel, _node) = open(net, Gate::Open, 60 * SECOND).await;
        assert!(net.answers(VIP4) && !former.exists());
        kernel.remove().await.unwrap();
    });
}

#[test]
fn what_only_the_map_of_another_version_knows_is_taken_over_until_it_is_gone() {
    with_net(|net| async {
        drop(open(net, Gate::Open, 60 * SECOND).await);
        make_former(net, 1);
        without_record();
        let (mut kernel, _node) = open(net, Gate::Open, 60 * SECOND).await;
        let seen = kernel.observe().await.unwrap().addresses;
        assert!(seen.values().all(|it| it.answering && !it.foreign));
        kernel.apply(&Wanted::default()).await.unwrap();
        assert!(!net.addresses().contains(VIP4) && !net.addresses().contains(VIP6));
        kernel.apply(&Wanted::default()).await.unwrap();
        run("ip", &["addr", "add", "10.9.0.100/32", "dev", "lan"]);
        kernel.apply(&Wanted::default()).await.unwrap();
        assert!(net.addresses().contains(VIP4), "the administrator's by now");
    });
}

#[test]
fn what_can_not_be_removed_of_another_version_holds_up_nothing_else() {
    with_net(|net| async {
        let schemas = [1, 2, 3, 4];
        let aside = |schema| net.pins.join(format!("aside{schema}"));
        for schema in schemas {
            drop(open(net, Gate::Shut, 0).await);
            fs::rename(folder(net, SCHEMA), aside(schema)).unwrap();
        }
        drop(open(net, Gate::Shut, 0).await);
        for schema in schemas {
            // Two are no folders, so they are not removed as such; whichever is listed first, others are behind it.
            let from = if schema % 2 == 1 {
                aside(schema).join("gate")
            } else {
                aside(schema)
            };
            fs::rename(from, folder(net, schema)).unwrap();
        }
        let kernel = Kernel::open(&net.pins).await.unwrap();
        let error = kernel.remove().await.unwrap_err().to_string();
        for schema in [1, 3] {
            let pin = folder(net, schema).display().to_string();
            assert!(error.contains(&format!("remove the pin {pin}:")), "{error}");
        }
        for schema in [2, 4, SCHEMA] {
            assert!(!folder(net, schema).exists(), "{schema}");
        }
    });
}
