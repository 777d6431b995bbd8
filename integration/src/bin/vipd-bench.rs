//! The command line of `cargo xtask bench`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use vipd_integration::cluster::Binaries;
use vipd_integration::measure::{self, Contender, Fault, Trouble};

/// Measure vipd, and others beside it, on this machine. Needs root, and the others.
#[derive(Parser, Debug)]
#[command(
    name = "cargo xtask bench",
    bin_name = "cargo xtask bench",
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
    /// Where tables, plot and raw figures go.
    #[arg(long, global = true, default_value = "target/bench")]
    out: PathBuf,
}

#[derive(Subcommand, Debug)]
enum Task {
    /// How long a client is without an answer when the holder of its VIP is lost.
    Failover(Failover),
    /// CPU time and memory when nothing happens.
    Idle(Idle),
    /// A time without any fault, in which nothing may happen; also beside CPU hogs, and over bad wires.
    Quiet(Quiet),
    /// Three voters, many agents, many VIPs: CPU time, memory, commits, takeovers.
    Agents(Agents),
    /// How fast addresses are given out and taken back.
    Allocate(Allocate),
    /// What forwarding packets and requests to a backend costs, beside plain routing, nftables, haproxy and nginx.
    Balance(Balance),
    /// Send frames until killed: `balance` runs it in its client's namespace.
    #[command(hide = true)]
    SendFrames(SendFrames),
}

#[derive(Args, Debug)]
struct SendFrames {
    /// The host that they go through.
    way: String,
    /// Bytes of a frame.
    length: usize,
    /// UDP exchanges that they belong to.
    #[arg(long)]
    flows: u16,
    /// The CPU that sends.
    #[arg(long)]
    cpu: usize,
    /// The program that makes them, compiled.
    #[arg(long)]
    generator: PathBuf,
}

#[derive(Args, Debug)]
struct Balance {
    /// How often each is measured.
    #[arg(long, default_value_t = 9)]
    trials: usize,
    /// How long a trial is.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Only this. Default: both.
    #[arg(long)]
    only: Option<Half>,
    /// UDP exchanges that the packets belong to.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=50_000))]
    flows: u16,
    /// The program that makes frames, compiled; `cargo xtask bench` sets it.
    #[arg(long, env = "VIPD_GENERATOR_OBJECT", hide = true)]
    generator: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Half {
    /// Frames as from a network card: what one costs the CPU that forwards it.
    Packets,
    /// HTTP requests: how many are answered.
    Requests,
}

#[derive(Args, Debug)]
struct Allocate {
    /// With how many VIPs there.
    #[arg(long, value_delimiter = ',', default_value = "0,1000,100000")]
    held: Vec<u32>,
    /// How often each is measured.
    #[arg(long, default_value_t = 9)]
    trials: usize,
    /// By three voters with 64 clients, beside three members of etcd; else in memory, through the state alone.
    #[arg(long, conflicts_with = "held")]
    cluster: bool,
    /// How long a trial of the clusters is.
    #[arg(long, default_value_t = 5, requires = "cluster")]
    seconds: u64,
}

#[derive(Args, Debug)]
struct Failover {
    /// How often each fault is done to each system.
    #[arg(long, default_value_t = 30)]
    trials: usize,
    /// Three trials: a test of the bench itself.
    #[arg(long, conflicts_with = "trials")]
    quick: bool,
    /// Only these faults. Default: all for one VIP; power-off, leader+holder and drain for many.
    #[arg(long, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// With how many VIPs; 1 has both families, of many every second one is IPv6.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    vips: Vec<usize>,
    /// These systems: vipd-lan, vipd-fast, vipd-safe, keepalived-SECONDS, ucarp.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "vipd-lan,vipd-fast,keepalived-0.1,keepalived-1,ucarp"
    )]
    systems: Vec<Contender>,
    /// Log level of vipd; anything below "info" costs time.
    #[arg(long, default_value = "info")]
    log_level: String,
    /// Leave the daemons' logs in the output folder.
    #[arg(long)]
    keep_logs: bool,
}

#[derive(Args, Debug)]
struct Idle {
    /// With how many VIPs.
    #[arg(long, value_delimiter = ',', default_value = "1,1000")]
    vips: Vec<usize>,
    /// These systems.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "vipd-lan,vipd-fast,keepalived-0.1,keepalived-1"
    )]
    systems: Vec<Contender>,
    /// How long each is measured.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

