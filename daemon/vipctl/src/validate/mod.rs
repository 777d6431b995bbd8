//! `vipctl validate`: what is wrong with files, with the cluster as it is, or with the two together, before anybody is
//! served by it. With a cluster, its daemon judges each file by a dry run; what it can't see (that a selector selects
//! nothing, that no node is in a pool's subnet) is looked at here.

mod judge;
mod room;
mod world;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use vipd_client::{Client, WriteOptions};

use crate::cli::Global;
use crate::failure::Failure;
use crate::kind::{Kept, of_kind};
use crate::manifest::Manifest;
use crate::{connect, files, output};
use world::World;

/// What to look at.
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// YAML, JSON or TOML file, a directory of such, or - for stdin; repeat for more; without any, the cluster as it is
    #[arg(
        short,
        long = "file",
        value_name = "FILE",
        required_if_eq("offline", "true")
    )]
    files: Vec<PathBuf>,
    /// Ask no cluster: look at the files alone
    #[arg(long)]
    offline: bool,
}

/// Something that is wrong, or surely not meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Where: file and line, or `cluster`.
    place: String,
    /// What it is about, for example `pool/web`.
    object: String,
    /// What is wrong with it.
    what: String,
    /// What to do about it.
    next: String,
}

/// Exits with 1 if there is a finding.
pub(crate) async fn run(args: &ValidateArgs, global: &Global) -> Result<(), Failure> {
    let manifests = match args.files.as_slice() {
        [] => Vec::new(),
        files => files::read(files, None)?,
    };
    let mut findings = Vec::new();
    let mut world = World::default();
    if !args.offline {
        let client = connect::client(global)?;
        world = World::of_cluster(&client).await?;
        for (place, manifest) in &manifests {
            findings
                .extend(of_kind!(manifest.kind, T => tried::<T>(&client, place, manifest).await)?);
        }
    }
    let refused: Vec<String> = findings
        .iter()
        .map(|finding| finding.place.clone())
        .collect();
    for (place, manifest) in &manifests {
        // What the daemon has said already need not be said again.
        let said = world.put(place, manifest);
        findings.extend(
            said.into_iter()
                .filter(|finding| !refused.contains(&finding.place)),
        );
    }
    findings.extend(
        judge::all(&world)
            .into_iter()
            .filter(|finding| manifests.is_empty() || world.is_from_files(&finding.place)),
    );
    show(&findings, &world, global)
}

/// What the daemon says to one object of a file.
async fn tried<T: Kept>(
    client: &Client,
    place: &str,
    manifest: &Manifest,
) -> Result<Option<Finding>, Failure> {
    let how = WriteOptions {
        dry_run: true,
        ..WriteOptions::default()
    };
    match client.put::<T>(&manifest.name, &manifest.body(), how).await {
        Ok(_) => Ok(None),
        Err(error) if error.reason().is_some() && !error.is_denied() => Ok(Some(Finding {
            place: place.to_owned(),
            object: manifest.title(),
            what: error.to_string(),
            next: error.next(),
        })),
        Err(error) => Err(error.into()),
    }
}

fn show(findings: &[Finding], world: &World, global: &Global) -> Result<(), Failure> {
    output::show(&findings, global.output, || match findings {
        [] => format!("{} objects, nothing wrong with them", world.len()),
        some => {
            let lines = some.iter().map(|finding| {
                let Finding {
                    place,
                    object,
                    what,
                    next,
                } = finding;
                format!("{place}: {object}: {what}\n    next: {next}")
            });
            lines.collect::<Vec<_>>().join("\n")
        }
    })?;
    match findings.len() {
        0 => Ok(()),
        some => Err(Failure::new(
            format!(
                "{some} {} in {} objects",
                if some == 1 { "finding" } else { "findings" },
                world.len()
            ),
            "mend what is listed, and validate again",
        )),
    }
}
