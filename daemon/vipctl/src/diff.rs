//! `vipctl diff -f`: what `apply -f` would change, as a unified diff. The daemon itself says what would become of an
//! object, by a dry run, so what it fills in by default is no difference.

use similar::{ChangeTag, TextDiff};
use vipd_api_types::Change;
use vipd_client::{Client, WriteOptions, Written};

use crate::cli::Global;
use crate::failure::Failure;
use crate::files::{self, FilesArgs};
use crate::kind::{Kept, document, of_kind};
use crate::manifest::Manifest;
use crate::{connect, output, render};

/// Lines around a difference.
const AROUND: usize = 3;
/// The exit code when it cannot be told, as of diff(1) and `kubectl diff`.
const TROUBLE: u8 = 2;

/// Exits with 0 if nothing would change, 1 if something would.
pub(crate) async fn run(args: &FilesArgs, global: &Global) -> Result<(), Failure> {
    let trouble = |failure: Failure| failure.exiting(TROUBLE);
    let manifests = files::read(&args.files, None).map_err(trouble)?;
    let client = connect::client(global).map_err(trouble)?;
    let mut differs = false;
    for (place, manifest) in &manifests {
        let told = of_kind!(manifest.kind, T => differences::<T>(&client, manifest).await);
        let told = told.map_err(|failure| {
            let place = format!("{place}: {}", manifest.title());
            trouble(failure.at(&place))
        })?;
        if let Some(told) = told {
            differs = true;
            output::line(&told).map_err(trouble)?;
        }
    }
    match differs {
        true => Err(Failure::silent()),
        false => Ok(()),
    }
}

async fn differences<T: Kept>(
    client: &Client,
    manifest: &Manifest,
) -> Result<Option<String>, Failure> {
    let before = match client.get::<T>(&manifest.name).await {
        Ok(object) => document(&object)?,
        Err(error) if error.is_not_found() => String::new(),
        Err(error) => return Err(error.into()),
    };
    let how = WriteOptions {
        dry_run: true,
        ..WriteOptions::default()
    };
    let Written::Tried(tried) = client
        .put::<T>(&manifest.name, &manifest.body(), how)
        .await?
    else {
        return Err(Failure::new(
            "the daemon did it although it was only to try",
            "report this as a bug of vipd",
        ));
    };
    let after = tried.object.as_ref().map(document).transpose()?;
    let after = after.unwrap_or_default();
    Ok((before != after).then(|| unified(&manifest.title(), &before, &after, &tried.changes)))
}

/// The difference, and what would become of addresses.
fn unified(title: &str, before: &str, after: &str, changes: &[Change]) -> String {
    let diff = TextDiff::from_lines(before, after);
    let now = if before.is_empty() {
        "(nothing)"
    } else {
        "now"
    };
    let mut text = format!("--- {title} {now}\n+++ {title} wanted\n");
    for hunk in diff.unified_diff().context_radius(AROUND).iter_hunks() {
        text.push_str(&output::faint(&hunk.header().to_string()));
        text.push('\n');
        for change in hunk.iter_changes() {
            let line = change.value().trim_end_matches('\n');
            text.push_str(&match change.tag() {
                ChangeTag::Equal => format!(" {line}"),
                ChangeTag::Delete => output::removed(&format!("-{line}")),
                ChangeTag::Insert => output::added(&format!("+{line}")),
            });
            text.push('\n');
        }
    }
    for change in changes {
        text.push_str(&format!("# {}\n", render::change_line(change)));
    }
    text.trim_end().to_owned()
}
