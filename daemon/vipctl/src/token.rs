//! `vipctl token`: tokens for the API over TLS.

use clap::{Subcommand, ValueEnum};
use vipd_api_types::{Access, ApiToken, TokenRequest};

use crate::cli::Global;
use crate::failure::Failure;
use crate::{connect, output, render};

/// What to do with API tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List all tokens, without their secrets
    List,
    /// Make a token; it is shown once, on stdout
    Create {
        /// Its name
        name: String,
        /// What it shall allow; each includes the ones before it
        #[arg(long, value_enum, default_value = "read")]
        access: AccessArg,
        /// Days for which it is good; for ever when absent
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..))]
        ttl: Option<u64>,
    },
    /// Revoke a token; from then on it is worth nothing, on any node
    #[command(visible_alias = "revoke")]
    Delete {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum AccessArg {
    /// Reading
    Read,
    /// Pools, VIPs, policies, moves, drains
    Write,
    /// Members, tokens, backups
    Admin,
}

impl From<AccessArg> for Access {
    fn from(arg: AccessArg) -> Self {
        match arg {
            AccessArg::Read => Self::Read,
            AccessArg::Write => Self::Write,
            AccessArg::Admin => Self::Admin,
        }
    }
}

pub(crate) async fn run(verb: Verb, global: &Global) -> Result<(), Failure> {
    let client = connect::client(global)?;
    match verb {
        Verb::List => {
            let tokens = client.list::<ApiToken>().await?;
            output::show(&tokens, global.output, || table(&tokens.items))
        }
        Verb::Create { name, access, ttl } => {
            let ttl_seconds = ttl.map(|days| days.saturating_mul(86_400));
            let token = client
                .create_token(&TokenRequest {
                    name,
                    access: access.into(),
                    ttl_seconds,
                })
                .await?;
            // The token alone, so that `vipctl token create ci > token` makes a token file.
            output::show(&token, global.output, || token.token.clone())
        }
        Verb::Delete { name } => {
            client.delete_token(&name).await?;
            output::line(&format!("token/{name} revoked"))
        }
    }
}

fn table(tokens: &[ApiToken]) -> String {
    let mut table = output::table(&["TOKEN", "ACCESS", "AGE", "EXPIRES"]);
    for token in tokens {
        let access = serde_json::to_string(&token.access).unwrap_or_default();
        table.add_row([
            token.name.clone(),
            access.trim_matches('"').to_owned(),
            render::age(Some(&token.created)),
            render::until(token.expires.as_deref()),
        ]);
    }
    output::draw(&table)
}
