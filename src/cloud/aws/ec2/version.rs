//! Which version of the launch template and of the image a launch would use now.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_ec2::{Client, types::Instance as Ec2Instance};
use tokio::time::Instant;

use super::super::errors::classify;
use crate::cloud::aws::call_sites::CallSite as _;
use crate::{
    cloud::{CloudError, CloudResult},
    settings::Launching,
};

/// Tags with which EC2 marks an instance that was launched from a template.
const TEMPLATE_TAG: &str = "aws:ec2launchtemplate:id";
const VERSION_TAG: &str = "aws:ec2launchtemplate:version";
/// How long a version counts as current after it was read.
const FRESH: Duration = Duration::from_secs(30);

/// A version of a launch template, and the image that overrides the template's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Version {
    /// The template's id and the number of its version.
    template: Option<(String, String)>,
    image: Option<String>,
}

impl Version {
    /// Returns whether an instance was launched from another version of the same template, or from another image. One
    /// whose origin is not known is not.
    pub(super) fn is_outdated(&self, instance: &Ec2Instance) -> bool {
        let tag = |key: &str| instance.tags().iter().find(|t| t.key() == Some(key)).and_then(|t| t.value());
        let other_version = self.template.as_ref().is_some_and(|(id, current)| {
            tag(TEMPLATE_TAG) == Some(id) && tag(VERSION_TAG).is_some_and(|version| version != current)
        });
        let other_image = match (&self.image, instance.image_id()) {
            (Some(current), Some(image)) => image != current,
            _ => false,
        };
        other_version || other_image
    }
}

/// The version that a launch would use, read from EC2 now and then.
#[derive(Default)]
pub(super) struct CurrentVersion(Mutex<Option<(Version, Instant)>>);

impl CurrentVersion {
    /// Returns the version that a launch would use: as it was read at most [`FRESH`] ago or, if it cannot be read now, last.
    pub(super) async fn get(&self, client: &Client, launch: &Launching) -> Version {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((version, read)) = &known
            && read.elapsed() < FRESH
        {
            return version.clone();
        }
        let version = match read(client, launch).await {
            Ok(version) => version,
            Err(error) => {
                tracing::warn!(%error, "the launch template was not read: changes of it take effect later");
                known.map(|(version, _)| version).unwrap_or_default()
            }
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((version.clone(), Instant::now()));
        version
    }
}

async fn read(client: &Client, launch: &Launching) -> CloudResult<Version> {
    let mut version = Version { template: None, image: launch.image.clone() };
    let Some(template) = &launch.launch_template else { return Ok(version) };
    let call = client.describe_launch_templates();
    let call = if template.starts_with("lt-") {
        call.launch_template_ids(template)
    } else {
        call.launch_template_names(template)
    };
    let found =
        call.recorded().send().await.map_err(|e| classify("launch template", e))?.launch_templates.unwrap_or_default();
    let found = found.into_iter().next().and_then(|t| Some((t.launch_template_id?, t.default_version_number?)));
    let (id, number) = found.ok_or_else(|| CloudError::NotFound(format!("launch template {template}")))?;
    version.template = Some((id, number.to_string()));
    Ok(version)
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::Tag;

    use super::*;

    #[test]
    fn an_instance_of_another_version_or_image_is_outdated() {
        let instance = |template: &str, version: &str, image: &str| {
            let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
            let instance = Ec2Instance::builder().image_id(image);
            instance.tags(tag(TEMPLATE_TAG, template)).tags(tag(VERSION_TAG, version)).build()
        };
        let current = Version { template: Some(("lt-1".into(), "3".into())), image: None };
        assert!(!current.is_outdated(&instance("lt-1", "3", "ami-1")));
        assert!(current.is_outdated(&instance("lt-1", "2", "ami-1")));
        assert!(!current.is_outdated(&instance("lt-2", "2", "ami-1")), "of another template");
        assert!(!current.is_outdated(&Ec2Instance::builder().image_id("ami-1").build()), "of none");
        let image = Version { image: Some("ami-2".into()), ..current };
        assert!(image.is_outdated(&instance("lt-1", "3", "ami-1")));
        assert!(!image.is_outdated(&instance("lt-1", "3", "ami-2")));
        assert!(!Version::default().is_outdated(&instance("lt-1", "2", "ami-1")), "nothing could be read yet");
    }
}
