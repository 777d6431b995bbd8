//! What several test files say about failures.

use std::process::Output;

/// What a person sees of a refusal: exit code 1, a line that says all of `words`, at most one more
/// with the next step, and no trace of the machinery.
pub(crate) fn refused(what: &str, done: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(
        done.status.code(),
        Some(1),
        "{what}: {said}{}",
        String::from_utf8_lossy(&done.stdout)
    );
    clear(what, &said, words);
}

/// The same for what a daemon says last, before it ends.
pub(crate) fn clear(what: &str, said: &str, words: &[&str]) {
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    assert!(
        (1..=2).contains(&lines.len()),
        "{what}: not one line and a next step, but:\n{said}"
    );
    let lower = said.to_lowercase();
    for word in words {
        assert!(
            lower.contains(&word.to_lowercase()),
            "{what}: {word:?} is missing in:\n{said}"
        );
    }
    for machinery in ["panicked", "backtrace", "Err(", "Error {", "Os {", "unwrap"] {
        assert!(
            !said.contains(machinery),
            "{what}: {machinery:?} shows in:\n{said}"
        );
    }
    eprintln!("{what}: {}", lines.join(" | "));
}
