//! A failure as the operator sees it: one line, then the next step.

use std::io::Write as _;
use std::process::ExitCode;

/// What failed on what, and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    next: String,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            next: next.into(),
        }
    }

    /// The same, with where it happened in front.
    pub(crate) fn at(mut self, place: &str) -> Self {
        self.what = format!("{place}: {}", self.what);
        self
    }

    /// Shows it on stderr; exit code 1.
    pub(crate) fn report(&self) -> ExitCode {
        let text = format!(
            "error: {}\nnext: {}\n",
            one_line(&self.what),
            one_line(&self.next)
        );
        // Nobody is left to tell when stderr is gone; the exit code still says it.
        let _gone = std::io::stderr().write_all(text.as_bytes());
        ExitCode::FAILURE
    }
}

impl From<vipd_client::Error> for Failure {
    fn from(error: vipd_client::Error) -> Self {
        Self::new(error.to_string(), error.next())
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
