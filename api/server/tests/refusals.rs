//! Bad input: one clear line, a stable reason, a next step, and nothing changed.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Node, pool, reason, vip_at, web_and_www};
use serde_json::json;
use vipd_api_types::{Pool, Vip};
use vipd_client::{Error, WriteOptions};

const NOW: WriteOptions = WriteOptions {
    dry_run: false,
    if_revision: None,
    strict: false,
    force: false,
};
const STRICT: WriteOptions = WriteOptions {
    strict: true,
    ..NOW
};

#[tokio::test]
async fn bad_pools_are_refused_with_the_block_and_the_reason() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    let revision = client.list::<Pool>().await.unwrap().revision;
    for (block, why, said) in [
        (json!({"cidr": "10.0.0.300/24"}), "invalid", "10.0.0.300/24"),
        (
            json!({"cidr": "10.0.1.1/24"}),
            "invalid",
            "host bits set: write 10.0.1.0/24",
        ),
        (
            json!({"cidr": "10.0.1.0"}),
            "invalid",
            "without a prefix length",
        ),
        (
            json!({"start": "10.0.1.9", "stop": "10.0.1.1"}),
            "invalid",
            "ends before it starts",
        ),
        (
            json!({"start": "10.0.1.9", "stop": "fd00::1"}),
            "invalid",
            "mixes IPv4 and IPv6",
        ),
        (json!({"stop": "10.0.1.1"}), "invalid", "no start"),
        (
            json!({"cidr": "10.0.1.0/24", "start": "10.0.1.1"}),
            "invalid",
            "one or the other",
        ),
        (json!({}), "invalid", "is empty"),
        (
            json!({"start": "10.0.0.15"}),
            "overlap",
            "overlaps block 10.0.0.10-10.0.0.20 of pool web",
        ),
        (
            json!({"cdir": "10.0.1.0/24"}),
            "unknown_field",
            "spec.blocks[0].cdir; known here: cidr, start, stop",
        ),
    ] {
        let refused = client
            .put::<Pool>("bad", &json!({"spec": {"blocks": [block]}}), STRICT)
            .await
            .unwrap_err();
        assert_eq!(refused.reason(), Some(why), "{refused}");
        assert!(refused.to_string().contains(said), "{refused}");
        assert!(!refused.next().is_empty());
    }
    assert_eq!(
        reason(client.put::<Pool>("bad", &pool(&[]), NOW).await),
        "invalid"
    );
    let pools = client.list::<Pool>().await.unwrap();
    assert_eq!(pools.items.len(), 1);
    assert!(
        pools.revision <= revision + 2,
        "only those that reached the log took an index"
    );
}

#[tokio::test]
async fn bad_vips_are_refused_and_allocate_nothing() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    for (body, why, said) in [
        (
            vip_at(&["10.0.0.11", "10.0.0.11"]),
            "invalid",
            "10.0.0.11 twice",
        ),
        (vip_at(&["ten"]), "invalid", "\"ten\" is not an IP address"),
    ] {
        let refused = client.put::<Vip>("bad", &body, NOW).await.unwrap_err();
        assert_eq!(refused.reason(), Some(why), "{refused}");
        assert!(refused.to_string().contains(said), "{refused}");
    }
    let used = client
        .get::<Pool>("web")
        .await
        .unwrap()
        .status
        .families
        .ipv4
        .unwrap()
        .used;
    assert_eq!(
        (used, client.list::<Vip>().await.unwrap().items.len()),
        (1, 1)
    );
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let node = Node::start().await;
    let client = node.client();
    for name in ["nope", "No/Name?", "ä"] {
        assert!(client.get::<Pool>(name).await.unwrap_err().is_not_found());
        assert!(client.get::<Vip>(name).await.unwrap_err().is_not_found());
        assert!(
            client
                .get::<vipd_api_types::Node>(name)
                .await
                .unwrap_err()
                .is_not_found()
        );
        assert!(
            client
                .delete::<Vip>(name, NOW)
                .await
                .unwrap_err()
                .is_not_found()
        );
        assert!(
            client
                .drain(name, true, NOW)
                .await
                .unwrap_err()
                .is_not_found()
        );
    }
    assert_eq!(
        reason(
            client
                .put::<Pool>("Bad_Name", &pool(&["10.0.0.1"]), NOW)
                .await
        ),
        "invalid"
    );
    let mut other = pool(&["10.0.0.1"]);
    other.name = Some("other".to_owned());
    assert_eq!(
        reason(client.put::<Pool>("web", &other, NOW).await),
        "name_mismatch"
    );
}

#[tokio::test]
async fn an_unknown_path_method_or_parameter_is_a_problem_document_too() {
    let node = Node::start().await;
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(no_tls())
        .unix_socket(node.socket.clone());
    let http = http.build().unwrap();
    let problem = async |request: reqwest::RequestBuilder| {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        answer.json::<vipd_api_types::Problem>().await.unwrap()
    };
    let at = |path: &str| format!("http://localhost{path}");
    for (request, status, reason) in [
        (http.get(at("/v2/pools")), 404, "no_such_path"),
        (http.post(at("/v1/pools/web")), 405, "no_such_method"),
        (http.get(at("/v1/pools?label=x")), 400, "bad_query"),
        (
            http.get(at("/v1/pools?consistency=maybe")),
            400,
            "bad_query",
        ),
        (
            http.post(at("/v1/pools?dry_run=perhaps")).body("{}"),
            400,
            "bad_query",
        ),
        (
            http.post(at("/v1/cluster/snapshot?dry_run=true")),
            400,
            "bad_query",
        ),
        (http.post(at("/v1/pools")).body("{"), 400, "bad_body"),
        (
            http.post(at("/v1/pools")).body(vec![b' '; 2 << 20]),
            413,
            "body_too_large",
        ),
        (
            http.delete(at("/v1/pools/web")).header("if-match", "soon"),
            400,
            "bad_condition",
        ),
    ] {
        let problem = problem(request).await;
        assert_eq!(
            (problem.status, problem.reason.as_str()),
            (status, reason),
            "{problem:?}"
        );
    }
}

#[tokio::test]
async fn without_a_daemon_the_client_says_what_to_do() {
    let nobody = vipd_client::Client::new(
        &"unix:/nonexistent/api.sock".parse().unwrap(),
        Default::default(),
    )
    .unwrap();
    let failed = nobody.cluster().await.unwrap_err();
    assert!(matches!(failed, Error::Unreachable { .. }), "{failed}");
    assert!(
        failed.to_string().contains("unix:/nonexistent/api.sock"),
        "{failed}"
    );
    assert!(
        failed.next().contains("systemctl start vipd"),
        "{}",
        failed.next()
    );
}

fn no_tls() -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}
