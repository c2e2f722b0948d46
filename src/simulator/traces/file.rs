//! Arrivals from a CSV file: seconds since the beginning, and if wanted seconds on a thread. A first line of other text
//! is a header; lines need no order.

use std::path::Path;

use super::{super::Time, TraceError};

/// Most arrivals of one trace.
pub const MOST: usize = 1_000_000;
/// Longest trace, and longest service: seconds.
const LONGEST: f64 = 366.0 * 86_400.0;
const LONGEST_SERVICE: f64 = 86_400.0;

/// Arrivals in order of time.
pub fn read(path: &Path) -> Result<Vec<(Time, Option<Time>)>, TraceError> {
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
        let number = |text: &str, what: &str, most: f64| {
            let value = text.parse::<f64>().ok().filter(|v| (0.0..=most).contains(v));
            value.map(Time::from_secs_f64).ok_or_else(|| TraceError::Line {
                file: path.to_owned(),
                line,
                problem: format!("{what} is {text:?}: must be seconds from 0 to {most}"),
            })
        };
        let service = record.get(1).filter(|text| !text.is_empty());
        let service = service.map(|text| number(text, "service time", LONGEST_SERVICE)).transpose()?;
        arrivals.push((number(first, "arrival", LONGEST)?, service));
        if arrivals.len() > MOST {
            let problem = format!("more than {MOST} arrivals: cut it into several traces");
            return Err(TraceError::File { file: path.to_owned(), problem });
        }
    }
    if arrivals.is_empty() {
        let problem = "no arrivals: a line each, seconds and if wanted service seconds, such as 12.5,0.9".to_owned();
        return Err(TraceError::File { file: path.to_owned(), problem });
    }
    arrivals.sort_by_key(|(at, _)| *at);
    Ok(arrivals)
}
