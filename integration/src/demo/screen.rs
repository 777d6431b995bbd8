//! The terminal: one line an event, time in front; colour only where a person looks.

use std::io::{IsTerminal, Write, stdout};
use std::time::Instant;

/// The mood of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// The demo does something.
    Step,
    /// All is well.
    Good,
    /// Something is lost, as intended or not.
    Bad,
    /// An observation.
    Plain,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Step => "1;36",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Plain => "0",
        }
    }
}

/// Writes to standard output; may be used from several threads.
#[derive(Debug)]
pub(super) struct Screen {
    start: Instant,
    colour: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            colour: stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    /// A headline.
    pub(super) fn title(&self, text: &str) {
        self.plain(&format!("\n{}\n", self.paint("1", text)));
    }

    /// One event, now: where it was seen, and what.
    pub(super) fn say(&self, tone: Tone, source: &str, text: &str) {
        let at = self.start.elapsed().as_secs_f64();
        self.plain(&format!(
            "{at:9.3} s  {source:<7} {}\n",
            self.paint(tone.code(), text)
        ));
    }

    /// One result.
    pub(super) fn verdict(&self, tone: Tone, word: &str, text: &str) {
        self.plain(&format!(
            "  {} {text}\n",
            self.paint(tone.code(), &format!("{word:<6}"))
        ));
    }

    /// Text as it is.
    pub(super) fn plain(&self, text: &str) {
        let mut out = stdout().lock();
        // A closed pipe ends the reader's interest, not the demo: its exit code still counts.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
