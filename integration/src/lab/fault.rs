//! Cut wires between hosts: in one direction or both, some or all. Made with nftables on the switch.

use std::sync::PoisonError;

use anyhow::{Context, Result};

use super::lab::Lab;
use super::run;

impl Lab {
    /// Frames from `from` to `to` no longer arrive; the other direction is untouched.
    pub fn cut_one_way(&self, from: &str, to: &str) -> Result<()> {
        self.cut([(self.host(from).name(), self.host(to).name())])
    }

    /// The server `name` and the other servers cannot reach each other; client and observer still
    /// reach everybody. The hardest case: the cut-off holder would answer on.
    pub fn cut_from_peers(&self, name: &str) -> Result<()> {
        let others = self.servers().map(|s| s.name()).filter(|&s| s != name);
        self.cut(others.flat_map(|other| [(name, other), (other, name)]))
    }

    /// Nobody reaches the server `name`, and it reaches nobody, though its link stays up.
    pub fn cut_from_all(&self, name: &str) -> Result<()> {
        let rest = [self.client().name(), self.observer().name()];
        self.cut_from_peers(name)?;
        self.cut(
            rest.into_iter()
                .flat_map(|other| [(name, other), (other, name)]),
        )
    }

    /// All cuts are mended.
    pub fn heal(&self) -> Result<()> {
        self.inner()
            .cuts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.apply_cuts()
    }

    fn cut<'a>(&self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<()> {
        {
            let mut cuts = self
                .inner()
                .cuts
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            cuts.extend(
                pairs
                    .into_iter()
                    .map(|(from, to)| (from.to_owned(), to.to_owned())),
            );
        }
        self.apply_cuts()
    }

    /// Puts the whole set in force in one transaction.
    fn apply_cuts(&self) -> Result<()> {
        let rules: String = {
            let cuts = self
                .inner()
                .cuts
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let rule = |(from, to): &(String, String)| {
                format!("iifname \"{from}\" oifname \"{to}\" drop\n")
            };
            cuts.iter().map(rule).collect()
        };
        let script = format!(
            "table bridge cuts\ndelete table bridge cuts\n\
             table bridge cuts {{\nchain forward {{\ntype filter hook forward priority 0; policy accept;\n{rules}}}\n}}\n"
        );
        self.switch()
            .enter(|| run::feed("nft", &["-f", "-"], &script))
            .context("cannot cut wires on the switch (needs the package nftables)")
    }
}
