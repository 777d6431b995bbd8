//! `vipd join`: a further node.

use std::net::SocketAddr;
use std::process::ExitCode;

use vipd_raft::{Join, Token};

use super::place::Place;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A member of the cluster: where its peers reach it
    #[arg(value_name = "IP:PORT")]
    member: SocketAddr,
    /// The token, as `vipd init`, `vipd token` or `vipctl cluster token` printed it
    token: String,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let place = args.place;
    let token: Token = args.token.parse()?;
    let (name, peer) = (place.name()?, place.listen());
    place.check_free()?;
    let join = Join {
        addr: args.member,
        token,
        data_dir: place.data_dir.clone(),
        name: name.clone(),
        peer,
        addresses: place.addresses(),
    };
    let (node, role) = super::block_on(async { Ok(vipd_raft::join(&join).await?) })?;
    place.write_config(&name, peer)?;
    println!("Node {name} is admitted as {role}, number {node}.");
    println!("  configuration  {}", place.config.display());
    println!("  data           {}", place.data_dir.display());
    println!();
    println!("Start it:");
    println!("  vipd run --config {}", place.config.display());
    Ok(ExitCode::SUCCESS)
}
