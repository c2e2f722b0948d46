//! Names of the tags on the resources that Rollcall creates.

/// Tag on everything that a cluster owns: the cluster's name.
pub(super) const CLUSTER_TAG: &str = "rollcall:cluster";
/// Tag on an instance: the token of the launch that created it.
pub(super) const TOKEN_TAG: &str = "rollcall:token";
/// Tag on an instance: when its worker last became ready, in seconds since the Unix epoch.
pub const READY_TAG: &str = "rollcall:ready";
/// Tag on an instance: the time between the heartbeats that its worker sends, in milliseconds; 0 if it sends none. Those of
/// earlier releases have no such tag.
pub(super) const HEARTBEAT_TAG: &str = "rollcall:heartbeat";
