//! Runs independent jobs on all cores.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;

/// Runs `work` on every job, in their order as cores become free: put the longest first.
/// After a failure no further job is started; the first failure is returned.
pub fn run_all<Job: Sync>(jobs: &[Job], work: impl Fn(&Job) -> Result<()> + Sync) -> Result<()> {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    let next = AtomicUsize::new(0);
    let outcome = Mutex::new(Ok(()));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = work(job) {
                        next.store(jobs.len(), Ordering::Relaxed);
                        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                        if outcome.is_ok() {
                            *outcome = Err(error);
                        }
                    }
                }
            });
        }
    });
    outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_every_job_once() {
        let jobs: Vec<usize> = (0..100).collect();
        let done: Vec<_> = jobs.iter().map(|_| AtomicUsize::new(0)).collect();
        let result = run_all(&jobs, |job| {
            done[*job].fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        assert!(result.is_ok());
        assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn returns_a_failure() {
        let result = run_all(&[1, 2, 3], |job| {
            anyhow::ensure!(*job != 2, "job {job} failed");
            Ok(())
        });
        assert!(result.is_err_and(|error| error.to_string() == "job 2 failed"));
    }
}
