//! An index of embeddings, in a file that all processes of a machine map into memory.
//!
//! Embeddings belong to owners (people), each with a label (the name). The rows are divided into cells by *k*-means, and
//! each row also has a code of one bit per dimension. A search looks at the codes in the cells nearest to the query,
//! compares the most promising rows exactly, and finally all rows of their owners. Memory holds the codes, 20 bytes a
//! row with 128 dimensions; the rows themselves stay in the file, where a search touches some hundred.
//!
//! The cells are an inverted file (Sivic and Zisserman 2003; Jégou et al. 2011), the codes are RaBitQ's (Gao and Long
//! 2024). `docs/adr/0024-an-index-of-cells-and-bits.md` has the measurements.

mod build;
mod cells;
mod codes;
mod file;
mod rotation;
mod search;

pub use build::Builder;
pub use file::Index;
pub use search::Match;

/// Why an index cannot be built or opened.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file is not a complete index of this version, or what is to be indexed is invalid.
    #[error("{0}")]
    Invalid(String),
}

#[cfg(test)]
mod tests;
