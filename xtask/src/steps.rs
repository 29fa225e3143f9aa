//! Steps that a person watches: each has a name and a time, and the times are told at the end.

use std::time::{Duration, Instant};

use anyhow::Result;

/// The steps so far.
#[derive(Debug, Default)]
pub struct Steps(Vec<(String, Duration)>);

impl Steps {
    /// Does a step and takes its time, whether it succeeds or not.
    pub fn run<T>(&mut self, name: impl Into<String>, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let result = step();
        self.0.push((name.into(), start.elapsed()));
        result
    }

    /// The time of the last step.
    pub fn last(&self) -> Duration {
        self.0.last().map_or(Duration::ZERO, |(_, time)| *time)
    }

    /// Prints the steps with their times, and the sum.
    pub fn print(&self) {
        let total: Duration = self.0.iter().map(|(_, time)| *time).sum();
        let width = self.0.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max("total".len());
        println!("{:width$}  {:>8}", "step", "seconds");
        for (name, time) in &self.0 {
            println!("{name:width$}  {:>8.1}", time.as_secs_f64());
        }
        println!("{:width$}  {:>8.1}", "total", total.as_secs_f64());
    }
}
