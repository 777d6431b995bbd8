//! Trials of the same kind, taken together.

use std::time::Duration;

use super::fault::Fault;
use super::stats::Sample;
use super::trial::Trial;

/// What came of all trials of one fault for one system with so many VIPs.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) vips: usize,
    pub(crate) fault: Fault,
    pub(crate) system: String,
    /// How long the client, or the last of many VIPs, had no answer.
    pub(crate) outage: Sample,
    /// The same of each trial's median VIP.
    pub(crate) median_vip: Sample,
    /// When the last of many VIPs was announced.
    pub(crate) announced: Option<Sample>,
    /// Lost datagrams, or VIPs, of the worst trial.
    pub(crate) lost: usize,
    /// The longest time of two owners, where it is known.
    pub(crate) overlap: Option<Duration>,
    /// Takeovers that nothing called for, in all trials.
    pub(crate) false_moves: usize,
    /// Trials in which the client was not served in the end.
    pub(crate) dark: usize,
}

impl Row {
    /// How long two owned the address at the same time, if they ever did.
    pub(crate) fn split(&self) -> Option<Duration> {
        self.overlap.filter(|overlap| !overlap.is_zero())
    }
}

/// One row for each kind, ordered by number of VIPs and fault; systems in the order of their first trial.
pub(crate) fn rows(trials: &[Trial]) -> Vec<Row> {
    let mut systems: Vec<&str> = Vec::new();
    for trial in trials {
        if !systems.contains(&&*trial.system) {
            systems.push(&trial.system);
        }
    }
    let mut kinds: Vec<(usize, Fault, usize)> = trials
        .iter()
        .filter_map(|trial| {
            let system = systems.iter().position(|system| *system == trial.system)?;
            Some((trial.vips, trial.fault, system))
        })
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
        .into_iter()
        .filter_map(|(vips, fault, system)| {
            let same =
                |t: &&Trial| t.vips == vips && t.fault == fault && t.system == systems[system];
            row(&trials.iter().filter(same).collect::<Vec<_>>())
        })
        .collect()
}

fn row(trials: &[&Trial]) -> Option<Row> {
    let first = trials.first()?;
    let seen = || trials.iter().map(|trial| &trial.seen);
    Some(Row {
        vips: first.vips,
        fault: first.fault,
        system: first.system.clone(),
        outage: Sample::new(seen().map(|s| s.outage))?,
        median_vip: Sample::new(seen().map(|s| s.median_vip))?,
        announced: Sample::new(seen().filter_map(|s| s.announced)),
        lost: seen().map(|s| s.lost).max()?,
        overlap: seen().map(|s| s.overlap).max()?,
        false_moves: seen().map(|s| s.false_moves).sum(),
        dark: trials.iter().filter(|trial| trial.dark).count(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::watch::Seen;
    use super::*;
    use crate::Stamp;

    fn trial(system: &str, fault: Fault, ms: u64, overlap: u64) -> Trial {
        Trial {
            system: system.into(),
            fault,
            vips: 1,
            at: Stamp(0),
            holder: "n1".into(),
            seen: Seen {
                outage: Duration::from_millis(ms),
                overlap: Some(Duration::from_millis(overlap)),
                false_moves: 1,
                ..Seen::default()
            },
            dark: false,
        }
    }

    #[test]
    fn trials_of_one_kind_make_one_row_and_the_worst_overlap_is_kept() {
        let trials = [
            trial("b", Fault::Freeze, 5, 7),
            trial("a", Fault::PowerOff, 1, 0),
            trial("b", Fault::PowerOff, 9, 0),
            trial("b", Fault::Freeze, 3, 2),
        ];
        let rows = rows(&trials);
        let kinds: Vec<_> = rows.iter().map(|r| (r.fault, &*r.system)).collect();
        assert_eq!(
            kinds,
            [
                (Fault::PowerOff, "b"),
                (Fault::PowerOff, "a"),
                (Fault::Freeze, "b")
            ]
        );
        assert_eq!(rows[2].outage.median().as_millis(), 4);
        assert_eq!(rows[2].overlap, Some(Duration::from_millis(7)));
        assert_eq!(rows[2].false_moves, 2);
    }
}
