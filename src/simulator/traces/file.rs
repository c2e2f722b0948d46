//! Arrivals from a CSV file: seconds since the start of the trace, and optionally seconds on a thread.
//!
//! A first line that does not begin with a number is a header. Lines that begin with `#` are comments. The lines may be
//! in any order.

use std::{path::Path, time::Duration};

use super::{super::Time, MAX_ARRIVALS, TraceError};

/// Maximum length of a trace, in seconds.
const MAX_LENGTH_S: f64 = 366.0 * 86_400.0;
/// Maximum service time, in seconds.
const MAX_SERVICE_S: f64 = 86_400.0;

/// Reads the arrivals, in order of time.
///
/// # Errors
/// The file cannot be read, has no arrivals or too many, or a line does not consist of seconds within the limits.
pub fn read(path: &Path) -> Result<Vec<(Time, Option<Duration>)>, TraceError> {
    let unreadable = |source| TraceError::Unreadable { file: path.to_owned(), source };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .from_path(path)
        .map_err(unreadable)?;
    let mut arrivals = Vec::new();
    for (index, record) in reader.records().enumerate() {
        let record = record.map_err(unreadable)?;
        let line = record.position().map_or(0, csv::Position::line);
        let first = record.get(0).unwrap_or("");
        if index == 0 && first.parse::<f64>().is_err() {
            continue;
        }
        let number = |text: &str, name: &str, max: f64| {
            let value = text.parse::<f64>().ok().filter(|v| (0.0..=max).contains(v));
            value.map(Duration::from_secs_f64).ok_or_else(|| TraceError::Line {
                file: path.to_owned(),
                line,
                problem: format!("{name} is {text:?}: must be seconds from 0 to {max}"),
            })
        };
        let service = record.get(1).filter(|text| !text.is_empty());
        let service = service.map(|text| number(text, "service time", MAX_SERVICE_S)).transpose()?;
        arrivals.push((number(first, "arrival", MAX_LENGTH_S)?, service));
        if arrivals.len() > MAX_ARRIVALS {
            let problem = format!("more than {MAX_ARRIVALS} arrivals: split it into several traces");
            return Err(TraceError::File { file: path.to_owned(), problem });
        }
    }
    if arrivals.is_empty() {
        let problem = "no arrivals: each line must have seconds and optionally service seconds, such as 12.5,0.9";
        return Err(TraceError::File { file: path.to_owned(), problem: problem.to_owned() });
    }
    arrivals.sort_by_key(|(at, _)| *at);
    Ok(arrivals)
}
