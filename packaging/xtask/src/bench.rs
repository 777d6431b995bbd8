//! `cargo xtask bench`: installs what vipd is compared with, builds, and becomes `vipd-bench`; or measures the eBPF
//! programs alone, which is a test of the crate that loads them.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{apt, needs, repo, sh};

/// What a packet costs in the eBPF programs. The kernel takes the time, so any build profile will do.
const DATAPATH: &str = "test -p vipd-datapath --test balance_bench -- --ignored --exact what_a_packet_costs --nocapture";

/// Does not return when the measurement starts: this process becomes `vipd-bench`, whose exit code is the answer.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let asks = |word: &str| ["help", "-h", "--help"].contains(&word);
    let helps = arguments.iter().any(|word| asks(word));
    if !helps {
        sh::require_root(
            "the bench makes network namespaces and loads eBPF programs, which",
            "cargo xtask bench",
        )?;
        apt::ensure("the bench", needs::BENCH)?;
    }
    if arguments.first().is_some_and(|what| what == "datapath") {
        apt::ensure("the bench of the datapath", needs::DATAPATH_BENCH)?;
        let object = compile("established")?;
        return sh::run(sh::cargo(DATAPATH).env("VIPD_BASELINE_OBJECT", object));
    }
    let mut generator = None;
    if arguments.first().is_some_and(|what| what == "balance") && !helps {
        apt::ensure("the bench of balancing", needs::BALANCE_BENCH)?;
        generator = Some(compile("generate")?);
    }
    // Who asks what there is to measure waits for no optimizer.
    let (folder, programs) = if helps {
        (
            "debug",
            "build --quiet -p vipd-integration --bin vipd-bench",
        )
    } else {
        println!("==> bench: building (release; about ten minutes on two cores the first time)");
        let all = "build --release --bins -p vipd -p vipctl -p vipd-integration";
        ("release", all)
    };
    sh::run(&mut sh::cargo(programs))?;
    let bench = repo::program(folder, "vipd-bench");
    let mut command = sh::command(&bench);
    command.args(arguments);
    command.envs(generator.map(|object| ("VIPD_GENERATOR_OBJECT", object)));
    Err(command.exec()).with_context(|| format!("cannot start {}", bench.display()))
}

/// Compiles one of the C programs in `datapath/baseline`, and returns the object.
fn compile(name: &str) -> Result<PathBuf> {
    let object = repo::target().join(format!("{name}.bpf.o"));
    let source = repo::root().join(format!("datapath/baseline/{name}.bpf.c"));
    // Where Debian has asm/types.h.
    let headers = format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH);
    let mut clang = sh::command("clang-19");
    clang
        .args([
            "-O2", "-g", "-Wall", "-Werror", "-target", "bpf", "-mcpu=v3",
        ])
        .args(["-idirafter", &headers, "-c"])
        .arg(source)
        .arg("-o")
        .arg(&object);
    sh::run(&mut clang)?;
    Ok(object)
}
