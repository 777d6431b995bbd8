//! Showing an answer: table, JSON or YAML, on a stdout that may go away.

use std::io::{self, IsTerminal as _, Write as _};

use std::sync::atomic::{AtomicBool, Ordering};

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};
use serde::Serialize;

use crate::cli::Format;
use crate::failure::Failure;

/// Shows `value` as the format asks; `table` is drawn only when it is wanted.
pub(crate) fn show<T: Serialize>(
    value: &T,
    format: Format,
    table: impl FnOnce() -> String,
) -> Result<(), Failure> {
    // Straight from the typed value: a detour over serde_json::Value would lose counts above 64 bits.
    let text = match format {
        Format::Table | Format::Wide => table(),
        Format::Json => serde_json::to_string_pretty(value).map_err(|cause| odd(&cause))?,
        Format::Yaml => serde_yaml_ng::to_string(value).map_err(|cause| odd(&cause))?,
    };
    line(text.trim_end())
}

/// Prints one line (or several). A reader that has gone away ends the program quietly, as `| head` expects.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(cause) => Err(Failure::new(
            format!("cannot write to stdout: {cause}"),
            "check where it goes",
        )),
    }
}

/// Whether people are looking.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether to use colour: on a terminal, unless NO_COLOR says otherwise.
fn colour() -> bool {
    is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What stands where a cell was cut off.
const CUT: &str = "…";

/// Whether tables are as wide as what is in them, said once at the start.
static WIDE: AtomicBool = AtomicBool::new(false);

/// Has tables be as wide as what is in them, if the format says so.
pub(crate) fn widen(format: Format) {
    WIDE.store(format == Format::Wide, Ordering::Relaxed);
}

/// Whether tables are to show all there is.
pub(crate) fn is_wide() -> bool {
    WIDE.load(Ordering::Relaxed)
}

/// A table without lines; on a terminal at most as wide as that, one line a row.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    if is_terminal() && !is_wide() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_truncation_indicator(CUT);
    }
    table.set_header(header.iter().map(|title| {
        let cell = Cell::new(title);
        if colour() {
            cell.add_attribute(Attribute::Bold)
        } else {
            cell
        }
    }));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// The table as text, without blanks at the ends of lines.
pub(crate) fn draw(mut table: Table) -> String {
    if matches!(table.content_arrangement(), ContentArrangement::Dynamic) {
        for row in table.row_iter_mut() {
            row.max_height(1);
        }
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// How a state is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// As it should be.
    Good,
    /// Worth a look.
    Odd,
    /// Broken.
    Bad,
}

/// A cell in the colour of its mood.
pub(crate) fn mood(text: impl Into<String>, mood: Mood) -> Cell {
    let cell = Cell::new(text.into());
    if !colour() {
        return cell;
    }
    match mood {
        Mood::Good => cell.fg(Color::Green),
        Mood::Odd => cell.fg(Color::Yellow),
        Mood::Bad => cell.fg(Color::Red).add_attribute(Attribute::Bold),
    }
}

/// What is gone, in a difference.
pub(crate) fn removed(line: &str) -> String {
    coloured(31, line)
}

/// What is new, in a difference.
pub(crate) fn added(line: &str) -> String {
    coloured(32, line)
}

/// What only leads to it.
pub(crate) fn faint(line: &str) -> String {
    coloured(36, line)
}

/// A line in an ANSI colour where colour is used.
fn coloured(code: u8, line: &str) -> String {
    match colour() {
        true => format!("\x1b[{code}m{line}\x1b[0m"),
        false => line.to_owned(),
    }
}

/// What stands in a cell where there is nothing to say.
pub(crate) fn or_dash(text: Option<&str>) -> String {
    match text {
        Some(text) if !text.is_empty() => text.to_owned(),
        _ => "-".to_owned(),
    }
}

fn odd(cause: &dyn std::error::Error) -> Failure {
    Failure::new(
        format!("cannot show the answer: {cause}"),
        "try another -o format",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_narrow_terminal_a_row_stays_one_line_and_shows_where_it_was_cut() {
        let mut narrow = table(&["VIP", "ADDRESS", "STATE"]);
        narrow.set_content_arrangement(ContentArrangement::Dynamic);
        narrow.set_truncation_indicator(CUT);
        narrow.set_width(40);
        let long = "it waits: no pool named web has an ipv4 block; and so on";
        narrow.add_row(["www", "10.0.0.10", long]);
        let text = draw(narrow);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= 40),
            "{text}"
        );
        assert!(text.contains("10.0.0.10") && text.contains(CUT), "{text}");
    }

    #[test]
    fn where_nobody_looks_nothing_is_cut() {
        let mut wide = table(&["VIP", "STATE"]);
        let long = "so long ".repeat(60);
        wide.add_row(["www", long.trim()]);
        assert!(draw(wide).contains(long.trim()));
    }
}
