//! `vipctl policy`.

use clap::{Args, Subcommand};
use vipd_api_types::{Operator, Policy, PolicySpec, PolicyWrite, Requirement, Selector};
use vipd_client::Written;

use crate::apply::{self, ApplyArgs};
use crate::cli::{Global, TryArgs, WriteArgs, label, labels};
use crate::edit::{self, EditArgs};
use crate::failure::Failure;
use crate::manifest::Kind;
use crate::{connect, dark, output, render};

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List all policies
    List,
    /// Show one policy
    Get {
        /// Its name
        name: String,
    },
    /// Make a policy; VIPs that it selects move where it says
    Create(CreateArgs),
    /// Make or replace policies from a file
    Apply(ApplyArgs),
    /// Change a policy in your editor (VISUAL, EDITOR, else vi)
    Edit(EditArgs),
    /// Delete a policy; VIPs that the others do not allow where they are move (see --dry-run)
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        write: WriteArgs,
    },
}

/// A policy on the command line. Selectors with other conditions than equality go through `apply -f`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Its name
    name: String,
    /// A label that its VIPs have, key=value; repeat for more; all VIPs without
    #[arg(long = "vip-label", value_parser = label, value_name = "KEY=VALUE")]
    vip_labels: Vec<(String, String)>,
    /// A label that the nodes have which may hold them; repeat for more; all nodes without
    #[arg(long = "node-label", value_parser = label, value_name = "KEY=VALUE")]
    node_labels: Vec<(String, String)>,
    /// A regular expression over the names of interfaces to announce on; repeat for more; all without
    #[arg(long = "interface", value_name = "REGEX")]
    interfaces: Vec<String>,
    /// A label of the policy itself, key=value; repeat for more
    #[arg(long = "label", value_parser = label, value_name = "KEY=VALUE")]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    write: TryArgs,
}

pub(crate) async fn run(verb: Verb, global: &Global) -> Result<(), Failure> {
    match verb {
        Verb::List => {
            let policies = connect::client(global)?.list::<Policy>().await?;
            output::show(&policies, global.output, || table(&policies.items))
        }
        Verb::Get { name } => {
            let policy = connect::client(global)?.get::<Policy>(&name).await?;
            output::show(&policy, global.output, || {
                table(std::slice::from_ref(&policy))
            })
        }
        Verb::Create(args) => create(args, global).await,
        Verb::Apply(args) => apply::run(&args, Some(Kind::Policy), global).await,
        Verb::Edit(args) => edit::run::<Policy>(&args, global).await,
        Verb::Delete { name, write } => {
            let client = connect::client(global)?;
            let object = format!("policy/{name}");
            match client.delete::<Policy>(&name, write.into()).await? {
                Written::Done(_) => output::line(&format!("{object} deleted")),
                Written::Tried(tried) => render::dry_run(&tried, &object, global.output),
            }
        }
    }
}

async fn create(args: CreateArgs, global: &Global) -> Result<(), Failure> {
    let equal = |given| {
        Ok::<_, Failure>(Selector {
            match_labels: labels(given)?,
            ..Selector::default()
        })
    };
    let body = PolicyWrite {
        name: Some(args.name.clone()),
        labels: labels(args.labels)?,
        spec: PolicySpec {
            vip_selector: equal(args.vip_labels)?,
            node_selector: equal(args.node_labels)?,
            interfaces: args.interfaces,
        },
    };
    let object = format!("policy/{}", args.name);
    let client = connect::client(global)?;
    match client.create::<Policy>(&body, args.write.into()).await? {
        Written::Done(policy) => {
            dark::warn(&client, &[(Kind::Policy, &args.name)]).await;
            output::show(&policy, global.output, || match &policy {
                Some(policy) => format!(
                    "{object} created: {} VIPs, {} nodes",
                    policy.status.vips.len(),
                    policy.status.nodes.len()
                ),
                None => format!("{object} created"),
            })
        }
        Written::Tried(tried) => render::dry_run(&tried, &object, global.output),
    }
}

fn table(policies: &[Policy]) -> String {
    let header = [
        "POLICY",
        "VIPS",
        "SELECTED",
        "NODES",
        "SELECTED",
        "INTERFACES",
    ];
    let mut table = output::table(&header);
    for Policy {
        name, spec, status, ..
    } in policies
    {
        table.add_row([
            name.clone(),
            selector(&spec.vip_selector),
            status.vips.len().to_string(),
            selector(&spec.node_selector),
            output::or_dash(Some(&status.nodes.join(" "))),
            match spec.interfaces.as_slice() {
                [] => "all".to_owned(),
                some => some.join(" "),
            },
        ]);
    }
    output::draw(table)
}

/// A selector on one line: `app=web, rack in (a b)`.
fn selector(selector: &Selector) -> String {
    if selector.is_empty() {
        return "all".to_owned();
    }
    let labels = selector.match_labels.iter();
    let labels = labels.map(|(key, value)| format!("{key}={value}"));
    let others = selector.match_expressions.iter().map(requirement);
    labels.chain(others).collect::<Vec<_>>().join(", ")
}

fn requirement(requirement: &Requirement) -> String {
    let (key, values) = (&requirement.key, requirement.values.join(" "));
    match requirement.operator {
        Operator::In => format!("{key} in ({values})"),
        Operator::NotIn => format!("{key} not in ({values})"),
        Operator::Exists => format!("{key} exists"),
        Operator::DoesNotExist => format!("no {key}"),
    }
}
