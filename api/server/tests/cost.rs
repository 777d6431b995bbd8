//! What reading costs where there are ten thousand VIPs, all on one node. Bounds are generous, for debug builds on busy
//! machines; the figures are printed: `cargo test --release -p vipd-api --test cost -- --nocapture`.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{Node, done, pool, vip};
use vipd_api_types::{Families, MoveRequest, Pool, Vip};
use vipd_client::WriteOptions;
use vipd_core::command::{Command, Expect};
use vipd_core::name::Labels;
use vipd_core::name::Name;
use vipd_core::vip;

const NOW: WriteOptions = WriteOptions {
    dry_run: false,
    if_revision: None,
    strict: false,
    force: false,
};
const MANY: usize = 10_000;
/// Questions of one kind.
const ASKED: u32 = 10;

/// A node of a cluster whose first node holds [`MANY`] VIPs, and whose others could.
async fn laden() -> Node {
    let node = Node::start().await;
    let client = node.client();
    done(
        client
            .put::<Pool>("web", &pool(&["fd00::1000-fd00::ffff"]), NOW)
            .await,
    );
    for other in ["n2", "n3"] {
        client.drain(other, true, NOW).await.unwrap();
    }
    for number in 0..MANY {
        let put = Command::PutVip {
            name: Name::new(&format!("v{number}")).unwrap(),
            labels: Labels::new(),
            spec: vip::VipSpec {
                families: vip::Families::Ipv6,
                ..vip::VipSpec::default()
            },
            expect: Expect::Absent,
        };
        node.memory.apply(put).unwrap();
    }
    for other in ["n2", "n3"] {
        client.drain(other, false, NOW).await.unwrap();
    }
    node
}

fn quick(what: &str, began: Instant) {
    let took = began.elapsed() / ASKED;
    eprintln!("{what}, each: {took:?}");
    let bound = Duration::from_millis(if cfg!(debug_assertions) { 5000 } else { 250 });
    assert!(took < bound, "{what}: {took:?}");
}

#[tokio::test]
async fn one_of_ten_thousand_vips_is_read_written_and_moved_in_milliseconds() {
    let node = laden().await;
    let client = node.client();
    let began = Instant::now();
    for _ in 0..ASKED {
        let vip = client.get::<Vip>("v7").await.unwrap();
        assert_eq!(vip.status.addresses[0].holder.as_deref(), Some("n1"));
        assert!(vip.status.addresses[0].runner_up.is_some());
    }
    quick("one VIP, nothing happened since", began);

    let began = Instant::now();
    for number in 0..ASKED {
        let name = format!("new{number}");
        let vip = done(client.put::<Vip>(&name, &vip(Families::Ipv6), NOW).await);
        assert!(vip.status.addresses[0].runner_up.is_some());
    }
    quick("one VIP that is made", began);

    let began = Instant::now();
    for number in 0..ASKED {
        let to = MoveRequest {
            to: "n2".to_owned(),
        };
        let name = format!("v{number}");
        let vip = done(client.move_vip(&name, &to, NOW).await);
        assert_eq!(vip.status.addresses[0].holder.as_deref(), Some("n2"));
    }
    quick("one VIP that is moved", began);

    let began = Instant::now();
    for _ in 0..ASKED {
        let all = client.list::<Vip>().await.unwrap().items;
        assert_eq!(all.len(), MANY + ASKED as usize);
        assert!(
            all.iter()
                .all(|vip| vip.status.addresses[0].runner_up.is_some())
        );
    }
    quick("the list of all", began);
}
