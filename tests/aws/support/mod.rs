//! Emulated accounts and clusters, and the proxies between them and the code under test.

pub mod account;
pub mod aws_cluster;
pub mod bill;
pub mod counting_proxy;
pub mod fleet_watch;
pub mod iam;
pub mod inventory;
pub mod jobs;
pub mod lossy_proxy;
pub mod outage;
pub mod wire;
