//! The errors of a trace.

use std::path::PathBuf;

use super::{MAX_ARRIVALS, shapes};

/// Why a trace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// Neither a trace nor a file has this name.
    #[error("{0:?} is neither a trace nor a file: traces are {names}, report-N with N from 1 to {MAX_ARRIVALS}, steady-R-S (R per second for S seconds), and \
             paths of CSV files", names = shapes::NAMES.join(", "))]
    Unknown(String),
    /// The file cannot be read.
    #[error("{file}: {source}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What went wrong.
        source: csv::Error,
    },
    /// A line is malformed.
    #[error("{file}, line {line}: {problem}")]
    Line {
        /// The file.
        file: PathBuf,
        /// Number of the line.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// The file is wrong as a whole.
    #[error("{file}: {problem}")]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}
