//! `vipd clean`: leaves nothing in the kernel. For the removal of the package, and after a daemon that was killed.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use vipd::config::{ApiListen, Config, DEFAULT_PATH, LogFormat};
use vipd_datapath::{Datapath as _, Kernel};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration of the daemon that ran here
    #[arg(long, value_name = "PATH", default_value = DEFAULT_PATH)]
    config: PathBuf,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let checked = if args.config.exists() {
        Config::load(&args.config)?
    } else {
        Config::parse(&args.config, "")?
    };
    if !checked.pin_dir.exists() {
        println!(
            "nothing to clean: {} is not there",
            checked.pin_dir.display()
        );
        return Ok(ExitCode::SUCCESS);
    }
    for listen in &checked.api {
        if let ApiListen::Unix(path) = listen
            && UnixStream::connect(path).is_ok()
        {
            anyhow::bail!(
                "a vipd is running here (it answers on {}): stop it first",
                path.display()
            );
        }
    }
    // What is left all the same is a warning.
    vipd::log::begin("warn", LogFormat::Text)?;
    super::block_on(async {
        Kernel::open(&checked.pin_dir).await?.remove().await?;
        Ok(())
    })?;
    println!(
        "clean: no address, program or map of vipd is left ({})",
        checked.pin_dir.display()
    );
    Ok(ExitCode::SUCCESS)
}
