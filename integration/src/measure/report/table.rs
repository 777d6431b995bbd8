//! The tables: a wide one for the terminal, and one for the README.

use std::fmt::Write;

use super::super::stats::ms;
use super::super::summary::Row;
use super::Conditions;

/// One line for each number of VIPs, fault and system.
pub(super) fn text(rows: &[Row]) -> String {
    let mut text = format!(
        "{:>5}  {:<15}  {:<17}  {:>6}  {:>9}  {:>7}  {:>7}  {:>10}  {:>12}  {:>5}  {:>13}  {:>11}  {:>4}\n",
        "VIPs",
        "fault",
        "system",
        "trials",
        "median ms",
        "p99 ms",
        "max ms",
        "median VIP",
        "announced ms",
        "lost",
        "two owners ms",
        "false moves",
        "dark"
    );
    for row in rows {
        // Of fewer than a hundred trials the ninety-ninth percentile is the maximum.
        let p99 = if row.outage.count() < 100 {
            "= max".to_owned()
        } else {
            ms(row.outage.p99())
        };
        let announced = row.announced.as_ref();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:>5}  {:<15}  {:<17}  {:>6}  {:>9}  {:>7}  {:>7}  {:>10}  {:>12}  {:>5}  {:>13}  {:>11}  {:>4}",
            row.vips,
            row.fault,
            row.system,
            row.outage.count(),
            ms(row.outage.median()),
            p99,
            ms(row.outage.max()),
            ms(row.median_vip.median()),
            announced.map_or("-".to_owned(), |sample| ms(sample.median())),
            row.lost,
            row.overlap.map_or("-".to_owned(), ms),
            row.false_moves,
            row.dark,
        );
    }
    text
}

/// One table for each number of VIPs: faults down, systems across.
pub(super) fn markdown(rows: &[Row], conditions: &Conditions) -> String {
    let mut counts: Vec<usize> = rows.iter().map(|row| row.vips).collect();
    counts.dedup();
    let mut text = String::new();
    for vips in counts {
        let here: Vec<&Row> = rows.iter().filter(|row| row.vips == vips).collect();
        let mut systems: Vec<&str> = Vec::new();
        let mut faults = Vec::new();
        for row in &here {
            if !systems.contains(&&*row.system) {
                systems.push(&row.system);
            }
            if faults.last() != Some(&row.fault) {
                faults.push(row.fault);
            }
        }
        let least = here
            .iter()
            .map(|row| row.outage.count())
            .min()
            .unwrap_or_default();
        let high = if least < 100 { "max" } else { "p99" };
        let what = if vips == 1 {
            "1 VIP".to_owned()
        } else {
            format!("{vips} VIPs, the last one to be served again")
        };
        let _ = writeln!(
            text,
            "{what}; at least {least} trials each; milliseconds without an answer, median ({high}); {conditions}\n"
        );
        let _ = writeln!(text, "| fault | {} |", systems.join(" | "));
        let _ = writeln!(text, "|---|{}", "---|".repeat(systems.len()));
        for fault in faults {
            let cells: Vec<String> = systems
                .iter()
                .map(|system| {
                    let found = here
                        .iter()
                        .find(|r| r.fault == fault && r.system == *system);
                    found.map_or("-".to_owned(), |row| cell(row, least))
                })
                .collect();
            let _ = writeln!(text, "| {} | {} |", fault.name(), cells.join(" | "));
        }
        text.push('\n');
    }
    text
}

fn cell(row: &Row, least: usize) -> String {
    let high = if least < 100 {
        row.outage.max()
    } else {
        row.outage.p99()
    };
    let mut cell = format!("{} ({})", ms(row.outage.median()), ms(high));
    if let Some(overlap) = row.split() {
        let _ = write!(cell, ", **two owners for {} ms**", ms(overlap));
    }
    if row.dark > 0 {
        let _ = write!(cell, ", dark {} of {}", row.dark, row.outage.count());
    }
    cell
}
