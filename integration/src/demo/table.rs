//! Plain tables of the closing report.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;

use super::acts::Act;
use super::host_of;
use crate::bench::Bench;
use crate::wire::{Answer, How};

/// `178.3 ms`.
pub(super) fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// Outage by act and address.
pub(super) fn acts(acts: &[Act], addresses: &[IpAddr]) -> String {
    let mut rows = vec![vec![
        "longest time without an answer".to_owned(),
        "holder".to_owned(),
    ]];
    rows[0].extend(addresses.iter().map(ToString::to_string));
    rows[0].push("promised".to_owned());
    for act in acts {
        let holder = if act.from == act.to {
            act.from.clone()
        } else {
            format!("{} -> {}", act.from, act.to)
        };
        let mut row = vec![act.what.clone(), holder];
        row.extend(act.outages.iter().map(|&outage| millis(outage)));
        row.push(
            act.limit
                .map_or_else(|| "-".to_owned(), |limit| format!("< {}", millis(limit))),
        );
        rows.push(row);
    }
    align(&rows)
}

/// Claims by address and Ethernet address.
pub(super) fn wire(bench: &Bench) -> Result<String> {
    let head = [
        "address",
        "host",
        "Ethernet address",
        "replies",
        "announced",
        "packets",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for &address in bench.addresses() {
        let answers = bench.tap().answers(address)?;
        let mut macs: Vec<_> = answers.iter().map(|a| a.mac).collect();
        macs.sort();
        macs.dedup();
        for mac in macs {
            let count = |kind: fn(&Answer) -> bool| {
                answers.iter().filter(|a| a.mac == mac && kind(a)).count()
            };
            rows.push(vec![
                address.to_string(),
                host_of(bench.lab(), mac),
                mac.to_string(),
                count(|a| a.how.is_reply()).to_string(),
                count(|a| matches!(a.how, How::Gratuitous | How::Unsolicited)).to_string(),
                count(|a| matches!(a.how, How::Packet | How::ArpRequest)).to_string(),
            ]);
        }
    }
    Ok(align(&rows))
}

/// Columns as wide as their widest cell.
fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|r| r.get(column))
            .map(|c| c.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}"))
            .collect();
        text.push_str("  ");
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_its_widest_cells() {
        let act = Act {
            what: "power cut on n1".into(),
            from: "n1".into(),
            to: "n2".into(),
            outages: vec![Duration::from_micros(178_340)],
            limit: Some(Duration::from_millis(300)),
        };
        let text = acts(&[act], &["10.77.0.100".parse().unwrap()]);
        let expected = "  longest time without an answer  holder    10.77.0.100  promised\n  \
                          power cut on n1                 n1 -> n2  178.3 ms     < 300.0 ms\n";
        assert_eq!(text, expected);
    }
}
