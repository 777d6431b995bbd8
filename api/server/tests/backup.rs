//! Backups: taken, and restored into the same cluster, an empty one, another one.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{Node, done, pool, reason, vip, web_and_www};
use vipd_api::Control;
use vipd_api_types::{Access, Backup, Families, MAX_BACKUP, Pool, Vip};
use vipd_client::{Client, RestoreOptions, Settings, WriteOptions};
use vipd_core::codec::Wire;
use vipd_core::command::{Command, Expect};
use vipd_core::vip as core;

const NOW: WriteOptions = WriteOptions {
    dry_run: false,
    if_revision: None,
    strict: false,
    force: false,
};
const PLAIN: RestoreOptions = RestoreOptions {
    dry_run: false,
    tokens: false,
    force: false,
};

fn bytes(backup: &Backup) -> Vec<u8> {
    serde_json::to_vec_pretty(backup).unwrap()
}

/// Who has what, without what only the running cluster knows.
async fn addresses(client: &Client) -> Vec<(String, Vec<String>)> {
    let vips = client.list::<Vip>().await.unwrap().items;
    let of = |vip: &Vip| {
        let addresses = vip.status.addresses.iter();
        addresses
            .map(|address| address.address.to_string())
            .collect()
    };
    vips.iter().map(|vip| (vip.name.clone(), of(vip))).collect()
}

#[tokio::test]
async fn what_was_deleted_comes_back_with_the_same_addresses_and_twice_changes_nothing() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    done(client.put::<Vip>("more", &vip(Families::Ipv4), NOW).await);
    let (backup, before) = (client.backup().await.unwrap(), addresses(&client).await);
    client.delete::<Vip>("www", NOW).await.unwrap();
    done(
        client
            .put::<Vip>("other", &vip(Families::RequireDual), NOW)
            .await,
    );
    done(
        client
            .put::<Pool>("late", &pool(&["10.0.1.0/28"]), NOW)
            .await,
    );
    let dry = RestoreOptions {
        dry_run: true,
        ..PLAIN
    };
    let would = client.restore(bytes(&backup), dry).await.unwrap();
    assert!(would.dry_run);
    assert_eq!(
        (would.vips.added.as_slice(), would.vips.removed.as_slice()),
        (&["www".to_owned()][..], &["other".to_owned()][..])
    );
    assert_eq!(would.pools.removed, ["late"]);
    assert!(
        addresses(&client).await != before,
        "a dry run changes nothing"
    );
    let did = client.restore(bytes(&backup), PLAIN).await.unwrap();
    assert_eq!(
        (did.vips, did.changes),
        (would.vips, would.changes),
        "what it said it would"
    );
    assert_eq!(addresses(&client).await, before);
    let events = client.events().await.unwrap().items;
    let event = events
        .iter()
        .rfind(|event| event.message.contains("backup restored (pools: 1, "));
    assert!(event.unwrap().who.as_deref().unwrap().starts_with("uid/"));
    let again = client.restore(bytes(&backup), PLAIN).await.unwrap();
    assert_eq!(again, Default::default(), "nothing differs");
    assert_eq!(client.events().await.unwrap().items.len(), events.len());
}

#[tokio::test]
async fn an_empty_cluster_takes_another_s_backup_and_a_used_one_only_by_force() {
    let (here, there) = (Node::start().await, Node::start().await);
    web_and_www(&here.client()).await;
    let mut backup = here.client().backup().await.unwrap();
    backup.cluster = "ab".repeat(16);
    backup.content.nodes[0].name = "elsewhere".to_owned();
    backup.checksum = None;
    let did = there.client().restore(bytes(&backup), PLAIN).await.unwrap();
    assert_eq!(did.absent_nodes, ["elsewhere"]);
    assert_eq!(
        addresses(&there.client()).await,
        addresses(&here.client()).await
    );
    done(
        there
            .client()
            .put::<Vip>("more", &vip(Families::Ipv4), NOW)
            .await,
    );
    assert_eq!(
        reason(there.client().restore(bytes(&backup), PLAIN).await),
        "another_cluster"
    );
    let force = RestoreOptions {
        force: true,
        ..PLAIN
    };
    let did = there.client().restore(bytes(&backup), force).await.unwrap();
    assert_eq!(did.vips.removed, ["more"]);
}

#[tokio::test]
async fn a_damaged_or_newer_or_contradictory_backup_is_refused_and_changes_nothing() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    let good = client.backup().await.unwrap();
    let before = addresses(&client).await;
    let spoilt = |spoil: &dyn Fn(&mut Backup)| {
        let mut backup = good.clone();
        spoil(&mut backup);
        bytes(&backup)
    };
    for (body, why) in [
        (spoilt(&|b| b.content.vips.clear()), "bad_checksum"),
        (spoilt(&|b| b.format = 2), "unknown_format"),
        (
            spoilt(&|b| {
                b.content.vips.clear();
                b.checksum = None;
            }),
            "invalid",
        ),
        (
            spoilt(&|b| {
                b.content.pools[0].created = "yesterday".to_owned();
                b.checksum = None;
            }),
            "invalid",
        ),
        (b"{}".to_vec(), "bad_body"),
    ] {
        assert_eq!(reason(client.restore(body, PLAIN).await), why);
    }
    assert_eq!(addresses(&client).await, before);
}

