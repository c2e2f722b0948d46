//! Setting up a cluster on AWS and taking it down: the image of its machines (`bake`), the stack of everything else
//! (`up`), and the removal of both (`down`).
//!
//! An operator runs these commands with their own credentials; the services need none of these permissions.

mod account;
mod architecture;
pub(crate) mod bake;
pub(crate) mod builder;
pub(crate) mod down;
mod leftovers;
mod package;
mod stack;
pub(crate) mod up;
mod wait;

pub(crate) use account::Account;
