//! The plot: one line for each fault and system, one dot for each trial, on a logarithmic scale of milliseconds.

use std::fmt::Write;
use std::time::Duration;

use super::super::stats::ms;
use super::super::summary::Row;
use super::Conditions;

const LEFT: f64 = 280.0;
const WIDTH: f64 = 640.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 60.0;
const LINE: f64 = 18.0;
/// The scale, in milliseconds: from here over so many powers of ten.
const FIRST: f64 = 1.0;
const DECADES: i32 = 4;
/// Systems have these colours, in the order of their first line; a colour-blind reader can tell them apart.
const COLOURS: [&str; 6] = [
    "#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#009e73", "#999999",
];

/// The picture as a document of its own.
pub(super) fn svg(rows: &[Row], conditions: &Conditions) -> String {
    let mut systems: Vec<&str> = Vec::new();
    for row in rows {
        if !systems.contains(&&*row.system) {
            systems.push(&row.system);
        }
    }
    let height = TOP + LINE * rows.len() as f64 + 40.0;
    let width = LEFT + WIDTH + RIGHT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"18\" font-size=\"14\" font-weight=\"bold\">Milliseconds without an answer: each dot a trial, the bar the median</text>\n\
         <text x=\"10\" y=\"34\" fill=\"#555\">{}</text>\n",
        escape(&conditions.to_string())
    );
    for decade in 0..=DECADES {
        let at = x(Duration::from_secs_f64(FIRST * 10_f64.powi(decade) / 1e3));
        let bottom = height - 30.0;
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} ms</text>",
            TOP - 12.0,
            bottom + 14.0,
            FIRST * 10_f64.powi(decade),
        );
    }
    for (number, row) in rows.iter().enumerate() {
        let middle = TOP + LINE * number as f64;
        let index = systems.iter().position(|system| *system == row.system);
        let colour = COLOURS[index.unwrap_or_default() % COLOURS.len()];
        line(&mut svg, row, middle, colour);
    }
    svg.push_str("</svg>\n");
    svg
}

fn line(svg: &mut String, row: &Row, middle: f64, colour: &str) {
    let vips = if row.vips == 1 {
        String::new()
    } else {
        format!(" {} VIPs", row.vips)
    };
    let label = escape(&format!("{}{vips}, {}", row.fault.name(), row.system));
    let text = middle + 4.0;
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{text:.1}\" text-anchor=\"end\" fill=\"{colour}\">{label}</text>",
        LEFT - 12.0
    );
    for value in row.outage.values() {
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{middle:.1}\" r=\"2.5\" fill=\"{colour}\" fill-opacity=\"0.45\"/>",
            x(*value)
        );
    }
    let median = x(row.outage.median());
    let _ = writeln!(
        svg,
        "<line x1=\"{median:.1}\" x2=\"{median:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"2\"/><text x=\"{:.1}\" y=\"{text:.1}\" fill=\"{colour}\">{}{}</text>",
        middle - 7.0,
        middle + 7.0,
        LEFT + WIDTH + 8.0,
        ms(row.outage.median()),
        if row.split().is_none() {
            ""
        } else {
            ", two owners"
        },
    );
}

/// Where a duration is on the scale; what lies outside is at its end.
fn x(value: Duration) -> f64 {
    let decades = (value.as_secs_f64() * 1e3 / FIRST).max(1.0).log10();
    LEFT + WIDTH * (decades / f64::from(DECADES)).min(1.0)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_times_as_long_is_one_step_further_right() {
        let at = |ms: u64| x(Duration::from_millis(ms));
        assert_eq!(at(1), LEFT);
        assert!((at(100) - at(10) - WIDTH / f64::from(DECADES)).abs() < 1e-6);
        assert_eq!(at(0), LEFT);
        assert_eq!(at(1_000_000), LEFT + WIDTH);
    }
}
