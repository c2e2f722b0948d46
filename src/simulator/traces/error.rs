//! The errors of a trace.

use std::path::PathBuf;

use super::{MAX_ARRIVALS, shapes};

/// Why a trace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("{0:?} is neither a trace nor a file: traces are {names}, report-N with N from 1 to {MAX_ARRIVALS}, and paths \
             of CSV files", names = shapes::NAMES.join(", "))]
    Unknown(String),
    #[error("{file}: {source}")]
    Unreadable { file: PathBuf, source: csv::Error },
    #[error("{file}, line {line}: {problem}")]
    Line { file: PathBuf, line: u64, problem: String },
    #[error("{file}: {problem}")]
    File { file: PathBuf, problem: String },
}
