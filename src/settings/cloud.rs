//! `[cloud]`: where the cluster runs.

use super::{layers::SettingsError, reader::Reader};

/// Which cloud holds the queues, the objects and the instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloudKind {
    /// The embedded cloud of one machine.
    Local,
    /// SQS, S3 and EC2.
    Aws,
}

/// Settings of the cloud.
#[derive(Clone, Debug)]
pub struct Cloud {
    /// Which cloud.
    pub kind: CloudKind,
    /// Name of the cluster: tag and name prefix of everything that it creates.
    pub cluster: String,
}

impl Cloud {
    pub(super) fn read(r: &Reader<'_>) -> Result<Self, SettingsError> {
        Ok(Self {
            kind: r.choice("cloud.kind", &[("local", CloudKind::Local), ("aws", CloudKind::Aws)])?,
            cluster: r.name("cloud.cluster", 32)?,
        })
    }
}
