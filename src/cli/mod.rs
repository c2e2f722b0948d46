//! One file per command of the command line.

pub mod enroll;
pub mod evaluate;
pub mod gallery;
mod photos;
pub mod recognize;
