//! Who may do what: the unix socket's file permission, and tokens over TLS.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::PermissionsExt;

use common::{Node, pool, reason, web_and_www};
use vipd_api::{ListenError, bind_unix, hash_token};
use vipd_api_types::{Access, AddMember, JoinTokenRequest, Pool, TokenRequest, Vip};
use vipd_client::{Client, Error, Settings, WriteOptions};
use vipd_core::command::Command;
use vipd_core::name::Name;
use vipd_core::time::Millis;

const NOW: WriteOptions = WriteOptions {
    dry_run: false,
    if_revision: None,
    strict: false,
    force: false,
};

#[tokio::test]
async fn over_tls_nothing_but_health_and_the_description_goes_without_a_token() {
    let node = Node::start().await;
    let nobody = node.tls_client(None);
    assert_eq!(reason(nobody.list::<Pool>().await), "no_token");
    assert_eq!(
        reason(nobody.put::<Pool>("web", &pool(&["10.0.0.1"]), NOW).await),
        "no_token"
    );
    assert_eq!(
        reason(nobody.join_token(&JoinTokenRequest::default()).await),
        "no_token"
    );
    assert!(nobody.ready().await.unwrap().ok);
    drop(rustls::crypto::ring::default_provider().install_default());
    let ca = reqwest::Certificate::from_pem(node.ca_pem.as_bytes()).unwrap();
    let http = reqwest::Client::builder().tls_certs_only([ca]);
    let url = format!("https://{}/v1/openapi.json", node.tls);
    let answer = http.build().unwrap().get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let described: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(&described, vipd_api::openapi_document());
    assert_eq!(
        reason(node.tls_client(Some("vipd_api_guess")).list::<Pool>().await),
        "bad_token"
    );
}

#[tokio::test]
async fn each_access_includes_the_ones_before_it() {
    let node = Node::start().await;
    let (read, write, admin) = (
        node.tls_client(Some(&node.token("r", Access::Read).await)),
        node.tls_client(Some(&node.token("w", Access::Write).await)),
        node.tls_client(Some(&node.token("a", Access::Admin).await)),
    );
    let body = pool(&["10.0.0.0/28"]);
    for (client, may_write, may_admin) in [
        (&read, false, false),
        (&write, true, false),
        (&admin, true, true),
    ] {
        client.list::<Pool>().await.unwrap();
        client.cluster().await.unwrap();
        let wrote = client.put::<Pool>("web", &body, NOW).await;
        let managed = client.list::<vipd_api_types::ApiToken>().await;
        if may_write {
            drop(wrote.unwrap())
        } else {
            assert_eq!(reason(wrote), "forbidden")
        }
        if may_admin {
            drop(managed.unwrap())
        } else {
            assert_eq!(reason(managed), "forbidden")
        }
    }
    let refused = write
        .add_member(&AddMember {
            name: "n2".to_owned(),
        })
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the token allows write, this needs admin"
    );
}

#[tokio::test]
async fn a_revoked_or_expired_token_is_worth_nothing() {
    let node = Node::start().await;
    let token = node.token("ci", Access::Read).await;
    let client = node.tls_client(Some(&token));
    client.list::<Pool>().await.unwrap();
    node.client().delete_token("ci").await.unwrap();
    assert_eq!(reason(client.list::<Pool>().await), "bad_token");
    let old = Command::PutApiToken {
        token: hash_token("old"),
        name: Name::new("old").unwrap(),
        access: vipd_core::token::Access::Admin,
        expires: Some(Millis(1)),
    };
    node.memory.apply(old).unwrap();
    let expired = node
        .tls_client(Some("old"))
        .list::<Pool>()
        .await
        .unwrap_err();
    assert_eq!(expired.reason(), Some("token_expired"));
    assert!(expired.to_string().contains("1970-01-01"), "{expired}");
}

