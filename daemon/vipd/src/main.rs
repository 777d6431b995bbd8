//! The daemon's command line. Thin: parses, calls the library, says what failed.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
