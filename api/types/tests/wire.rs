//! The JSON that others rely on.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use vipd_api_types::{Access, Block, Count, Families, IssuedToken, JoinToken, PoolWrite, VipWrite};

#[test]
fn a_pool_needs_nothing_but_blocks() {
    let pool: PoolWrite =
        serde_json::from_value(json!({"spec": {"blocks": [{"cidr": "192.0.2.0/28"}]}})).unwrap();
    assert!(pool.spec.allow_first_last);
    assert!(!pool.spec.disabled);
    assert_eq!(pool.name, None);
}

#[test]
fn a_vip_needs_nothing_at_all_and_prefers_both_families() {
    let vip: VipWrite = serde_json::from_value(json!({})).unwrap();
    assert_eq!(vip.spec.families, Families::PreferDual);
    assert!(vip.spec.addresses.is_empty());
}

#[test]
fn counts_above_64_bits_keep_every_digit() {
    let count = Count {
        total: 1 << 64,
        used: 1,
        available: (1 << 64) - 1,
    };
    let text = serde_json::to_string(&count).unwrap();
    assert_eq!(
        text,
        r#"{"total":18446744073709551616,"used":1,"available":18446744073709551615}"#
    );
    assert_eq!(serde_json::from_str::<Count>(&text).unwrap(), count);
}

#[test]
fn an_older_client_understands_a_newer_daemon() {
    let block: Block =
        serde_json::from_value(json!({"start": "192.0.2.1", "a_later_field": 1})).unwrap();
    assert_eq!(block.start.as_deref(), Some("192.0.2.1"));
}

#[test]
fn short_blocks_read_back_as_they_were_written() {
    for short in [
        "192.0.2.0/28",
        "192.0.2.1-192.0.2.9",
        "192.0.2.1",
        "2001:db8::/120",
        "2001:db8::1-2001:db8::ff",
    ] {
        assert_eq!(Block::from_short(short).to_short(), short);
    }
}

#[test]
fn debug_of_a_new_token_shows_its_name_and_no_secret() {
    let secret = "vipd_api_c2VjcmV0";
    let issued = IssuedToken {
        name: "ci".to_owned(),
        access: Access::Admin,
        token: secret.to_owned(),
        expires: None,
    };
    let join = JoinToken {
        token: secret.to_owned(),
        command: format!("vipd join 192.0.2.1:7400 {secret}"),
        expires: "2026-01-01T00:00:00Z".to_owned(),
    };
    for shown in [
        format!("{issued:?}"),
        format!("{issued:#?}"),
        format!("{join:?}"),
        format!("{join:#?}"),
    ] {
        assert!(!shown.contains("c2VjcmV0"), "{shown}");
    }
    assert!(format!("{issued:?}").contains("ci"));
    // Whoever asked for it is told it.
    let told = serde_json::to_string(&issued).unwrap() + &serde_json::to_string(&join).unwrap();
    assert_eq!(told.matches("c2VjcmV0").count(), 3, "{told}");
}