#[tokio::test]
async fn revoked_tokens_come_back_only_when_that_is_asked_for_and_secrets_never() {
    let node = Node::start().await;
    let client = node.client();
    let secret = node.token("ci", Access::Read).await;
    let backup = client.backup().await.unwrap();
    assert!(!String::from_utf8(bytes(&backup)).unwrap().contains(&secret));
    client.delete_token("ci").await.unwrap();
    let ci = node.tls_client(Some(&secret));
    client.restore(bytes(&backup), PLAIN).await.unwrap();
    assert_eq!(reason(ci.list::<Pool>().await), "bad_token");
    let tokens = RestoreOptions {
        tokens: true,
        ..PLAIN
    };
    let did = client.restore(bytes(&backup), tokens).await.unwrap();
    assert_eq!(did.tokens.added, ["ci"]);
    ci.list::<Pool>().await.unwrap();
}

/// Makes so many VIPs in pool `wide`, whose names begin so.
async fn many(node: &Node, prefix: &str, n: usize, labels: &[(&str, String)]) {
    let wide = pool(&["10.0.64.0/18", "fd00::/64"]);
    done(node.client().put::<Pool>("wide", &wide, NOW).await);
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).into(), value.clone()));
    let labels: vipd_core::name::Labels = labels.collect();
    for i in 0..n {
        let command = Command::PutVip {
            name: format!("{prefix}-{i:06}").parse().unwrap(),
            labels: labels.clone(),
            spec: core::VipSpec {
                families: core::Families::RequireDual,
                ..Default::default()
            },
            expect: Expect::Any,
        };
        node.memory.apply(command).unwrap();
    }
}

#[tokio::test]
async fn a_backup_of_thousands_of_vips_goes_through_in_parts_however_long_that_takes() {
    let (here, there) = (Node::start().await, Node::start().await);
    let labels = [("team", "a".repeat(60))];
    many(&here, "vip-with-a-rather-long-name", 3000, &labels).await;
    let backup = here.client().backup().await.unwrap();
    assert!(
        bytes(&backup).len() > 1024 * 1024,
        "more than other bodies may have"
    );
    // Each entry as slow as on a bad disk: all of them together take longer than any other request may.
    there.memory.set_pace(3_000);
    let patient = there.client_with(Settings {
        answer_within: vipd_api_types::RESTORE_WITHIN,
        ..Settings::default()
    });
    let begun = Instant::now();
    patient.restore(bytes(&backup), PLAIN).await.unwrap();
    assert!(
        begun.elapsed() > Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(
        addresses(&there.client()).await,
        addresses(&here.client()).await
    );
}

#[tokio::test]
async fn lists_are_made_while_restores_wait_for_the_cluster() {
    let node = Node::start().await;
    web_and_www(&node.client()).await;
    let backup = node.client().backup().await.unwrap();
    node.memory.set_pace(5_000);
    let mut asked = node.memory.asked();
    let begun = *asked.borrow();
    // As many as lists may be made at a time.
    let restores = [(); 2].map(|()| {
        let patient = node.client_with(Settings {
            answer_within: vipd_api_types::RESTORE_WITHIN,
            ..Settings::default()
        });
        let body = bytes(&backup);
        tokio::spawn(async move { patient.restore(body, PLAIN).await })
    });
    // Each asks for a read first, and then writes.
    let writing = asked.wait_for(|asked| *asked >= begun + 4);
    let waited = tokio::time::timeout(Duration::from_secs(20), writing).await;
    waited.unwrap().unwrap();
    let listed = node.client().list::<Vip>().await.unwrap();
    assert_eq!(listed.items.len(), 1);
    assert!(restores.iter().all(|restore| !restore.is_finished()));
    node.memory.set_pace(0);
    for restore in restores {
        restore.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_backup_of_a_full_cluster_is_no_larger_than_what_a_restore_takes() {
    // So many VIPs of two addresses each are all that the state takes (docs/addresses.md).
    const FULL: usize = 140_000;
    let node = Node::start().await;
    let empty = serde_json::to_vec(&node.client().backup().await.unwrap()).unwrap();
    many(&node, "vip", 1000, &[]).await;
    let json = serde_json::to_vec(&node.client().backup().await.unwrap()).unwrap();
    let in_the_log = node.memory.read(|state| state.backup().to_bytes().len());
    for bytes in [json.len() - empty.len(), in_the_log] {
        assert!(bytes / 1000 * FULL <= MAX_BACKUP, "{bytes} for 1000");
    }
}
