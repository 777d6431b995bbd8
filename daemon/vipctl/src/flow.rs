//! `vipctl flow`: the connections that the asked node balances, as `vipctl lb connections` shows them.

use clap::Subcommand;

use crate::cli::Global;
use crate::failure::Failure;
use crate::lb::{self, ConnectionArgs};

/// What to do with connections.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List those that the node knows
    #[command(visible_alias = "get")]
    List(ConnectionArgs),
}

pub(crate) async fn run(verb: Verb, global: &Global) -> Result<(), Failure> {
    let Verb::List(args) = verb;
    lb::run(lb::Verb::Connections(args), global).await
}
