//! `vipd join`: a further node.

use std::fmt;
use std::net::SocketAddr;
use std::process::ExitCode;

use vipd_raft::{Join, Token};

use super::place::Place;

#[derive(clap::Args)]
pub(super) struct Args {
    /// A member of the cluster: where its peers reach it; port 7400 unless it is named
    #[arg(value_name = "IP[:PORT]", value_parser = vipd::config::peer)]
    member: SocketAddr,
    /// The token, as `vipd init`, `vipd token` or `vipctl cluster token` printed it
    token: String,
    #[command(flatten)]
    place: Place,
}

// Without the token.
impl fmt::Debug for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Args")
            .field("member", &self.member)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let place = args.place;
    let token: Token = args.token.parse()?;
    let (name, peer) = (place.name()?, place.listen()?);
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
    println!("  {}", place.start());
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::Cli;

    #[test]
    fn debug_of_the_command_line_shows_no_token() {
        let line = ["vipd", "join", "192.0.2.1:7400", "vipd1-c2VjcmV0"];
        let cli = Cli::try_parse_from(line).unwrap();
        let shown = format!("{cli:?} {cli:#?}");
        assert!(!shown.contains("c2VjcmV0"), "{shown}");
        assert!(shown.contains("192.0.2.1:7400"), "{shown}");
    }
}
