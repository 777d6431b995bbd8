//! `/v1/cluster/snapshot` and `/v1/cluster/restore`: backups.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;
use vipd_api_types::{Backup, Differences, MAX_BACKUP, Problem, Restored};
use vipd_core::codec::Wire;
use vipd_core::command::{Command, Proposal};
use vipd_core::state::State as Cluster;

use crate::audit;
use crate::clock::{self, rfc3339};
use crate::convert::backup::{self, FORMAT, hex};
use crate::erased::Daemon;
use crate::params::{Params, ReadParams, flag};
use crate::plan;
use crate::problem::Refusal;
use crate::strict::Large;
use crate::write;

/// The most bytes of a backup as JSON. It is no greater in the log, where the same number is the bound.
pub(super) const LIMIT: usize = MAX_BACKUP;
const _: () = assert!(LIMIT <= vipd_core::state::MAX_STAGED);
/// The path of a restore, which may take longer than the rest.
pub(super) const RESTORE: &str = "/v1/cluster/restore";
/// The size of the parts in which it goes through the log.
const PART: usize = 200 * 1024;

/// How to restore.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RestoreParams {
    /// Only say what would happen.
    #[serde(default, deserialize_with = "flag")]
    dry_run: bool,
    /// Bring back API tokens that are not here any more. Those that were revoked since are good again then.
    #[serde(default, deserialize_with = "flag")]
    tokens: bool,
    /// Even if it is of another cluster, and this one has pools or VIPs.
    #[serde(default, deserialize_with = "flag")]
    force: bool,
}

/// What operators have asked for, and which address belongs to which VIP: a backup.
#[utoipa::path(get, path = "/v1/cluster/snapshot", tag = "cluster", operation_id = "get_backup", params(ReadParams),
    responses((status = 200, body = Backup), (status = "default", body = Problem)))]
pub(super) async fn take(
    State(daemon): State<Daemon>,
    Params(params): Params<ReadParams>,
) -> Result<Response, Refusal> {
    params.ready(&daemon).await?;
    let place = daemon.room.answer(&audit::asker()?)?;
    let _turn = daemon.room.make().await?;
    let (saved, cluster, revision) =
        daemon.read(|state| (state.backup(), state.cluster(), state.applied()));
    let content = backup::to_wire(&saved);
    let backup = Backup {
        format: FORMAT,
        cluster: hex(&cluster.unwrap_or_default()),
        revision,
        taken: rfc3339(clock::now()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        checksum: Some(backup::checksum(&content)?),
        content,
    };
    Ok(place.held(Json(backup).into_response()))
}

/// Replace pools, policies, VIPs and their addresses by those of a backup, in one step. An address that stays keeps its
/// holder; leases, members and join tokens are left alone.
#[utoipa::path(post, path = "/v1/cluster/restore", tag = "cluster", operation_id = "restore", params(RestoreParams),
    request_body = Backup, responses((status = 200, body = Restored), (status = "default", body = Problem)))]
pub(super) async fn restore(
    State(daemon): State<Daemon>,
    Params(params): Params<RestoreParams>,
    Large(body): Large<Backup>,
) -> Result<Json<Restored>, Refusal> {
    whole(&body)?;
    let wanted = backup::from_wire(&body.content, params.tokens)?;
    let bytes = wanted.to_bytes();
    daemon.may_propose(&Command::Restore { upload: 0 })?;
    // It may be of many megabytes, so it waits in few places.
    let _place = daemon.room.answer(&audit::asker()?)?;
    daemon.linearize().await?;
    let turn = daemon.room.make().await?;
    let before = daemon.read(Cluster::clone);
    if !params.force {
        of_here(&body, &before)?;
    }
    // Tried first, so that what is refused does not go through the log.
    let tried = try_out(&before, bytes.clone())?;
    let after = if params.dry_run {
        tried
    } else {
        // It may take minutes, and waits more than it works: others have their lists made meanwhile.
        drop(turn);
        carry_out(&daemon, &bytes).await?;
        daemon.read(Cluster::clone)
    };
    let absent = body.content.nodes.iter();
    let absent = absent.filter(|node| {
        let name = node.name.parse();
        name.is_ok_and(|name| before.node_named(&name).is_none())
    });
    let absent_nodes = absent.map(|node| node.name.clone()).collect();
    Ok(Json(Restored {
        dry_run: params.dry_run,
        absent_nodes,
        changes: plan::changes(&before, &after),
        ..differences(&before, &after)
    }))
}

