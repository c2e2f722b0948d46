//! A trace, by name or from a file.

use std::{path::Path, time::Duration};

use super::{
    super::{
        Service, Time,
        random::{Purpose, Random},
    },
    arrival::Arrival,
    error::TraceError,
    file, shapes,
};

/// Arrivals in order of time.
#[derive(Clone, Debug)]
pub struct Trace {
    pub name: String,
    /// The time up to which arrivals can come.
    pub length: Duration,
    pub arrivals: Vec<Arrival>,
}

impl Trace {
    /// Returns a trace by its name, or from a CSV file. Service times that the trace does not give are drawn from
    /// `service`.
    ///
    /// # Errors
    /// `name` is neither a name nor a file, or the file cannot be read or contains something other than arrivals.
    pub fn named(name: &str, service: Service, seed: u64) -> Result<Self, TraceError> {
        let mut arrivals = Random::new(seed, Purpose::Arrivals);
        if let Some((length, times)) = shapes::times(name, &mut arrivals) {
            let times = times.into_iter().map(|at| (at, None)).collect();
            return Ok(Self::new(name, length, times, service, seed));
        }
        let path = Path::new(name);
        if !path.exists() {
            return Err(TraceError::Unknown(name.to_owned()));
        }
        let times = file::read(path)?;
        let length = times.last().map_or(Time::ZERO, |(at, _)| *at);
        Ok(Self::new(name, length, times, service, seed))
    }

    fn new(name: &str, length: Duration, times: Vec<(Time, Option<Duration>)>, service: Service, seed: u64) -> Self {
        let mut random = Random::new(seed, Purpose::Services);
        let arrivals = times.into_iter().map(|(at, given)| {
            let drawn = random.log_normal(service.median, service.sigma);
            Arrival { at, service: given.unwrap_or(drawn) }
        });
        Self { name: name.to_owned(), length, arrivals: arrivals.collect() }
    }
}
