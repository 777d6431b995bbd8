//! `vipd init`: the first node.

use std::process::ExitCode;

use vipd_core::command::Command;
use vipd_core::name::Name;
use vipd_core::token::Access;
use vipd_raft::Init;

use super::place::{Place, write_private};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let place = args.place;
    let (name, peer) = (place.name()?, place.listen()?);
    let (secret, command) = admin_token()?;
    let init = Init {
        data_dir: place.data_dir.clone(),
        name: name.clone(),
        peer,
        addresses: place.addresses(),
        first: vec![command],
    };
    if !vipd_raft::is_node(&place.data_dir) {
        place.check_free()?;
    }
    let made = vipd_raft::init(&init)?;
    let admin = place.data_dir.join("admin.token");
    write_private(&admin, format!("{secret}\n").as_bytes())?;
    let ca = place.data_dir.join("ca.pem");
    place.write_config(&name, peer)?;
    println!("Node {name} is made: the first of a new cluster, reached by its peers at {peer}.");
    println!("  configuration  {}", place.config.display());
    println!("  data           {}", place.data_dir.display());
    println!(
        "  admin token    {}   (for the API over TLS: vipctl --token-file; CA in {})",
        admin.display(),
        ca.display()
    );
    println!();
    println!("Start it:");
    println!("  {}", place.start());
    println!();
    println!("Then, on each host that shall join (the token is good for 24 hours and 16 nodes):");
    println!("  {}", vipd::join_command(peer, &made.join_token));
    Ok(ExitCode::SUCCESS)
}

/// A token that may do everything, and the command that makes it valid.
pub(super) fn admin_token() -> anyhow::Result<(String, Command)> {
    let (secret, token) = vipd_api::new_token();
    let command = Command::PutApiToken {
        token,
        name: Name::new("admin")?,
        access: Access::Admin,
        expires: None,
    };
    Ok((secret, command))
}
