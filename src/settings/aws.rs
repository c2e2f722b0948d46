//! Settings for AWS alone.

use std::{path::PathBuf, time::Duration};

use super::{
    layers::{Layers, SettingsError},
    units::HOUR,
};

/// What is left out (`None`, empty) is left to AWS or to the launch template.
#[derive(Clone, Debug)]
pub struct Aws {
    pub region: Option<String>,
    pub linger: Duration,
    pub s3_path_style: bool,
    pub kms_key: Option<String>,
    /// File with what an instance runs at its first boot.
    pub user_data: Option<PathBuf>,
    pub launch: Launching,
}

/// How instances are launched.
#[derive(Clone, Debug, Default)]
pub struct Launching {
    /// Id (`lt-…`) or name. What else is given here goes over it.
    pub launch_template: Option<String>,
    /// Id of the image (`ami-…`).
    pub image: Option<String>,
    /// In order of preference.
    pub instance_types: Vec<String>,
    /// In order of preference: each stands for its zone.
    pub subnets: Vec<String>,
    pub security_groups: Vec<String>,
    /// Name of the profile that gives instances their rights.
    pub instance_profile: Option<String>,
    /// Ask for spot instances first.
    pub spot: bool,
    /// How long a type and subnet that had no machine is left alone.
    pub capacity_memory: Duration,
}

impl Aws {
    pub(super) fn from_layers(l: &Layers) -> Result<Self, SettingsError> {
        Ok(Self {
            region: l.optional("aws.region")?,
            linger: l.duration("aws.linger", Duration::ZERO, Duration::from_millis(200))?,
            s3_path_style: l.flag("aws.s3_path_style")?,
            kms_key: l.optional("aws.kms_key")?,
            user_data: l.optional("aws.user_data")?.map(PathBuf::from),
            launch: Launching {
                launch_template: l.optional("aws.launch_template")?,
                image: l.optional("aws.image")?,
                instance_types: l.texts("aws.instance_types")?,
                subnets: l.texts("aws.subnets")?,
                security_groups: l.texts("aws.security_groups")?,
                instance_profile: l.optional("aws.instance_profile")?,
                spot: l.flag("aws.spot")?,
                capacity_memory: l.duration("aws.capacity_memory", Duration::ZERO, 24 * HOUR)?,
            },
        })
    }
}