#[derive(Args, Debug)]
struct Quiet {
    /// These systems.
    #[arg(long, value_delimiter = ',', default_value = "vipd-lan,keepalived-0.1")]
    systems: Vec<Contender>,
    /// With how many VIPs.
    #[arg(long, default_value_t = 100)]
    vips: usize,
    /// For how long.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// For how long, in minutes.
    #[arg(long, conflicts_with = "seconds")]
    minutes: Option<u64>,
    /// Beside so many processes that never sleep.
    #[arg(long, conflicts_with_all = ["loss", "jitter_ms"])]
    hogs: Option<usize>,
    /// vipd may not use the real-time class.
    #[arg(long)]
    no_realtime: bool,
    /// Per cent of the frames between servers that are lost.
    #[arg(long, value_parser = per_cent)]
    loss: Option<f64>,
    /// The longest delay of a frame between servers, in milliseconds; each has one of its own.
    #[arg(long)]
    jitter_ms: Option<u64>,
}

#[derive(Args, Debug)]
struct Agents {
    /// How many agents (1 to 190).
    #[arg(long, default_value_t = 20)]
    agents: usize,
    /// How many VIPs.
    #[arg(long, default_value_t = 10_000)]
    vips: usize,
    /// How long CPU time is measured.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// How many agents are lost, one after the other.
    #[arg(long, default_value_t = 3)]
    trials: usize,
}

fn per_cent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=100.0).contains(&value) => Ok(value),
        _ => Err("a number from 0 to 100 is wanted".to_owned()),
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let out = cli.out;
    match cli.task {
        Task::Failover(wanted) => measure::failover(&measure::Failover {
            binaries: Binaries::built()?,
            trials: if wanted.quick { 3 } else { wanted.trials },
            faults: wanted.faults,
            vips: wanted.vips,
            systems: wanted.systems,
            out,
            log_level: wanted.log_level,
            keep_logs: wanted.keep_logs,
        })
        .map(drop),
        Task::Idle(wanted) => measure::idle(&measure::Idle {
            binaries: Binaries::built()?,
            vips: wanted.vips,
            systems: wanted.systems,
            span: Duration::from_secs(wanted.seconds),
            out,
        }),
        Task::Quiet(wanted) => measure::quiet(&measure::Quiet {
            binaries: Binaries::built()?,
            trouble: trouble(&wanted),
            systems: wanted.systems,
            vips: wanted.vips,
            span: Duration::from_secs(wanted.minutes.map_or(wanted.seconds, |m| m * 60)),
            no_realtime: wanted.no_realtime,
            out,
        }),
        Task::Agents(wanted) => measure::agents(&measure::Agents {
            binaries: Binaries::built()?,
            agents: wanted.agents,
            vips: wanted.vips,
            span: Duration::from_secs(wanted.seconds),
            trials: wanted.trials,
            out,
        }),
        Task::Allocate(wanted) if wanted.cluster => {
            measure::allocate_cluster(&measure::AllocateCluster {
                binaries: Binaries::built()?,
                trials: wanted.trials,
                span: Duration::from_secs(wanted.seconds),
                out,
            })
        }
        Task::Balance(wanted) => measure::balance(&measure::Balance {
            binaries: Binaries::built()?,
            generator: (wanted.only != Some(Half::Requests)).then_some(wanted.generator),
            flows: wanted.flows,
            requests: wanted.only != Some(Half::Packets),
            trials: wanted.trials,
            span: Duration::from_secs(wanted.seconds),
            out,
        }),
        Task::SendFrames(wanted) => measure::send_frames(&measure::Frames {
            generator: wanted.generator,
            way: wanted.way,
            length: wanted.length,
            flows: wanted.flows,
            cpu: wanted.cpu,
        }),
        Task::Allocate(wanted) => measure::apply(&measure::Apply {
            held: wanted.held,
            trials: wanted.trials,
            out,
        }),
    }
}

fn trouble(wanted: &Quiet) -> Trouble {
    match (wanted.hogs, wanted.loss, wanted.jitter_ms) {
        (Some(count), _, _) => Trouble::Hogs(count),
        (None, None, None) => Trouble::None,
        (None, loss, jitter) => Trouble::Wire {
            loss: loss.unwrap_or_default(),
            jitter: Duration::from_millis(jitter.unwrap_or_default()),
        },
    }
}
