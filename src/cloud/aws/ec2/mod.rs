//! Instances on EC2.

mod compute;
mod cores;
mod division;
mod instance;
mod names;
mod pools;
mod request;
mod version;

pub use compute::Ec2Compute;
pub use request::Ec2Options;
