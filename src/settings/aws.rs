//! `[aws]`: what only AWS needs.

use std::{path::PathBuf, time::Duration};

use super::{
    layers::SettingsError,
    reader::{HOUR, MILLISECOND, MINUTE, Reader, SECOND},
};

/// `[aws]`. AWS or the launch template decides what is `None` or empty.
#[derive(Clone, Debug)]
pub struct Aws {
    /// Region of every service.
    pub region: Option<String>,
    /// Batching window: longest time that an entry of a queue call waits for others.
    pub linger: Duration,
    /// Whether the bucket's name is in the path of a request instead of the host name.
    pub s3_path_style: bool,
    /// Id, ARN or alias of the KMS key that encrypts objects.
    pub kms_key: Option<String>,
    /// Time between the heartbeats of a worker.
    pub heartbeat: Duration,
    /// Logical id of this node in the cluster's stack, which waits until the node is ready.
    pub stack_resource: Option<String>,
    /// Number of health checks from one proxy that must have succeeded before the node counts as ready for its stack; zero
    /// if no load balancer is in front of it.
    pub health_checks: usize,
    /// Whether a controller writes metrics to standard output.
    pub metrics: bool,
    /// File of the script that an instance runs at its first boot.
    pub user_data: Option<PathBuf>,
    /// How instances are launched.
    pub launch: Launching,
}

/// How instances are launched.
#[derive(Clone, Debug)]
pub struct Launching {
    /// Id (`lt-…`) or name of the launch template. The other settings override it.
    pub launch_template: Option<String>,
    /// Number of the launch template's version; `None` for its default version, which may change.
    pub template_version: Option<u64>,
    /// Id of the image (`ami-…`).
    pub image: Option<String>,
    /// Instance types in order of preference.
    pub instance_types: Vec<String>,
    /// Subnets in order of preference, each for its availability zone.
    pub subnets: Vec<String>,
    /// Ids of the security groups.
    pub security_groups: Vec<String>,
    /// Whether instances get a public address, if their subnet assigns one.
    pub public_address: bool,
    /// Name of the profile that gives instances their permissions.
    pub instance_profile: Option<String>,
    /// Whether spot instances are tried first.
    pub spot: bool,
    /// How long a type is avoided in a subnet where it had no capacity.
    pub capacity_memory: Duration,
}

impl Launching {
    /// Returns what decides whether an instance boots: the launch template with its version, the image, and the types.
    pub fn origin(&self) -> String {
        let Self { launch_template, image, instance_types, .. } = self;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let (template, version, types) = (text(launch_template), self.version_text(), instance_types.join(","));
        format!("{template} {version} {} {types}", text(image))
    }

    /// Returns the version of the launch template as EC2's calls take it.
    pub fn version_text(&self) -> String {
        self.template_version.map_or_else(|| "$Default".to_owned(), |number| number.to_string())
    }
}

impl Default for Launching {
    fn default() -> Self {
        Self {
            launch_template: None,
            template_version: None,
            image: None,
            instance_types: Vec::new(),
            subnets: Vec::new(),
            security_groups: Vec::new(),
            public_address: true,
            instance_profile: None,
            spot: false,
            capacity_memory: Duration::ZERO,
        }
    }
}

impl Aws {
    pub(super) fn read(r: &Reader<'_>) -> Result<Self, SettingsError> {
        Ok(Self {
            region: r.optional("aws.region")?,
            linger: r.duration("aws.linger", Duration::ZERO..=200 * MILLISECOND)?,
            s3_path_style: r.flag("aws.s3_path_style")?,
            kms_key: r.optional("aws.kms_key")?,
            heartbeat: r.duration("aws.heartbeat", SECOND..=10 * MINUTE)?,
            stack_resource: r.optional("aws.stack_resource")?,
            health_checks: r.count("aws.health_checks", 0..=100)?,
            metrics: r.flag("aws.metrics")?,
            user_data: r.optional("aws.user_data")?.map(PathBuf::from),
            launch: Launching {
                launch_template: r.optional("aws.launch_template")?,
                template_version: template_version(r)?,
                image: r.optional("aws.image")?,
                instance_types: r.texts("aws.instance_types")?,
                subnets: r.texts("aws.subnets")?,
                security_groups: r.texts("aws.security_groups")?,
                public_address: r.flag("aws.public_address")?,
                instance_profile: r.optional("aws.instance_profile")?,
                spot: r.flag("aws.spot")?,
                capacity_memory: r.duration("aws.capacity_memory", Duration::ZERO..=24 * HOUR)?,
            },
        })
    }
}

fn template_version(r: &Reader<'_>) -> Result<Option<u64>, SettingsError> {
    const KEY: &str = "aws.launch_template_version";
    let number = r.optional(KEY)?.map(|text| text.parse().ok().filter(|number| *number > 0));
    number.map(|number| number.ok_or_else(|| r.invalid(KEY, "a number from 1, or \"\""))).transpose()
}
