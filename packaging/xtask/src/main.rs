//! `cargo xtask`: the repository's tasks. `demo` and `test` are for everybody, the others for those who change vipd.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod apt;
mod bench;
mod demo;
mod ebpf;
mod fix;
mod history;
mod kernel;
mod model;
mod needs;
mod openapi;
mod package;
mod repo;
mod sh;
mod shape;
mod sim;
mod stage;
mod test;
mod tools;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of the vipd repository.
#[derive(Parser, Debug)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand, Debug)]
enum Task {
    /// Show the main job on this machine: three hosts, a VIP, and what happens when they fail.
    Demo {
        /// Leave the hosts running at the end and say how to explore them.
        #[arg(long)]
        keep: bool,
    },
    /// Measure vipd beside keepalived, ucarp and others on this machine; `bench help` lists what can be measured. `bench
    /// datapath` measures what a packet costs in the eBPF programs.
    #[command(disable_help_flag = true)]
    Bench {
        /// What to measure, and how.
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            default_value = "help"
        )]
        arguments: Vec<String>,
    },
    /// Run whole clusters on virtual time, each from a seed, while things break; `sim --help` lists the options.
    #[command(disable_help_flag = true)]
    Sim {
        /// What to simulate, and for how long.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run every test (as root: they load eBPF programs and make network namespaces).
    Test(test::Options),
    /// Let clients use the API of a lab cluster whose nodes fail, and see that what they saw is linearizable.
    History(history::Options),
    /// Run the datapath's tests on the oldest kernel that vipd supports: Debian's, booted under emulation.
    Kernel(kernel::Options),
    /// Explore the lease protocol exhaustively within bounds, and see that every planted fault is caught.
    Model(model::Options),
    /// Write the API's description anew, or test a running server against it.
    Openapi(openapi::Options),
    /// Check everything that can be judged without running vipd; changes nothing.
    Verify {
        /// Only these checks.
        #[arg(value_enum)]
        checks: Vec<verify::Check>,
    },
    /// Format, and take clippy's advice where a program can.
    Fix,
    /// Build the eBPF object from datapath/ebpf and put it where it is checked in.
    Ebpf(ebpf::Options),
    /// Build the deb and the rpm into target/packages and check them.
    Package(package::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Demo { keep } => demo::run(keep),
        Task::Bench { arguments } => bench::run(&arguments),
        Task::Sim { arguments } => sim::run(&arguments),
        Task::Test(options) => test::run(&options),
        Task::History(options) => history::run(&options),
        Task::Kernel(options) => kernel::run(&options),
        Task::Model(options) => model::run(&options),
        Task::Openapi(options) => openapi::run(&options),
        Task::Verify { checks } => verify::run(&checks),
        Task::Fix => fix::run(),
        Task::Ebpf(options) => ebpf::run(&options),
        Task::Package(options) => package::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
