//! `vipctl apply -f`: make or replace what files describe, pools and policies before VIPs.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::json;
use vipd_api_types::{Policy, Pool, Vip};
use vipd_client::{Client, Writable, WriteOptions, Written};

use crate::cli::Global;
use crate::failure::Failure;
use crate::manifest::{self, Kind, Manifest};
use crate::{connect, output, render};

/// What to apply.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// YAML, JSON or TOML file, - for stdin; repeat for more
    #[arg(short, long = "file", required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(
    args: &ApplyArgs,
    only: Option<Kind>,
    global: &Global,
) -> Result<(), Failure> {
    // All files are read before anything is asked for, so that a slip in the last one changes nothing.
    let mut manifests = Vec::new();
    for file in &args.files {
        manifests
            .extend(read(file, only).map_err(|failure| failure.at(&file.display().to_string()))?);
    }
    manifests.sort_by_key(|manifest| manifest.kind);
    let client = connect::client(global)?;
    for manifest in &manifests {
        let place = format!("{}/{}", manifest.kind.as_str(), manifest.name);
        match manifest.kind {
            Kind::Pool => {
                apply::<Pool>(&client, manifest, args.dry_run, global, &place, |pool| {
                    pool.revision
                })
                .await
            }
            Kind::Policy => {
                apply::<Policy>(&client, manifest, args.dry_run, global, &place, |policy| {
                    policy.revision
                })
                .await
            }
            Kind::Vip => {
                apply::<Vip>(&client, manifest, args.dry_run, global, &place, |vip| {
                    vip.revision
                })
                .await
            }
        }
        .map_err(|failure| failure.at(&place))?;
    }
    Ok(())
}

fn read(file: &Path, only: Option<Kind>) -> Result<Vec<Manifest>, Failure> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let text = text
        .map_err(|cause| Failure::new(cause.to_string(), "check the path and who may read it"))?;
    manifest::read(
        &text,
        file.extension().and_then(|extension| extension.to_str()),
        only,
    )
}

async fn apply<T: Writable + Serialize>(
    client: &Client,
    manifest: &Manifest,
    dry_run: bool,
    global: &Global,
    place: &str,
    revision: fn(&T) -> u64,
) -> Result<(), Failure> {
    let before = match client.get::<T>(&manifest.name).await {
        Ok(object) => Some(revision(&object)),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error.into()),
    };
    let body = json!({ "name": manifest.name, "labels": manifest.labels, "spec": manifest.spec });
    match client
        .put::<T>(
            &manifest.name,
            &body,
            WriteOptions {
                dry_run,
                ..WriteOptions::default()
            },
        )
        .await?
    {
        Written::Tried(tried) => render::dry_run(&tried, place, global.output),
        Written::Done(after) => output::show(&after, global.output, || {
            let what = match (before, after.as_ref().map(revision)) {
                (None, _) => "created",
                (Some(before), Some(after)) if before == after => "unchanged",
                (Some(_), _) => "changed",
            };
            format!("{place} {what}")
        }),
    }
}
