//! Instances on EC2.

mod changes;
mod compute;
mod cores;
mod division;
mod instance;
mod names;
mod pools;
mod request;
mod version;

pub(super) use changes::{Change, change_each};
pub use compute::Ec2Compute;
pub use request::Ec2Options;

/// Instances per page of a list. Lists without pages may fail in accounts with many instances.
pub(super) const PAGE: i32 = 500;
