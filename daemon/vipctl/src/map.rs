//! `vipctl map`: the maps that the asked node's daemon shares with its kernel's programs, decoded.

use clap::Subcommand;
use vipd_api_types::{MapDump, MapList};

use crate::cli::Global;
use crate::connect;
use crate::failure::Failure;
use crate::output;

/// What to look at.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// The maps
    List,
    /// Elements of a map
    Get {
        /// Which map
        name: String,
        /// Only elements whose key contains this, as it is shown: 10.0.0.100, tcp/80
        key: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
        limit: Option<u16>,
    },
}

pub(crate) async fn run(verb: Verb, global: &Global) -> Result<(), Failure> {
    let client = connect::client(global)?;
    match verb {
        Verb::List => {
            let found = client.maps().await?;
            output::show(&found, global.output, || list(&found))
        }
        Verb::Get { name, key, limit } => {
            let found = client.map(&name, key.as_deref(), limit).await?;
            output::show(&found, global.output, || elements(&found))
        }
    }
}

fn list(found: &MapList) -> String {
    let mut table = output::table(&["MAP", "TYPE", "KEY", "VALUE", "AT MOST"]);
    for map in &found.items {
        table.add_row([
            map.name.clone(),
            map.kind.clone(),
            format!("{} B", map.key_size),
            format!("{} B", map.value_size),
            map.max_entries.to_string(),
        ]);
    }
    output::draw(table)
}

/// One line for each.
fn elements(found: &MapDump) -> String {
    let mut table = output::table(&["KEY", "VALUE"]);
    for element in &found.items {
        let value = element.value.iter();
        let value: Vec<_> = value
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        table.add_row([element.key.clone(), value.join(" ")]);
    }
    let more = match found.more {
        true => ", and there are more: name a key, or a --limit",
        false => "",
    };
    format!(
        "{}\n\n{} shown of map {} of {}{more}",
        output::draw(table),
        found.items.len(),
        found.map,
        found.node
    )
}
