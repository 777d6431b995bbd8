//! `vipctl cluster`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use vipd_api_types::{Cluster, JoinTokenRequest, MemberRole, Quorum, REMOVAL_WITHIN, Removal};

use crate::cli::{Global, TryArgs};
use crate::failure::Failure;
use crate::output::{self, Mood, or_dash};
use crate::wait::WaitArgs;
use crate::{backup, connect, plan, render};

/// What to do with the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Leader, term, quorum and members
    #[command(visible_alias = "get")]
    Members,
    /// Make a token for `vipd join`; it is shown once
    Token {
        /// What part the node that joins with it shall play
        #[arg(long, value_enum, default_value = "voter")]
        role: RoleArg,
        /// Minutes for which it is good
        #[arg(long, default_value_t = 24 * 60, value_name = "MINUTES")]
        ttl: u64,
        /// How many nodes may join with it
        #[arg(long, default_value_t = 1, value_name = "N")]
        uses: u32,
    },
    /// Move as few addresses as bring every node within one of its share by weight; one of weight 0 is emptied
    Rebalance {
        /// Only say what would move
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Remove a node for good
    Remove {
        /// The node's name
        name: String,
        #[command(flatten)]
        tried: TryArgs,
    },
    /// Save pools, policies, VIPs with their addresses, settings of nodes and hashes of tokens into a file
    Snapshot {
        /// The file, - for stdout; may be left out where stdout is no terminal: vipctl cluster snapshot > FILE
        file: Option<PathBuf>,
    },
    /// Have the asked node write its own snapshot and shorten its log; this is no backup
    Compact,
    /// Replace pools, policies, VIPs and their addresses by those of a file that snapshot wrote
    Restore(backup::RestoreArgs),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RoleArg {
    /// Votes and holds addresses
    Voter,
    /// Holds addresses, has no vote
    Agent,
    /// Votes, never holds
    Witness,
}

impl From<RoleArg> for MemberRole {
    fn from(arg: RoleArg) -> Self {
        match arg {
            RoleArg::Voter => Self::Voter,
            RoleArg::Agent => Self::Agent,
            RoleArg::Witness => Self::Witness,
        }
    }
}

pub(crate) async fn run(verb: Verb, global: &Global) -> Result<(), Failure> {
    let client = connect::client(global)?;
    match verb {
        Verb::Members => {
            let cluster = client.cluster().await?;
            output::show(&cluster, global.output, || {
                format!("{}\n\n{}", headline(&cluster), members(&cluster))
            })
        }
        Verb::Token { role, ttl, uses } => {
            let request = JoinTokenRequest {
                role: role.into(),
                ttl_seconds: ttl.saturating_mul(60),
                uses,
            };
            let token = client.join_token(&request).await?;
            output::show(&token, global.output, || {
                format!(
                    "{}\n\nGood {}. On the node that shall join, as root:\n  {}",
                    token.token,
                    render::until(Some(&token.expires)),
                    token.command
                )
            })
        }
        Verb::Rebalance { dry_run, wait } => {
            let moved = client.rebalance(dry_run).await?;
            if !dry_run && wait.wait > 0 {
                plan::arrived(&client, wait, &moved.changes).await?;
            }
            output::show(&moved, global.output, || plan::rebalanced(&moved))
        }
        Verb::Remove { name, tried } if tried.dry_run => {
            let removal = client.would_remove(&name).await?;
            output::show(&removal, global.output, || would_remove(&removal))?;
            match removal.refused {
                None => Ok(()),
                Some(why) => Err(Failure::new(
                    format!("node {name} would not be removed: {why}"),
                    "see that it can go, then try again",
                )),
            }
        }
        Verb::Remove { name, .. } => {
            let client = connect::patient_client(global, REMOVAL_WITHIN + Duration::from_secs(5))?;
            let cluster = client.remove_member(&name).await?;
            output::show(&cluster, global.output, || {
                format!("node/{name} removed\n{}", members(&cluster))
            })
        }
        Verb::Snapshot { file } => {
            let file = backup::target(file, output::is_terminal())?;
            backup::save(&client, &file).await
        }
        Verb::Restore(args) => backup::restore(&args, global).await,
        Verb::Compact => {
            let snapshot = client.snapshot().await?;
            output::show(&snapshot, global.output, || {
                format!("the log is compacted up to index {}", snapshot.index)
            })
        }
    }
}

/// The cluster on one line, and what is wrong on further ones.
pub(crate) fn headline(cluster: &Cluster) -> String {
    let quorum = cluster.quorum;
    let mut text = format!(
        "leader {}, term {}, {} ({} of {} voters needed), applied {} of {} committed, as {} sees it (vipd {})",
        or_dash(cluster.leader.as_deref()),
        cluster.term,
        if quorum.ok { "quorum" } else { "NO QUORUM" },
        quorum.needed,
        quorum.voters,
        cluster.applied,
        cluster.commit,
        cluster.answered_by,
        cluster.version,
    );
    for complaint in render::complaints(&cluster.conditions) {
        text.push_str("\n! ");
        text.push_str(complaint);
    }
    if let Some(warning) = too_few(quorum) {
        text.push_str("\n! ");
        text.push_str(warning);
    }
    text
}

/// Of two voters both are a majority, so a second one makes a cluster more fragile than one alone. A single one is somebody's choice.
const fn too_few(quorum: Quorum) -> Option<&'static str> {
    match quorum.voters {
        2 => Some(
            "with two voters the loss of either silences both; next: let a third host join (`vipd token --role witness` \
             makes the command for one that votes and holds nothing)",
        ),
        _ => None,
    }
}

/// What is left without the node.
fn would_remove(removal: &Removal) -> String {
    let Quorum { ok, voters, needed } = removal.quorum;
    let mut text = format!(
        "without node/{} (dry run, nothing was changed):\n  {needed} of {voters} voters are a majority",
        removal.name
    );
    if !ok {
        text.push_str("\n! no majority is up once it is stopped: every node falls silent");
    }
    for change in &removal.changes {
        text.push_str("\n  ");
        text.push_str(&render::change_line(change));
    }
    text
}

fn members(cluster: &Cluster) -> String {
    let mut table = output::table(&["MEMBER", "ID", "ROLE", "VOTES", "STATE", "PEER"]);
    for member in &cluster.members {
        let role = serde_json::to_string(&member.role).unwrap_or_default();
        let state = if member.up {
            output::mood("up", Mood::Good)
        } else {
            output::mood("down", Mood::Bad)
        };
        table.add_row(vec![
            member.name.as_str().into(),
            member.id.into(),
            format!(
                "{}{}",
                role.trim_matches('"'),
                if member.leader { ", leader" } else { "" }
            )
            .into(),
            if member.voting { "yes" } else { "no" }.into(),
            state,
            member.peer.as_str().into(),
        ]);
    }
    output::draw(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_voters_are_warned_of_and_no_other_number() {
        let of = |voters| Quorum {
            ok: true,
            voters,
            needed: voters / 2 + 1,
        };
        assert!(too_few(of(2)).is_some_and(|why| why.contains("--role witness")));
        for enough in [1, 3, 4, 5] {
            assert_eq!(too_few(of(enough)), None, "{enough} voters");
        }
    }
}