fn whole(body: &Backup) -> Result<(), Refusal> {
    if body.format != FORMAT {
        return Err(Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "unknown_format",
            "The backup is of another version",
            format!(
                "the backup is of format {} (vipd {}), and this vipd reads {FORMAT}",
                body.format, body.version
            ),
            "restore it with the vipd that took it, or a later one",
        ));
    }
    let is = backup::checksum(&body.content)?;
    match &body.checksum {
        Some(said) if *said != is => Err(Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad_checksum",
            "The backup is damaged",
            format!("the backup's content has {is}, and it says {said}"),
            "take another copy of it; if you have changed it on purpose, take the checksum out",
        )),
        Some(_) | None => Ok(()),
    }
}

/// Into the cluster it is of, or an empty one.
fn of_here(body: &Backup, state: &Cluster) -> Result<(), Refusal> {
    let here = hex(&state.cluster().unwrap_or_default());
    let empty = state.pools().is_empty() && state.vips().is_empty();
    if body.cluster == here || empty {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::CONFLICT,
        "another_cluster",
        "The backup is of another cluster",
        format!(
            "the backup is of cluster {}, this is {here}, and it has {} pools and {} VIPs, which would be replaced",
            body.cluster,
            state.pools().len(),
            state.vips().len()
        ),
        "see what would change with dry_run and force; if that is meant, restore with force",
    ))
}

fn stage(upload: u128, part: usize, bytes: &[u8]) -> Command {
    Command::Stage {
        upload,
        part: u32::try_from(part).unwrap_or(u32::MAX),
        bytes: bytes.to_vec(),
    }
}

fn try_out(before: &Cluster, bytes: Vec<u8>) -> Result<Cluster, Refusal> {
    let upload = rand::random();
    let mut after = before.clone();
    for command in [stage(upload, 0, &bytes), Command::Restore { upload }] {
        let index = after.applied() + 1;
        let at = clock::now();
        let by = None;
        after.apply(index, &Proposal { at, command, by })?;
    }
    Ok(after)
}

async fn carry_out(daemon: &Daemon, bytes: &[u8]) -> Result<(), Refusal> {
    let upload = rand::random();
    for (number, part) in bytes.chunks(PART).enumerate() {
        write::propose(daemon, stage(upload, number, part)).await?;
    }
    write::propose(daemon, Command::Restore { upload }).await?;
    Ok(())
}

fn differences(before: &Cluster, after: &Cluster) -> Restored {
    let (before, after) = (before.backup(), after.backup());
    Restored {
        pools: differing(&before.pools, &after.pools, |saved| saved.name.as_str()),
        policies: differing(&before.policies, &after.policies, |saved| {
            saved.name.as_str()
        }),
        vips: differing(&before.vips, &after.vips, |saved| saved.name.as_str()),
        nodes: differing(&before.nodes, &after.nodes, |saved| saved.name.as_str()),
        tokens: differing(&before.tokens, &after.tokens, |saved| {
            saved.token.name.as_str()
        }),
        ..Restored::default()
    }
}

fn differing<T: PartialEq>(before: &[T], after: &[T], name: fn(&T) -> &str) -> Differences {
    let by_name = |all| -> std::collections::BTreeMap<&str, &T> {
        let all: &[T] = all;
        all.iter().map(|one| (name(one), one)).collect()
    };
    let (before, after) = (by_name(before), by_name(after));
    let names = |found: Vec<&&str>| found.into_iter().map(|name| (*name).to_owned()).collect();
    let added = after.keys().filter(|name| !before.contains_key(*name));
    let removed = before.keys().filter(|name| !after.contains_key(*name));
    let changed = after
        .iter()
        .filter(|(name, is)| before.get(*name).is_some_and(|was| was != *is));
    Differences {
        added: names(added.collect()),
        changed: names(changed.map(|(name, _)| name).collect()),
        removed: names(removed.collect()),
    }
}
