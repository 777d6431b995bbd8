//! `vipctl apply -f`: make or replace what files describe, pools and policies before VIPs.

use clap::Args;
use vipd_client::{Client, WriteOptions, Written};

use crate::cli::Global;
use crate::failure::Failure;
use crate::files::{self, FilesArgs};
use crate::kind::{Kept, of_kind};
use crate::manifest::{Kind, Manifest};
use crate::{connect, dark, output, render};

/// What to apply.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
}

/// All files are read before anything is asked for, so that a slip of the pen in the last one changes nothing. What the
/// cluster refuses is told, and the rest is applied all the same.
pub(crate) async fn run(
    args: &ApplyArgs,
    only: Option<Kind>,
    global: &Global,
) -> Result<(), Failure> {
    let manifests = files::read(&args.files.files, only)?;
    let client = connect::client(global)?;
    let (mut failed, mut written) = (Vec::new(), Vec::new());
    for (place, manifest) in &manifests {
        let how = WriteOptions {
            dry_run: args.dry_run,
            ..WriteOptions::default()
        };
        let applied =
            of_kind!(manifest.kind, T => apply::<T>(&client, manifest, how, global).await);
        if let Err(failure) = applied {
            let failure = failure.at(&format!("{place}: {}", manifest.title()));
            if failure.is_for_all() || manifests.len() == 1 {
                return Err(failure);
            }
            let _shown = failure.report();
            failed.push(manifest.title());
        } else if !args.dry_run {
            written.push((manifest.kind, manifest.name.as_str()));
        }
    }
    dark::warn(&client, &written).await;
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        format!(
            "{} of {} objects were refused: {}",
            failed.len(),
            manifests.len(),
            failed.join(", ")
        ),
        "mend them and apply again; what was applied stays as it is",
    ))
}

async fn apply<T: Kept>(
    client: &Client,
    manifest: &Manifest,
    how: WriteOptions,
    global: &Global,
) -> Result<(), Failure> {
    let before = match client.get::<T>(&manifest.name).await {
        Ok(object) => Some(object.revision()),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error.into()),
    };
    let title = manifest.title();
    match client
        .put::<T>(&manifest.name, &manifest.body(), how)
        .await?
    {
        Written::Tried(tried) => render::dry_run(&tried, &title, global.output),
        Written::Done(after) => output::show(&after, global.output, || {
            let what = match (before, after.as_ref().map(T::revision)) {
                (None, _) => "created",
                (Some(before), Some(after)) if before == after => "unchanged",
                (Some(_), _) => "changed",
            };
            format!("{title} {what}")
        }),
    }
}
