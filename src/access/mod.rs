//! Who may do what: tokens, their roles, and where they are kept.
//!
//! A token is 256 random bits, shown once. Only its SHA-256 is stored, in the state bucket, so every web node accepts it.

mod cache;
mod store;
mod token;

pub use cache::Tokens;
pub use store::TokenStore;
pub use token::{Record, Role, Token, TokenId};
