//! The house rules that a program can hold: no giant files, no leftovers, no path of somebody's machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// No source file is longer: what people fear in a network daemon's tree is always the one giant file.
const LONGEST: usize = 500;

/// Words that must not be committed, each with what to do instead. Spelled in halves, so that this file passes.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("todo", "!("), "finish it or open an issue"),
    (
        concat!("unimple", "mented!("),
        "finish it or return an error that says so",
    ),
    (concat!("dbg", "!("), "use tracing"),
    (concat!("/ro", "ot/"), "name no path of your machine"),
    (concat!("/ho", "me/"), "name no path of your machine"),
];

/// Checks every Rust file under `root`, and says all that is wrong, file by file.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    let mut wrong = Vec::new();
    for file in &files {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file
            .strip_prefix(root)
            .unwrap_or(file)
            .display()
            .to_string();
        wrong.extend(judge(&name, &text));
    }
    if !wrong.is_empty() {
        bail!(
            "{} in {} files:\n{}",
            wrong.len(),
            files.len(),
            wrong.join("\n")
        );
    }
    println!("    {} Rust files, none above {LONGEST} lines", files.len());
    Ok(())
}

/// What is wrong with one file.
fn judge(name: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    let long = (lines > LONGEST)
        .then(|| format!("{name}: {lines} lines, more than {LONGEST}; split it by subject"));
    let words = text.lines().enumerate().flat_map(|(number, line)| {
        FORBIDDEN
            .iter()
            .filter(move |(word, _)| line.contains(word))
            .map(move |(word, instead)| {
                format!("{name}:{}: contains `{word}`; {instead}", number + 1)
            })
    });
    long.into_iter().chain(words).collect()
}

/// All Rust files below `dir`, without build directories and dot folders.
fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_clean_file_passes() {
        assert!(judge("a.rs", "fn main() {}\n").is_empty());
    }

    #[test]
    fn a_giant_file_is_named_with_its_length() {
        let wrong = judge("a.rs", &"\n".repeat(LONGEST + 1));
        assert_eq!(
            wrong,
            [format!(
                "a.rs: {} lines, more than {LONGEST}; split it by subject",
                LONGEST + 1
            )]
        );
    }

    #[test]
    fn a_leftover_is_named_with_its_line() {
        let wrong = judge("a.rs", concat!("fn a() {\n    todo", "!()\n}\n"));
        assert_eq!(
            wrong,
            [concat!(
                "a.rs:2: contains `todo",
                "!(`; finish it or open an issue"
            )]
        );
    }
}
