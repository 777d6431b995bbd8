//! The name that was meant, where one was not known.

use vipd_api_types::{Node, Policy, Pool, Vip};
use vipd_client::Client;

use crate::cli::Global;
use crate::connect;
use crate::failure::Failure;

/// The failure, with the nearest name in its next step, where the daemon knows none of that name.
pub(crate) async fn hint(failure: Failure, global: &Global) -> Failure {
    let Some((kind, name)) = failure.unknown() else {
        return failure;
    };
    let Ok(client) = connect::client(global) else {
        return failure;
    };
    let names = names(&client, kind).await.unwrap_or_default();
    match nearest(name, &names) {
        Some(near) => {
            let question = format!("did you mean {near}?");
            failure.asking(&question)
        }
        None => failure,
    }
}

/// The names of all objects of a kind, as the daemon says it.
async fn names(client: &Client, kind: &str) -> Result<Vec<String>, vipd_client::Error> {
    let (pools, vips) = (client.list::<Pool>(), client.list::<Vip>());
    let (policies, nodes) = (client.list::<Policy>(), client.list::<Node>());
    Ok(match kind {
        "pool" => pools.await?.items.into_iter().map(|of| of.name).collect(),
        "VIP" => vips.await?.items.into_iter().map(|of| of.name).collect(),
        "policy" => policies
            .await?
            .items
            .into_iter()
            .map(|of| of.name)
            .collect(),
        "node" => nodes.await?.items.into_iter().map(|of| of.name).collect(),
        _ => Vec::new(),
    })
}

/// The name that is at most a slip or two away: one in three letters, as many as people mistype.
fn nearest<'a>(name: &str, names: &'a [String]) -> Option<&'a str> {
    let slips = |other: &&String| strsim::damerau_levenshtein(name, other);
    let near = names.iter().min_by_key(slips)?;
    (slips(&near) <= (name.len() / 3).clamp(1, 2)).then_some(near.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_understood_and_another_name_is_not() {
        let names = ["web", "mail", "n1"].map(str::to_owned);
        for (name, meant) in [
            ("wbe", Some("web")),
            ("webb", Some("web")),
            ("mial", Some("mail")),
            ("n2", Some("n1")),
            ("shop", None),
            ("internal", None),
        ] {
            assert_eq!(nearest(name, &names), meant, "{name}");
        }
        assert_eq!(nearest("web", &[]), None);
    }
}
