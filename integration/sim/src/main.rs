//! `vipd-sim`: see `cargo xtask sim --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    vipd_sim::main()
}
