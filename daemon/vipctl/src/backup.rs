//! `vipctl cluster snapshot FILE` (or into a pipe) and `vipctl cluster restore FILE`.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use vipd_api_types::{Backup, Differences, MAX_BACKUP, RESTORE_WITHIN, Restored};
use vipd_client::{Client, RestoreOptions};

use crate::cli::Global;
use crate::failure::Failure;
use crate::{connect, output, render};

/// What to restore.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The file, - for stdin
    file: PathBuf,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
    /// Bring back tokens of the API that are not here any more, also those that were revoked since
    #[arg(long)]
    tokens: bool,
    /// Even if it is of another cluster, and this one has pools or VIPs
    #[arg(long)]
    force: bool,
}

/// How many names of one kind are shown.
const SHOWN: usize = 10;

/// Where a backup goes. Without a file, to stdout, but not before somebody's eyes: who typed no more than that has to be told
/// that there is no backup yet.
pub(crate) fn target(file: Option<PathBuf>, terminal: bool) -> Result<PathBuf, Failure> {
    match file {
        Some(file) => Ok(file),
        None if !terminal => Ok(PathBuf::from("-")),
        None => Err(Failure::new(
            "the backup needs a file: nothing was written",
            "name it: vipctl cluster snapshot FILE, or > FILE; to shorten the log of the asked node: vipctl cluster compact",
        )),
    }
}

pub(crate) async fn save(client: &Client, file: &Path) -> Result<(), Failure> {
    let backup = client.backup().await?;
    let text = compact(&backup)?;
    if file == Path::new("-") {
        output::line(&text)?;
        return restorable(text.len());
    }
    write(file, &text).map_err(|cause| {
        Failure::new(
            format!("cannot write {}: {cause}", file.display()),
            "name a file that can be made there; what was there is as it was",
        )
    })?;
    output::line(&format!("{} into {}", summary(&backup), file.display()))?;
    restorable(text.len())
}

/// Without blanks: they are half of a large backup, and a restore takes so many bytes only.
fn compact(backup: &Backup) -> Result<String, Failure> {
    serde_json::to_string(backup).map_err(|cause| {
        Failure::new(
            format!("cannot write the backup: {cause}"),
            "report this as a bug",
        )
    })
}

/// Who has a backup that can't be restored should hear of it before he needs it.
fn restorable(bytes: usize) -> Result<(), Failure> {
    if bytes <= MAX_BACKUP {
        return Ok(());
    }
    Err(Failure::new(
        format!(
            "the backup was written, but has {bytes} bytes, and a restore takes {MAX_BACKUP} at most"
        ),
        "delete VIPs, or labels, that nobody needs, and save again; keep the files of vipctl apply until then",
    ))
}

/// Beside it first, so that a full disk does not cost the backup that is there. For its owner alone: hashes of tokens are
/// no secret, but nobody else's business either.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = file.with_file_name(name);
    let mut out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.sync_all()?;
    std::fs::rename(&beside, file)
}

fn summary(backup: &Backup) -> String {
    let content = &backup.content;
    let count =
        |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    format!(
        "{}, {}, {} with {}, {}, {}, as of revision {},",
        count(content.pools.len(), "pool", "pools"),
        count(content.policies.len(), "policy", "policies"),
        count(content.vips.len(), "VIP", "VIPs"),
        count(content.allocations.len(), "address", "addresses"),
        count(content.nodes.len(), "node", "nodes"),
        count(content.tokens.len(), "token", "tokens"),
        backup.revision
    )
}

pub(crate) async fn restore(args: &RestoreArgs, global: &Global) -> Result<(), Failure> {
    // Longer than the daemon may take, so that it is heard what it came to.
    let client = connect::patient_client(global, RESTORE_WITHIN + Duration::from_secs(5))?;
    let mut text = Vec::new();
    let read = match args.file == Path::new("-") {
        true => std::io::stdin().read_to_end(&mut text).map(drop),
        false => std::fs::read(&args.file).map(|read| text = read),
    };
    read.map_err(|cause| {
        Failure::new(
            format!("{}: {cause}", args.file.display()),
            "check the path and who may read it",
        )
    })?;
    if text.len() > MAX_BACKUP
        && let Ok(backup) = serde_json::from_slice::<Backup>(&text)
    {
        // Somebody has put blanks into it, to read it. What is in it is the same, and its checksum.
        text = compact(&backup)?.into_bytes();
    }
    let how = RestoreOptions {
        dry_run: args.dry_run,
        tokens: args.tokens,
        force: args.force,
    };
    let restored = client.restore(text, how).await;
    let named = |error| Failure::from(error).at(&args.file.display().to_string());
    let restored = restored.map_err(named)?;
    output::show(&restored, global.output, || told(&restored))
}

fn told(restored: &Restored) -> String {
    let mut lines = Vec::new();
    for (kind, differences) in [
        ("pool", &restored.pools),
        ("policy", &restored.policies),
        ("vip", &restored.vips),
        ("node", &restored.nodes),
        ("token", &restored.tokens),
    ] {
        lines.extend(differing(kind, differences, restored.dry_run));
    }
    lines.extend(
        restored
            .changes
            .iter()
            .map(|change| match restored.dry_run {
                true => render::change_line(change),
                false => render::changed_line(change),
            }),
    );
    if !restored.absent_nodes.is_empty() {
        let absent = few(&restored.absent_nodes);
        lines.push(format!("not here, and left out: node {absent}"));
    }
    let head = match (lines.is_empty(), restored.dry_run) {
        (true, _) => "nothing differs: the cluster is as the backup says",
        (false, true) => "to be restored (dry run, nothing was changed):",
        (false, false) => "restored:",
    };
    lines
        .iter()
        .fold(head.to_owned(), |text, line| format!("{text}\n  {line}"))
}

fn differing(kind: &str, differences: &Differences, dry_run: bool) -> Vec<String> {
    let would = |done: &str, tried: &str| match dry_run {
        true => tried.to_owned(),
        false => done.to_owned(),
    };
    [
        (&differences.added, would("made", "would be made")),
        (&differences.changed, would("changed", "would be changed")),
        (&differences.removed, would("deleted", "would be deleted")),
    ]
    .into_iter()
    .filter(|(names, _)| !names.is_empty())
    .map(|(names, what)| format!("{kind} {} {what}", few(names)))
    .collect()
}

fn few(names: &[String]) -> String {
    let shown = names
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_without_a_file_goes_into_a_pipe_and_never_onto_a_terminal() {
        let named = || Some(PathBuf::from("site.json"));
        assert_eq!(target(named(), true).unwrap(), PathBuf::from("site.json"));
        assert_eq!(target(None, false).unwrap(), PathBuf::from("-"));
        let [what, next] = target(None, true).unwrap_err().lines();
        assert!(what.contains("nothing was written"), "{what}");
        assert!(next.contains("FILE") && next.contains("compact"), "{next}");
    }

    #[test]
    fn a_backup_that_no_restore_takes_is_told_with_what_to_do() {
        assert!(restorable(MAX_BACKUP).is_ok());
        let [what, next] = restorable(MAX_BACKUP + 1).unwrap_err().lines();
        assert!(what.contains("67108865 bytes"), "{what}");
        assert!(next.contains("save again"), "{next}");
    }
}
