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
    /// Name, or path of its file.
    pub name: String,
    /// The time up to which arrivals can come.
    pub length: Duration,
    /// The arrivals.
    pub arrivals: Vec<Arrival>,
}

impl Trace {
    /// The names of the traces that are drawn at random.
    pub const NAMES: [&str; 10] = shapes::NAMES;

    /// Returns a trace by its name, or from a CSV file. Service times that are missing from the trace are drawn from
    /// `service`.
    ///
    /// # Errors
    /// `name` is neither a trace nor a file, or the file cannot be read or is malformed.
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

    /// Returns a trace of arrivals, which are in order of time. Service times that are missing are drawn from `service`.
    pub fn new(
        name: &str,
        length: Duration,
        times: Vec<(Time, Option<Duration>)>,
        service: Service,
        seed: u64,
    ) -> Self {
        let mut random = Random::new(seed, Purpose::Services);
        let arrivals = times.into_iter().map(|(at, given)| {
            let drawn = random.log_normal(service.median, service.sigma);
            Arrival { at, service: given.unwrap_or(drawn) }
        });
        Self { name: name.to_owned(), length, arrivals: arrivals.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::MAX_ARRIVALS, *};

    const SERVICE: Service = Service { median: Duration::from_secs(2), sigma: 0.3 };

    fn of_file(text: &str) -> Result<Trace, TraceError> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("trace.csv");
        std::fs::write(&file, text).expect("writable");
        Trace::named(file.to_str().expect("a path of text"), SERVICE, 1)
    }

    #[test]
    fn a_trace_file_may_have_a_header_comments_and_unordered_arrivals() {
        let s = Time::from_secs;
        let trace = of_file("time, service\n90,2.5\n\n# a comment\n91\n0 , 7\n").expect("a trace");
        let [first, second, third] = &trace.arrivals[..] else { panic!("{trace:?}") };
        assert_eq!((*first, second.at, third.at), (Arrival { at: s(0), service: s(7) }, s(90), s(91)));
        assert_eq!((second.service, trace.length), (Duration::from_millis(2500), s(91)));
        assert!(third.service != s(7) && third.service > Duration::from_millis(500), "drawn: {third:?}");
    }

    #[test]
    fn a_trace_file_beyond_the_limits_is_refused() {
        let most = of_file(&"1\n".repeat(MAX_ARRIVALS)).expect("as many as are allowed");
        assert_eq!(most.arrivals.len(), MAX_ARRIVALS);
        for (text, problem) in [
            ("1\n".repeat(MAX_ARRIVALS + 1), "more than 1000000 arrivals"),
            ("1\n31622401\n".to_owned(), "line 2: arrival is"),
            ("1,86401\n".to_owned(), "line 1: service time is"),
            ("1,soon\n".to_owned(), "line 1: service time is"),
            ("time\n".to_owned(), "no arrivals"),
        ] {
            let error = of_file(&text).expect_err("not a trace").to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn service_times_are_log_normal_and_depend_on_the_seed_alone() {
        let services = |name, seed| {
            let trace = Trace::named(name, SERVICE, seed).expect("a trace");
            trace.arrivals.iter().map(|a| a.service.as_secs_f64()).collect::<Vec<_>>()
        };
        let mut all = services("report-2000", 1);
        assert_eq!(all[..500], services("poisson", 1)[..500]);
        assert!(all[0] != services("report-1", 2)[0]);
        all.sort_by(f64::total_cmp);
        for (rank, sigmas) in [(320, -1.0_f64), (1000, 0.0), (1680, 1.0)] {
            let expected = 2.0 * (0.3 * sigmas).exp();
            assert!((all[rank] / expected - 1.0).abs() < 0.04, "{} s, expected {expected} s", all[rank]);
        }
    }
}
