//! The files that a command names, read before anything is asked for.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::Failure;
use crate::kind::in_order;
use crate::manifest::{self, Kind, Manifest};

/// Which files.
#[derive(Debug, Args)]
pub(crate) struct FilesArgs {
    /// YAML, JSON or TOML file, a directory of such, or - for stdin; repeat for more
    #[arg(short, long = "file", required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

/// Endings of the files of a directory that are read.
const FORMATS: [&str; 4] = ["yaml", "yml", "json", "toml"];

/// All objects in `files`, each with where it stands (`web.yaml:7`): pools, then policies, then VIPs.
pub(crate) fn read(
    files: &[PathBuf],
    only: Option<Kind>,
) -> Result<Vec<(String, Manifest)>, Failure> {
    let mut manifests = Vec::new();
    for file in expanded(files)? {
        let shown = match file == Path::new("-") {
            true => "stdin".to_owned(),
            false => file.display().to_string(),
        };
        let read = read_one(&file, only).map_err(|failure| failure.at(&shown))?;
        let placed = read.into_iter();
        manifests.extend(placed.map(|manifest| (format!("{shown}:{}", manifest.line), manifest)));
    }
    once_each(&manifests)?;
    Ok(in_order(manifests))
}

/// Directories become the files in them that have a known ending, by name; not those of directories in them.
fn expanded(files: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut all = Vec::new();
    for file in files {
        if !file.is_dir() {
            all.push(file.clone());
            continue;
        }
        let listed = std::fs::read_dir(file).and_then(|entries| {
            let paths = entries.map(|entry| entry.map(|entry| entry.path()));
            paths.collect::<Result<Vec<_>, _>>()
        });
        let mut found =
            listed.map_err(|cause| unreadable(&cause).at(&file.display().to_string()))?;
        found.retain(|path| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            path.is_file() && ending.is_some_and(|ending| FORMATS.contains(&ending))
        });
        if found.is_empty() {
            return Err(Failure::new(
                format!(
                    "{}: no file in it ends in .yaml, .yml, .json or .toml",
                    file.display()
                ),
                "name the files",
            ));
        }
        found.sort();
        all.append(&mut found);
    }
    Ok(all)
}

fn read_one(file: &Path, only: Option<Kind>) -> Result<Vec<Manifest>, Failure> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let text = text.map_err(|cause| unreadable(&cause))?;
    let ending = file.extension().and_then(|ending| ending.to_str());
    manifest::read(&text, ending, only)
}

fn unreadable(cause: &std::io::Error) -> Failure {
    Failure::new(cause.to_string(), "check the path and who may read it")
}

/// Of two that describe the same object the later one would undo the earlier one, each time anew.
fn once_each(manifests: &[(String, Manifest)]) -> Result<(), Failure> {
    for (i, (place, manifest)) in manifests.iter().enumerate() {
        let same = |(_, other): &&(String, Manifest)| {
            (other.kind, &other.name) == (manifest.kind, &manifest.name)
        };
        if let Some((first, _)) = manifests[..i].iter().find(same) {
            return Err(Failure::new(
                format!(
                    "{place}: {} is described at {first} already",
                    manifest.title()
                ),
                "keep one of the two",
            ));
        }
    }
    Ok(())
}
