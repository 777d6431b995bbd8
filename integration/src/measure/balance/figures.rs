//! Median and extremes of trials, and how they are shown.

use anyhow::{Context, Result};

/// What some trials found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) least: f64,
    /// The middle one; of an even number, the mean of the two in the middle.
    pub(super) median: f64,
    pub(super) most: f64,
}

impl Spread {
    /// Of these trials, in any order; that there is none is an error.
    pub(super) fn of(trials: &[f64]) -> Result<Self> {
        let mut sorted = trials.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let half = sorted.len() / 2;
        let (least, most) = sorted
            .first()
            .zip(sorted.last())
            .context("no trial was made")?;
        Ok(Self {
            least: *least,
            median: if sorted.len() % 2 == 1 {
                sorted[half]
            } else {
                f64::midpoint(sorted[half - 1], sorted[half])
            },
            most: *most,
        })
    }

    /// `812 (790 to 840)`, or `8.1 (7.9 to 8.4)`.
    pub(super) fn shown(&self) -> String {
        let digits = usize::from(self.median < 100.0);
        let Self {
            least,
            median,
            most,
        } = self;
        format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
    }
}

/// A line about a target: reached, or not.
pub(super) fn target(what: &str, found: f64, wanted: f64) -> String {
    let word = if found >= wanted { "reached" } else { "missed" };
    format!("{what}: {found:.2}; target {wanted:.2}: {word}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_of_the_sorted_trials() {
        let odd = Spread::of(&[30.0, 10.0, 20.0]).unwrap();
        assert_eq!((odd.least, odd.median, odd.most), (10.0, 20.0, 30.0));
        assert_eq!(Spread::of(&[40.0, 10.0, 20.0, 50.0]).unwrap().median, 30.0);
        assert_eq!(odd.shown(), "20.0 (10.0 to 30.0)");
        assert_eq!(Spread::of(&[812.4]).unwrap().shown(), "812 (812 to 812)");
        assert!(Spread::of(&[]).is_err());
    }

    #[test]
    fn a_target_is_reached_from_its_very_figure_on() {
        assert!(target("x", 1.3, 1.3).ends_with("reached\n"));
        assert!(target("x", 1.29, 1.3).ends_with("missed\n"));
    }
}
