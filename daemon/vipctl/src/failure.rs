//! A failure as the operator sees it: one line, then the next step.

use std::io::Write as _;
use std::process::ExitCode;

/// What failed on what, and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    next: String,
    reach: Reach,
    code: u8,
    unknown: Option<(String, String)>,
}

/// What else fails with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Nothing.
    One,
    /// Somebody else has changed the object.
    Stale,
    /// Whatever is asked next: the daemon is out of reach, or does not let one in.
    All,
    /// It is no failure, only an exit code.
    None,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            next: next.into(),
            reach: Reach::One,
            code: 1,
            unknown: None,
        }
    }

    /// Exit code 1 without a word: the output has said it.
    pub(crate) fn silent() -> Self {
        Self {
            reach: Reach::None,
            ..Self::new("", "")
        }
    }

    /// The same, with where it happened in front.
    pub(crate) fn at(mut self, place: &str) -> Self {
        self.what = format!("{place}: {}", self.what);
        self
    }

    /// The same, with a further next step.
    pub(crate) fn and_then(mut self, next: &str) -> Self {
        self.next = format!("{}; {next}", self.next);
        self
    }

    /// The same, with a question before the next step.
    pub(crate) fn asking(mut self, question: &str) -> Self {
        self.next = format!("{question} else {}", self.next);
        self
    }

    /// Kind and name of what the daemon does not know, if that is what failed.
    pub(crate) fn unknown(&self) -> Option<(&str, &str)> {
        let (kind, name) = self.unknown.as_ref()?;
        Some((kind, name))
    }

    /// The same with another exit code.
    pub(crate) fn exiting(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// Whether asking for something else would fail as well.
    pub(crate) fn is_for_all(&self) -> bool {
        self.reach == Reach::All
    }

    /// Whether somebody else has changed the object meanwhile.
    pub(crate) fn is_stale(&self) -> bool {
        self.reach == Reach::Stale
    }

    /// What is shown.
    pub(crate) fn lines(&self) -> [String; 2] {
        [
            format!("error: {}", one_line(&self.what)),
            format!("next: {}", one_line(&self.next)),
        ]
    }

    /// Shows it on stderr; its exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if self.reach != Reach::None {
            let [what, next] = self.lines();
            // Nobody is left to tell when stderr is gone; the exit code still says it.
            let _gone = std::io::stderr().write_all(format!("{what}\n{next}\n").as_bytes());
        }
        ExitCode::from(self.code)
    }
}

impl From<vipd_client::Error> for Failure {
    fn from(error: vipd_client::Error) -> Self {
        let reach = match error.reason() {
            None => Reach::All,
            Some(_) if error.is_denied() => Reach::All,
            Some("no_quorum") => Reach::All,
            Some("revision_mismatch") => Reach::Stale,
            Some(_) => Reach::One,
        };
        let what = error.to_string();
        let named = |rest: &str| {
            let (kind, name) = rest.split_once(" named ")?;
            Some((kind.to_owned(), name.to_owned()))
        };
        let unknown = what.strip_prefix("no ").and_then(named);
        Self {
            reach,
            unknown: unknown.filter(|_| error.is_not_found()),
            ..Self::new(what, error.next())
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