#[tokio::test]
async fn secrets_are_shown_once_and_names_are_unique() {
    let node = Node::start().await;
    let client = node.client();
    let request = TokenRequest {
        name: "ci".to_owned(),
        access: Access::Write,
        ttl_seconds: Some(60),
    };
    let issued = client.create_token(&request).await.unwrap();
    assert!(issued.token.starts_with("vipd_api_") && issued.expires.is_some());
    assert_eq!(
        reason(client.create_token(&request).await),
        "already_exists"
    );
    let listed =
        serde_json::to_string(&client.list::<vipd_api_types::ApiToken>().await.unwrap()).unwrap();
    assert!(
        listed.contains("\"ci\"") && !listed.contains(&issued.token),
        "{listed}"
    );
    assert_eq!(reason(client.delete_token("nope").await), "not_found");
}

#[tokio::test]
async fn a_server_of_another_ca_is_not_talked_to() {
    let (ours, other) = (Node::start().await, Node::start().await);
    let settings = Settings {
        ca_pem: Some(other.ca_pem.clone().into_bytes()),
        ..Settings::default()
    };
    let client = Client::new(&format!("https://{}", ours.tls).parse().unwrap(), settings).unwrap();
    let refused = client.cluster().await.unwrap_err();
    assert!(matches!(refused, Error::Unreachable { .. }), "{refused}");
    assert!(
        refused.next().contains("CA certificate"),
        "{}",
        refused.next()
    );
    let none = Client::new(
        &format!("https://{}", ours.tls).parse().unwrap(),
        Settings::default(),
    )
    .unwrap();
    assert!(
        none.cluster()
            .await
            .unwrap_err()
            .next()
            .contains("--ca FILE")
    );
}

#[tokio::test]
async fn the_socket_is_for_owner_and_group() {
    let node = Node::start().await;
    let mode = std::fs::metadata(&node.socket)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[tokio::test]
async fn a_live_socket_is_in_use_and_a_dead_one_is_replaced() {
    let node = Node::start().await;
    assert!(matches!(
        bind_unix(&node.socket),
        Err(ListenError::InUse { .. })
    ));
    let dir = tempfile::tempdir().unwrap();
    let (dead, file) = (dir.path().join("dead.sock"), dir.path().join("file"));
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    bind_unix(&dead).unwrap();
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(bind_unix(&file), Err(ListenError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[tokio::test]
async fn the_plain_listener_serves_metrics_and_health_and_nothing_else() {
    let node = Node::start().await;
    web_and_www(&node.client()).await;
    assert_eq!(reason(node.client().get::<Pool>("nope").await), "not_found");
    let text = common::http(
        node.metrics,
        "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await;
    for line in [
        "vipd_leader 1",
        "vipd_address_holder{vip=\"www\",address=\"10.0.0.10\"} 1",
        "vipd_address_answering{vip=\"www\",address=\"fd00::10\"} 1",
        "vipd_lease_remaining_seconds 0.142",
        "vipd_pool_addresses_used{pool=\"web\",family=\"ipv4\"} 1.0",
        "vipd_pool_addresses_available{pool=\"web\",family=\"ipv4\"} ",
        "vipd_vips_unsatisfied 0",
        "vipd_state_bytes_limit 134217728",
        "vipd_node_up{node=\"n2\"} 1",
        "vipd_api_refused_total{reason=\"not_found\"} 1",
        "vipd_datapath_packets_total{what=\"arp_answered\"} 6",
        "vipd_beat_datagrams_total{what=\"received\"} 160",
        "vipd_noticed_total{what=\"conflict\"} 2",
        "vipd_noticed_total{what=\"clock_jumped\"} 0",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    // What the pools lack is counted.
    let one = pool(&["10.0.9.1/32"]);
    node.client().put::<Pool>("one", &one, NOW).await.unwrap();
    for name in ["a", "b", "c"] {
        let spec = serde_json::json!({ "spec": { "pool": "one", "families": "ipv4" } });
        node.client().put::<Vip>(name, &spec, NOW).await.unwrap();
    }
    let text = common::http(
        node.metrics,
        "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await;
    for line in [
        "vipd_pool_addresses_used{pool=\"one\",family=\"ipv4\"} 1.0",
        "vipd_pool_addresses_available{pool=\"one\",family=\"ipv4\"} 0.0",
        "vipd_vips_unsatisfied 2",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let denied = common::http(
        node.metrics,
        "GET /v1/pools HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(denied.starts_with("HTTP/1.1 404"), "{denied}");
}
