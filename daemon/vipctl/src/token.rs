//! `vipctl token`: tokens for the API over TLS.

use clap::{Subcommand, ValueEnum};
use vipd_api_types::{Access, ApiToken, Duration, TokenRequest};

use crate::cli::{Global, TryArgs};
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
        /// For how long it is good (30d, 12h, 5m; a plain number is days); for ever when absent
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        ttl: Option<u64>,
        #[command(flatten)]
        tried: TryArgs,
    },
    /// Revoke a token; from then on it is worth nothing, on any node
    #[command(visible_alias = "revoke")]
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        tried: TryArgs,
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
        Verb::Create {
            name,
            access,
            ttl,
            tried,
        } => {
            let title = format!("token/{name}");
            let request = TokenRequest {
                name,
                access: access.into(),
                ttl_seconds: ttl,
            };
            if tried.dry_run {
                let tried = client.try_token(&request).await?;
                return render::dry_run(&tried, &title, global.output);
            }
            let token = client.create_token(&request).await?;
            // The token alone, so that `vipctl token create ci > token` makes a token file.
            output::show(&token, global.output, || token.token.clone())
        }
        Verb::Delete { name, tried } => {
            if tried.dry_run {
                let tried = client.try_delete_token(&name).await?;
                return render::dry_run(&tried, &format!("token/{name}"), global.output);
            }
            client.delete_token(&name).await?;
            output::line(&format!("token/{name} revoked"))
        }
    }
}

/// Reads a length of time as seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let days = text.strip_suffix('d').unwrap_or(text);
    let seconds = match days.parse::<u64>() {
        Ok(days) => days.checked_mul(86_400).ok_or("that is too long")?,
        Err(_) => {
            let bad = |_| format!("{text:?} is no time such as 30d, 12h or 5m");
            text.parse::<Duration>().map_err(bad)?.0 / 1000
        }
    };
    match seconds {
        0 => Err("the shortest is 1s".to_owned()),
        good => Ok(good),
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
    output::draw(table)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn a_token_s_life_is_days_or_any_length_of_time() {
        for (text, wanted) in [("2", 172_800), ("2d", 172_800), ("1h", 3_600), ("90s", 90)] {
            assert_eq!(seconds(text), Ok(wanted), "{text}");
        }
        for text in ["0", "1ms", "h", "-1", "1w", "99999999999999999d"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
