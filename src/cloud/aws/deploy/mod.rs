//! Setting up a cluster on AWS and taking it down: the image of its machines (`bake`), the stack of everything else
//! (`up`), and the removal of both (`down`). What `verify` reads and tries is here too; it judges in the command line.
//!
//! An operator runs these commands with their own credentials; the services need none of these permissions.

mod account;
mod architecture;
pub(crate) mod attempts;
pub(crate) mod bake;
pub(crate) mod builder;
mod disk_keys;
pub(crate) mod down;
mod endpoints;
pub(crate) mod facts;
#[cfg(test)]
mod fake_api;
pub(crate) mod image_format;
mod instances;
mod leftovers;
mod log_group;
mod network;
mod package;
pub(crate) mod probe;
mod stack;
pub(crate) mod status;
pub(crate) mod up;
mod wait;
pub(crate) mod web_nodes;

pub(crate) use account::Account;
