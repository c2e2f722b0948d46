//! Traces: when jobs arrive, and how long each takes on a thread. Made from a seed by name, or read from a file.

mod file;
mod shapes;

use std::path::{Path, PathBuf};

use super::{
    Time,
    random::{Purpose, Random},
};
use crate::settings::Simulate;

/// A job's arrival since the beginning of the trace, and its time on a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub at: Time,
    pub service: Time,
}

/// Arrivals in order of time.
#[derive(Clone, Debug)]
pub struct Trace {
    pub name: String,
    /// Until when arrivals could come.
    pub length: Time,
    pub arrivals: Vec<Arrival>,
}

/// Why there is no such trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("no trace and no file is called {0:?}: traces are {names}, report-N with N from 1 to {most}, and paths of \
             CSV files", names = shapes::NAMES.join(", "), most = file::MOST)]
    Unknown(String),
    #[error("{file}: {source}")]
    Unreadable { file: PathBuf, source: csv::Error },
    #[error("{file}, line {line}: {problem}")]
    Line { file: PathBuf, line: u64, problem: String },
    #[error("{file}: {problem}")]
    File { file: PathBuf, problem: String },
}

impl Trace {
    /// A trace by its name, or from a CSV file. Service times are drawn from `model` where the trace has none.
    ///
    /// # Errors
    /// Neither a name nor a file, or a file that holds something else than arrivals.
    pub fn named(name: &str, model: &Simulate, seed: u64) -> Result<Self, TraceError> {
        let mut arrivals = Random::new(seed, Purpose::Arrivals);
        if let Some((length, times)) = shapes::times(name, &mut arrivals) {
            let times = times.into_iter().map(|at| (at, None)).collect();
            return Ok(Self::new(name, length, times, model, seed));
        }
        let path = Path::new(name);
        if !path.exists() {
            return Err(TraceError::Unknown(name.to_owned()));
        }
        let times = file::read(path)?;
        let length = times.last().map_or(Time::ZERO, |(at, _)| *at);
        Ok(Self::new(name, length, times, model, seed))
    }

    fn new(name: &str, length: Time, times: Vec<(Time, Option<Time>)>, model: &Simulate, seed: u64) -> Self {
        let mut services = Random::new(seed, Purpose::Services);
        let arrivals = times.into_iter().map(|(at, service)| {
            let drawn = services.log_normal(model.service, model.service_sigma);
            Arrival { at, service: service.unwrap_or(drawn) }
        });
        Self { name: name.to_owned(), length, arrivals: arrivals.collect() }
    }
}
