//! `vipd token`: a join token, from the daemon that runs here.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use vipd::config::{ApiListen, Config, DEFAULT_PATH};
use vipd_api_types::{JoinTokenRequest, MemberRole};
use vipd_client::{Client, Server, Settings};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration of the daemon to ask; the default socket is asked when the file is not there
    #[arg(long, value_name = "PATH", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// What part the node that joins with it shall play
    #[arg(long, value_enum, default_value = "voter")]
    role: RoleArg,
    /// Minutes for which it is good
    #[arg(long, value_name = "MINUTES", default_value_t = 24 * 60, value_parser = clap::value_parser!(u64).range(1..=525_600))]
    ttl: u64,
    /// How many nodes may join with it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    uses: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleArg {
    /// Has a vote and holds VIPs
    Voter,
    /// Holds VIPs, has no vote
    Agent,
    /// Has a vote, never holds VIPs
    Witness,
}

impl From<RoleArg> for MemberRole {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Voter => Self::Voter,
            RoleArg::Agent => Self::Agent,
            RoleArg::Witness => Self::Witness,
        }
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let checked = if args.config.exists() {
        Config::load(&args.config)?
    } else {
        Config::parse(&args.config, "")?
    };
    let socket = checked.api.iter().find_map(|listen| match listen {
        ApiListen::Unix(path) => Some(path.clone()),
        ApiListen::Tcp(_) => None,
    });
    let Some(socket) = socket else {
        anyhow::bail!(
            "{} has no unix socket in api.listen; use vipctl --server https://… cluster token",
            args.config.display()
        );
    };
    let request = JoinTokenRequest {
        role: args.role.into(),
        ttl_seconds: args.ttl * 60,
        uses: args.uses,
    };
    let token = super::block_on(async {
        let client = Client::new(&Server::Unix(socket), Settings::default())?;
        client
            .join_token(&request)
            .await
            .map_err(|error| match error.reason() {
                Some(_) => anyhow::anyhow!("{error}; {}", error.next()),
                None => anyhow::anyhow!(
                    "{error}; start vipd on this host, or name its configuration with --config"
                ),
            })
    })?;
    println!("{}", token.command);
    eprintln!(
        "good until {}, for {} node(s) as {}",
        token.expires,
        args.uses,
        args.role
            .to_possible_value()
            .as_ref()
            .map_or("", |role| role.get_name())
    );
    Ok(ExitCode::SUCCESS)
}
