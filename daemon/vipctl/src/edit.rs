//! `vipctl pool edit NAME` and the like: the object as YAML in an editor. What the cluster refuses comes back with the
//! reason on top; what somebody else has changed meanwhile is not overwritten.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use clap::Args;
use tempfile::NamedTempFile;
use vipd_client::{Client, WriteOptions};

use crate::cli::Global;
use crate::failure::Failure;
use crate::kind::{Kept, document};
use crate::manifest;
use crate::{connect, dark, output};

/// What to edit.
#[derive(Debug, Args)]
pub(crate) struct EditArgs {
    /// Its name
    name: String,
}

/// Begins each line that is for the reader alone.
const ASIDE: &str = "#: ";

pub(crate) async fn run<T: Kept>(args: &EditArgs, global: &Global) -> Result<(), Failure> {
    let client = connect::client(global)?;
    let object = client.get::<T>(&args.name).await?;
    let title = format!("{}/{}", T::KIND.as_str(), args.name);
    let kept = document(&object)?;
    let mut text = kept.clone();
    let mut said = vec![format!(
        "{title} at revision {}. Lines that begin with {ASIDE}are left out; to change nothing, quit.",
        object.revision()
    )];
    loop {
        let edited = in_editor(&said, &text)?;
        if edited == kept {
            return output::line(&format!("{title} unchanged"));
        }
        let failure = match write::<T>(&client, &edited, &args.name, object.revision()).await {
            Ok(()) => {
                dark::warn(&client, &[(T::KIND, &args.name)]).await;
                return output::line(&format!("{title} changed"));
            }
            Err(failure) => failure,
        };
        // Nothing has been mended: going on would be a loop.
        if edited == text || failure.is_for_all() || failure.is_stale() {
            return Err(save(T::KIND.as_str(), &edited, failure));
        }
        said = failure.lines().to_vec();
        text = edited;
    }
}

async fn write<T: Kept>(
    client: &Client,
    text: &str,
    name: &str,
    revision: u64,
) -> Result<(), Failure> {
    let read = manifest::read(text, Some("yaml"), Some(T::KIND))?;
    let [wanted] = read.as_slice() else {
        return Err(Failure::new(
            format!("{} objects instead of one", read.len()),
            "leave one document; apply several with: vipctl apply -f FILE",
        ));
    };
    if wanted.name != name {
        return Err(Failure::new(
            format!("its name was {name} and is {} now", wanted.name),
            "a name cannot be changed: make another object, and delete this one",
        ));
    }
    let how = WriteOptions {
        if_revision: Some(revision),
        ..WriteOptions::default()
    };
    client.put::<T>(name, &wanted.body(), how).await?;
    Ok(())
}

/// Shows `text` in the user's editor, under these lines; what it is afterwards.
fn in_editor(said: &[String], text: &str) -> Result<String, Failure> {
    let failed = |cause: std::io::Error| {
        Failure::new(
            format!("the text could not be kept in a file: {cause}"),
            "check TMPDIR",
        )
    };
    let mut file = tempfile::Builder::new()
        .prefix("vipctl-")
        .suffix(".yaml")
        .tempfile()
        .map_err(failed)?;
    for line in said {
        writeln!(file, "{ASIDE}{line}").map_err(failed)?;
    }
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.flush().map_err(failed)?;
    run_editor(file.path())?;
    let edited = std::fs::read_to_string(file.path()).map_err(failed)?;
    let lines = edited
        .lines()
        .filter(|line| !line.starts_with(ASIDE.trim_end()));
    Ok(lines.map(|line| format!("{line}\n")).collect())
}

fn run_editor(file: &Path) -> Result<(), Failure> {
    let set = |name| {
        std::env::var(name)
            .ok()
            .filter(|value| !value.trim().is_empty())
    };
    let editor = set("VISUAL")
        .or_else(|| set("EDITOR"))
        .unwrap_or_else(|| "vi".to_owned());
    // By a shell, because people put options into it.
    let ended = Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(file)
        .status();
    let next = "set EDITOR to an editor that returns when it is done";
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(
            format!("editor {editor} ended with {status}; nothing was changed"),
            next,
        )),
        Err(cause) => Err(Failure::new(
            format!("cannot start editor {editor}: {cause}"),
            next,
        )),
    }
}

/// The failure, with where the text is that would be lost otherwise.
fn save(kind: &str, text: &str, failure: Failure) -> Failure {
    let kept = NamedTempFile::with_suffix(".yaml").and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.keep().map_err(|error| error.error)
    });
    match kept {
        Ok((_, path)) => {
            let path = path.display();
            failure.and_then(&format!(
                "your text is in {path}: when it is mended, vipctl {kind} apply -f {path}"
            ))
        }
        Err(_) => failure,
    }
}
