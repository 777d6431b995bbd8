//! `vipd run`: the daemon.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};
use vipd::config::{Checked, Config, DEFAULT_PATH};
use vipd::{Ended, Node};
use vipd_datapath::{Attach, Kernel, Options};
use vipd_raft::Init;

use super::init::admin_token;
use super::place::{default_listen, write_private};
use super::reload::Bound;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration; without it and without a file at the default place, everything is at its default
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Where everything durable is kept, whatever the configuration says; made a single-node cluster if empty
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = load(&args)?;
    vipd::log::begin(&config.log_level, config.log_format)?;
    lock_memory();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("vipd")
        // For Raft. The daemon's loop, which waits for the kernel, runs on this thread here, the API on one of its own, and
        // a second worker would only be woken by the first.
        .worker_threads(1)
        .enable_all()
        .build()?;
    let program = std::env::current_exe().context("cannot find out which program this is")?;
    let alone = args.config.is_none();
    let ended = runtime.block_on(serve(config, alone, move || load(&args)))?;
    match ended {
        Ended::Stopped => Ok(ExitCode::SUCCESS),
        Ended::Reload => {
            // Its threads end with the program's image; whatever they still do is cut off.
            runtime.shutdown_background();
            // Another one waits in the kernel until the next life takes it: it would end a program without a handler.
            let _unheld = hangup().thread_block();
            let error = Command::new(&program)
                .args(std::env::args_os().skip(1))
                .exec();
            Err(error).with_context(|| format!("cannot start {} again", program.display()))
        }
    }
}

/// Keeps what was once in memory there: a beat that has to be read back from a swapped-out page comes too late. Pages are
/// locked as they are touched, so that nothing grows.
fn lock_memory() {
    // nix has no name for MCL_ONFAULT (Linux 4.4).
    let on_fault = MlockAllFlags::from_bits_retain(4);
    let flags = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault;
    // Under a limit a later allocation would fail, which is worse than being swapped out.
    let unlimited = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    if let Err(error) = unlimited.and_then(|()| mlockall(flags)) {
        warn!(
            "memory may be swapped out ({error}): set LimitMEMLOCK=infinity in the unit, or have no swap"
        );
    }
}

fn load(args: &Args) -> anyhow::Result<Checked> {
    let mut config = match &args.config {
        Some(path) => Config::load(path)?,
        None if Path::new(DEFAULT_PATH).exists() && args.data_dir.is_none() => {
            Config::load(Path::new(DEFAULT_PATH))?
        }
        None => Config::parse(Path::new("built-in defaults"), "")?,
    };
    if let Some(dir) = &args.data_dir {
        config.data_dir.clone_from(dir);
    }
    Ok(config)
}

fn hangup() -> SigSet {
    SigSet::from_iter([Signal::SIGHUP])
}

async fn serve(
    config: Checked,
    alone: bool,
    load: impl Fn() -> anyhow::Result<Checked> + Send + 'static,
) -> anyhow::Result<Ended> {
    if alone && !vipd_raft::is_node(&config.data_dir) {
        make_alone(&config)?;
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    // An earlier life of this process may have held it back.
    hangup()
        .thread_unblock()
        .context("cannot take signals (SIGHUP)")?;
    let attach = if config.force_tc {
        Attach::Clsact
    } else {
        Attach::Auto
    };
    let datapath = Kernel::open_with(Options {
        pin_dir: config.pin_dir.clone(),
        attach,
        refresh: config.refresh,
        bounds: config.bounds,
        loopback: config.loopback_ports.clone(),
        xdp: config.xdp,
    })
    .await?;
    let links = vipd_datapath::watch_interfaces()?;
    let peer = match config.listen {
        Some(peer) => peer,
        None => vipd_raft::peer_address(&config.data_dir)?,
    };
    let bound = |name, role| Bound::by(&config, name, role, peer);
    let node = Node::build(config.clone(), datapath, links).await?;
    let (handle, bound) = (node.handle(), bound(node.name().clone(), node.role()));
    let asked_to_stop = Arc::new(AtomicBool::new(false));
    let stop = asked_to_stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hung_up.recv() => match load().and_then(|next| bound.allows(&next)) {
                    Ok(()) => handle.reload(),
                    Err(error) => error!("not reloaded, this node goes on as it is: {error:#}"),
                },
            }
        }
        stop.store(true, Ordering::Relaxed);
        handle.stop();
    });
    match node.run().await? {
        // Asked while it was leaving for a moment: then for good. What it holds is fenced when its lease ends.
        Ended::Reload if asked_to_stop.load(Ordering::Relaxed) => Ok(Ended::Stopped),
        ended => Ok(ended),
    }
}

/// With no configuration at all, an empty data directory becomes a cluster of one.
fn make_alone(config: &Checked) -> anyhow::Result<()> {
    let (secret, command) = admin_token()?;
    let peer = config.listen.unwrap_or_else(default_listen);
    let init = Init {
        data_dir: config.data_dir.clone(),
        name: config.name.clone(),
        peer,
        addresses: Vec::new(),
        first: vec![command],
    };
    vipd_raft::init(&init).context("making a single-node cluster")?;
    let dir = &config.data_dir;
    if let Err(error) = write_private(&dir.join("admin.token"), format!("{secret}\n").as_bytes()) {
        warn!("the admin token is not kept: {error:#}; make another with vipctl token create");
    }
    info!(node = %config.name, %peer, "a single-node cluster is made in {}", dir.display());
    Ok(())
}
