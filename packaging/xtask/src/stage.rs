//! Stages of a longer task: each says that it started, how it ended and how long it took.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Collects named stages, so that the end of a long run tells the whole story.
pub(crate) struct Stages {
    task: &'static str,
    started: Instant,
    done: Vec<(String, Duration, Option<String>)>,
}

impl Stages {
    /// Starts a task made of stages.
    pub(crate) fn new(task: &'static str) -> Self {
        Self {
            task,
            started: Instant::now(),
            done: Vec::new(),
        }
    }

    /// Runs one stage; a failure is recorded and shown, and the caller goes on with the next one.
    pub(crate) fn run<T>(&mut self, name: &str, stage: impl FnOnce() -> Result<T>) -> Option<T> {
        println!("==> {}: {name}", self.task);
        let began = Instant::now();
        let result = stage();
        let took = began.elapsed();
        let failure = result.as_ref().err().map(|error| format!("{error:#}"));
        if let Some(failure) = &failure {
            println!("error: {failure}");
        }
        self.done.push((name.to_owned(), took, failure));
        result.ok()
    }

    /// Prints one line per stage; fails if any stage failed, naming it.
    pub(crate) fn finish(self) -> Result<()> {
        println!(
            "\n{} took {:.1} s",
            self.task,
            self.started.elapsed().as_secs_f32()
        );
        for (name, took, failure) in &self.done {
            let mark = if failure.is_none() {
                "ok    "
            } else {
                "FAILED"
            };
            println!("  {mark} {:>7.1} s  {name}", took.as_secs_f32());
        }
        let failed: Vec<&str> = self
            .done
            .iter()
            .filter(|stage| stage.2.is_some())
            .map(|stage| stage.0.as_str())
            .collect();
        if !failed.is_empty() {
            bail!("{} failed: {}", self.task, failed.join(", "));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_runs_and_the_failed_ones_are_named() {
        let mut stages = Stages::new("verify");
        assert_eq!(stages.run("first", || Ok(1)), Some(1));
        assert_eq!(stages.run("second", || -> Result<()> { bail!("no") }), None);
        assert_eq!(stages.run("third", || Ok(())), Some(()));
        assert_eq!(
            stages.finish().unwrap_err().to_string(),
            "verify failed: second"
        );
    }
}
