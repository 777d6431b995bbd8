//! Backups.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use vipd_api_types as wire;
use vipd_core::backup::{
    Backup, SavedAllocation, SavedNode, SavedPolicy, SavedPool, SavedToken, SavedVip,
};
use vipd_core::id::Revision;
use vipd_core::node::Weight;
use vipd_core::time::Millis;
use vipd_core::token::{ApiToken, TokenHash};

use super::token::{access_from_wire, access_to_wire};
use super::{new_name, policy, pool, vip};
use crate::clock::{parse, rfc3339};
use crate::problem::Refusal;

/// The version of the format that is written, and the only one so far.
pub(crate) const FORMAT: u32 = 1;

/// What is in a backup.
pub(crate) fn to_wire(backup: &Backup) -> wire::BackupContent {
    let pools = backup.pools.iter().map(|saved| wire::SavedPool {
        name: saved.name.to_string(),
        labels: saved.labels.clone(),
        created: rfc3339(saved.created),
        spec: pool::spec_to_wire(&saved.spec),
    });
    let policies = backup.policies.iter().map(|saved| wire::SavedPolicy {
        name: saved.name.to_string(),
        labels: saved.labels.clone(),
        created: rfc3339(saved.created),
        spec: policy::spec_to_wire(&saved.spec),
    });
    let vips = backup.vips.iter().map(|saved| wire::SavedVip {
        name: saved.name.to_string(),
        labels: saved.labels.clone(),
        created: rfc3339(saved.created),
        spec: vip::spec_to_wire(&saved.spec),
        addresses: saved.addresses.clone(),
    });
    let allocations = backup
        .allocations
        .iter()
        .map(|saved| wire::SavedAllocation {
            address: saved.address,
            pool: saved.pool.to_string(),
            since: rfc3339(saved.since),
            vips: saved.vips.iter().map(ToString::to_string).collect(),
        });
    let nodes = backup.nodes.iter().map(|saved| wire::SavedNode {
        name: saved.name.to_string(),
        labels: saved.labels.clone(),
        weight: saved.weight.get(),
        drained: saved.drained,
    });
    let tokens = backup.tokens.iter().map(|saved| wire::SavedToken {
        name: saved.token.name.to_string(),
        access: access_to_wire(saved.token.access),
        sha256: hex(&saved.hash),
        created: rfc3339(saved.token.created),
        expires: saved.token.expires.map(rfc3339),
    });
    wire::BackupContent {
        pools: pools.collect(),
        policies: policies.collect(),
        vips: vips.collect(),
        allocations: allocations.collect(),
        nodes: nodes.collect(),
        tokens: tokens.collect(),
    }
}

/// The same the other way; without tokens unless they are wanted.
pub(crate) fn from_wire(content: &wire::BackupContent, tokens: bool) -> Result<Backup, Refusal> {
    let mut backup = Backup::default();
    for saved in &content.pools {
        backup.pools.push(SavedPool {
            name: new_name(&saved.name)?,
            labels: saved.labels.clone(),
            spec: pool::spec_from_wire(&saved.spec)?,
            created: time(&saved.created)?,
        });
    }
    for saved in &content.policies {
        backup.policies.push(SavedPolicy {
            name: new_name(&saved.name)?,
            labels: saved.labels.clone(),
            spec: policy::spec_from_wire(&saved.spec)?,
            created: time(&saved.created)?,
        });
    }
    for saved in &content.vips {
        backup.vips.push(SavedVip {
            name: new_name(&saved.name)?,
            labels: saved.labels.clone(),
            spec: vip::spec_from_wire(&saved.spec)?,
            created: time(&saved.created)?,
            addresses: saved.addresses.clone(),
        });
    }
    for saved in &content.allocations {
        let vips = saved.vips.iter().map(|vip| new_name(vip));
        backup.allocations.push(SavedAllocation {
            address: saved.address,
            pool: new_name(&saved.pool)?,
            since: time(&saved.since)?,
            vips: vips.collect::<Result<_, _>>()?,
        });
    }
    for saved in &content.nodes {
        backup.nodes.push(SavedNode {
            name: new_name(&saved.name)?,
            labels: saved.labels.clone(),
            weight: Weight::new(saved.weight).map_err(Refusal::invalid)?,
            drained: saved.drained,
        });
    }
    for saved in content.tokens.iter().filter(|_| tokens) {
        backup.tokens.push(SavedToken {
            hash: unhex(&saved.sha256)?,
            token: ApiToken {
                name: new_name(&saved.name)?,
                access: access_from_wire(saved.access),
                expires: saved.expires.as_deref().map(time).transpose()?,
                created: time(&saved.created)?,
                // It is made anew by being restored.
                made: Revision::default(),
            },
        });
    }
    Ok(backup)
}

/// What a backup's content is known by.
pub(crate) fn checksum(content: &wire::BackupContent) -> Result<String, Refusal> {
    let bytes = serde_json::to_vec(content)
        .map_err(|cause| Refusal::invalid(format!("the backup is no JSON: {cause}")))?;
    Ok(format!("sha256:{}", hex(&Sha256::digest(bytes))))
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Result<TokenHash, Refusal> {
    let bad = || Refusal::invalid(format!("sha256 {text:?} is not 64 hexadecimal digits"));
    if text.len() != 64 || !text.is_ascii() {
        return Err(bad());
    }
    let mut hash = TokenHash::default();
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| bad())?;
    }
    Ok(hash)
}

fn time(text: &str) -> Result<Millis, Refusal> {
    parse(text).ok_or_else(|| {
        Refusal::invalid(format!(
            "{text:?} is not a time such as 2026-11-22T08:00:00Z"
        ))
    })
}
