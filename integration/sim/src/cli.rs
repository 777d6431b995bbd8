//! The command line: `cargo xtask sim` is this program.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::crew::{Crew, Orders};
use crate::{Aim, Mutant, Plan, Report, run, scale};

/// How many seeds a planted fault has to be found.
const MUTANT_SEEDS: u64 = 300;

/// Runs whole clusters on virtual time, each from a seed, and judges them at every step.
#[derive(Parser, Debug)]
#[command(
    name = "cargo xtask sim",
    bin_name = "cargo xtask sim",
    max_term_width = 100
)]
struct Options {
    /// How many seeds to run. [default: 100, or as many as the time allows]
    #[arg(long)]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, default_value_t = 1, value_name = "SEED")]
    first: u64,
    /// Virtual minutes of each.
    #[arg(long, default_value_t = 10, value_name = "M")]
    minutes: u64,
    /// Run this seed alone, and print what happens.
    #[arg(long, conflicts_with_all = ["seeds", "budget", "hours"])]
    seed: Option<u64>,
    /// Plant this fault: the run succeeds if it is found.
    #[arg(long, value_enum, default_value_t = Mutant::None, hide_default_value = true)]
    mutant: Mutant,
    /// Let the nemesis do nothing but play this scene.
    #[arg(long, value_enum, value_name = "SCENE")]
    aim: Option<Aim>,
    /// Run for so many hours.
    #[arg(long, value_name = "H", conflicts_with = "budget")]
    hours: Option<f64>,
    /// Begin no further seed after so many minutes.
    #[arg(long, value_name = "MINUTES")]
    budget: Option<f64>,
    /// Run so many seeds even if the budget is over.
    #[arg(long, default_value_t = 0, value_name = "N")]
    at_least: u64,
    /// How many run at once. [default: one for each CPU]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// 7 voters, 300 agents, 10,000 VIPs: what it costs, in a table.
    #[arg(long, conflicts_with_all = ["seeds", "seed", "budget", "hours"])]
    scale: bool,
}

impl Options {
    fn plan(&self, seed: u64) -> Plan {
        Plan::asked(seed, self.minutes * 60, self.aim)
    }
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let options = Options::parse();
    let good = if options.scale {
        scale::table()
    } else if let Some(seed) = options.seed {
        alone(&options, seed)
    } else {
        many(&options)
    };
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn alone(options: &Options, seed: u64) -> bool {
    let report = run(options.plan(seed), options.mutant, true);
    println!("trace {:016x}", report.hash);
    println!("{}", report.line());
    verdict(options, &report)
}

fn many(options: &Options) -> bool {
    let budget = options
        .budget
        .map(|minutes| minutes * 60.0)
        .or(options.hours.map(|hours| hours * 3600.0));
    let seeds = options.seeds.unwrap_or(match (options.mutant, budget) {
        (_, Some(_)) => u64::MAX,
        (Mutant::None, None) => 100,
        (_, None) => MUTANT_SEEDS,
    });
    let orders = Orders {
        first: options.first,
        seeds,
        seconds: options.minutes * 60,
        aim: options.aim,
        mutant: options.mutant,
        budget: budget.map(Duration::from_secs_f64),
        at_least: options.at_least.min(seeds),
        jobs: options.jobs,
    };
    let crew = Crew::work(&orders);
    if let Some(report) = &crew.found {
        for line in &report.tail {
            println!("{line}");
        }
        verdict(options, report);
    }
    print!("{crew}");
    match (&crew.found, options.mutant) {
        (None, Mutant::None) => true,
        (Some(_), Mutant::None) => false,
        (found, mutant) => {
            let word = if found.is_some() {
                "was found"
            } else {
                "was NOT found: the judge is blind to it"
            };
            println!("the planted fault {mutant:?} {word}");
            found.is_some()
        }
    }
}

/// Says what is wrong and how to see it again; whether nothing is, or was meant to be.
fn verdict(options: &Options, report: &Report) -> bool {
    for violation in &report.violations {
        println!("\nVIOLATED: {violation}");
    }
    if !report.violations.is_empty() {
        println!("again: {}", reproduce(options, report.plan.seed));
    }
    report.violations.is_empty() == (options.mutant == Mutant::None)
}

fn reproduce(options: &Options, seed: u64) -> String {
    let mutant = match clap::ValueEnum::to_possible_value(&options.mutant) {
        Some(value) if options.mutant != Mutant::None => format!(" --mutant {}", value.get_name()),
        Some(_) | None => String::new(),
    };
    let aim = options
        .aim
        .and_then(|aim| clap::ValueEnum::to_possible_value(&aim))
        .map(|value| format!(" --aim {}", value.get_name()));
    format!(
        "cargo xtask sim --seed {seed} --minutes {}{mutant}{}",
        options.minutes,
        aim.unwrap_or_default()
    )
}
