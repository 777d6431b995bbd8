//! `vipd-model`, as `cargo xtask model` calls it: explores every scene with the protocol as it is, then plants the
//! mutants, and prints what came of it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use vipd_model::explore::{Found, Way, search};
use vipd_model::mutant::Mutant;
use vipd_model::scenes::{SCENES, Size, scene};
use vipd_model::table;

/// Between these lines of the README stand the tables.
const BEGIN: &str = "<!-- tables: written by cargo xtask model --write -->";
const END: &str = "<!-- end of tables -->";

/// The lease protocol under a model checker.
#[derive(Parser, Debug)]
#[command(name = "vipd-model")]
struct Options {
    /// Only this scene (and its mutants).
    #[arg(long)]
    scene: Option<String>,
    /// Only this mutant, with the steps that show what it breaks.
    #[arg(long)]
    mutant: Option<String>,
    /// Explore more: for many minutes, and gigabytes of memory.
    #[arg(long, conflicts_with = "small")]
    large: bool,
    /// Explore less: what every test run does.
    #[arg(long)]
    small: bool,
    /// How many threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Write the tables into this file, between its two marks.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `true` if the protocol holds and every mutant is caught.
fn run(options: &Options) -> Result<bool> {
    let size = match (options.small, options.large) {
        (true, _) => Size::Small,
        (_, true) => Size::Large,
        (false, false) => Size::Usual,
    };
    if let Some(name) = &options.mutant {
        return one_mutant(name);
    }
    if let Some(name) = &options.scene {
        scene(name, size, None)?;
    }
    let wanted = |name: &str| options.scene.as_deref().is_none_or(|only| only == name);
    println!("the protocol as it is");
    let mut scenes = Vec::new();
    for (name, _) in SCENES.iter().filter(|(name, _)| wanted(name)) {
        let scene = scene(name, size, None)?;
        let (about, budget) = (scene.about, scene.budget);
        let found = watched(name, || {
            search(scene, Way::Everything(options.threads), progress)
        });
        if let Some((property, steps)) = &found.broken {
            println!("    BROKEN: {property}\n{}", story(steps));
        }
        scenes.push((*name, about, budget, found));
    }
    println!("mutants");
    let mut mutants = Vec::new();
    for mutant in Mutant::ALL.into_iter().filter(|m| wanted(m.scene())) {
        let scene = scene(mutant.scene(), Size::Small, Some(mutant))?;
        let found = watched(&mutant.name(), || search(scene, Way::Shortest, progress));
        mutants.push((mutant, found));
    }
    let tables = format!("{}\n{}", table::scenes(&scenes), table::mutants(&mutants));
    println!("\n{tables}");
    if let Some(file) = &options.write {
        write(file, &tables)?;
    }
    let holds = scenes
        .iter()
        .all(|(.., found)| found.broken.is_none() && found.taken_over);
    let alive: Vec<String> = mutants
        .iter()
        .filter(|(_, found)| found.broken.is_none())
        .map(|(mutant, _)| mutant.name())
        .collect();
    println!(
        "the protocol {}; {} of {} mutants caught{}",
        if holds { "holds" } else { "is BROKEN" },
        mutants.len() - alive.len(),
        mutants.len(),
        if alive.is_empty() {
            String::new()
        } else {
            format!(", not caught: {}", alive.join(", "))
        },
    );
    Ok(holds && alive.is_empty())
}

fn one_mutant(name: &str) -> Result<bool> {
    let names = || Mutant::ALL.map(Mutant::name).join(", ");
    let mutant = Mutant::ALL
        .into_iter()
        .find(|mutant| mutant.name() == name)
        .with_context(|| format!("no mutant {name:?}; there are {}", names()))?;
    let scene = scene(mutant.scene(), Size::Small, Some(mutant))?;
    let found = watched(name, || search(scene, Way::Shortest, progress));
    match found.broken {
        Some((property, steps)) => {
            println!("{}: breaks {property:?}\n{}", mutant.what(), story(&steps));
            Ok(true)
        }
        None => {
            println!("{}: not caught", mutant.what());
            Ok(false)
        }
    }
}

fn watched(name: &str, search: impl FnOnce() -> Found) -> Found {
    let found = search();
    let result = match &found.broken {
        Some((property, steps)) => format!("breaks {property:?} in {} steps", steps.len()),
        None => "nothing broken".to_owned(),
    };
    println!(
        "    {name}: {} states, {:.1} s: {result}",
        found.states,
        found.took.as_secs_f32()
    );
    found
}

fn progress(states: usize) {
    println!("        {states} states …");
}

fn story(steps: &[vipd_model::fault::Step]) -> String {
    let lines = steps.iter().map(|step| format!("        {step:?}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn write(file: &std::path::Path, tables: &str) -> Result<()> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) else {
        bail!("{} lacks the lines {BEGIN:?} and {END:?}", file.display());
    };
    let text = format!(
        "{}\n\n{tables}\n{}",
        &text[..begin + BEGIN.len()],
        &text[end..]
    );
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
