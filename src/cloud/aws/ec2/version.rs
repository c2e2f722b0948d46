//! Which version of the launch template and of the image a launch would use now.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_ec2::{Client, types::Instance as Ec2Instance};
use tokio::time::Instant;

use super::{super::errors::classify, request::Ec2Options};
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

/// The version of a launch template that launches use.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Template {
    id: String,
    number: u64,
    /// Whether the settings state the number. Then a higher one was made later; the default version may be any.
    is_stated: bool,
}

/// A version of a launch template, and the image that overrides the template's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Version {
    template: Option<Template>,
    image: Option<String>,
    /// Whether instances of later versions are replaced too: see [`Ec2Options::replace_later_after`].
    replaces_later: bool,
}

impl Version {
    /// Returns whether an instance was launched from another version of the same template, or from another image. One
    /// whose origin is not known is not.
    ///
    /// An instance of a later version than the settings state is outdated only if later ones are replaced: before, a controller of
    /// that version may be about to act again. Settings of that version may name another image, so the image decides only between
    /// instances of the same version.
    pub(super) fn is_outdated(&self, instance: &Ec2Instance) -> bool {
        let tag = |key: &str| instance.tags().iter().find(|t| t.key() == Some(key)).and_then(|t| t.value());
        let current = self.template.as_ref().filter(|current| tag(TEMPLATE_TAG) == Some(&current.id));
        let number = tag(VERSION_TAG).and_then(|number| number.parse::<u64>().ok());
        match current.zip(number) {
            Some((current, number)) if number < current.number => true,
            Some((current, number)) if number > current.number => self.replaces_later || !current.is_stated,
            _ => self.image.as_deref().zip(instance.image_id()).is_some_and(|(current, image)| image != current),
        }
    }
}

/// The version that a launch would use, read from EC2 now and then.
#[derive(Default)]
pub(super) struct CurrentVersion {
    read: Mutex<Option<(Version, Instant)>>,
    /// Since when the controller of this process acts.
    leading_since: Mutex<Option<Instant>>,
}

impl CurrentVersion {
    /// Notes that the controller of this process begins to act.
    pub(super) fn begin_to_lead(&self) {
        *self.leading_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Returns the version that a launch would use: as it was read at most [`FRESH`] ago or, if it cannot be read now, last.
    pub(super) async fn get(&self, client: &Client, options: &Ec2Options) -> Version {
        let since = *self.leading_since.lock().unwrap_or_else(PoisonError::into_inner);
        let replaces_later = since.is_some_and(|since| since.elapsed() >= options.replace_later_after);
        Version { replaces_later, ..self.recent(client, &options.launch).await }
    }

    async fn recent(&self, client: &Client, launch: &Launching) -> Version {
        let known = self.read.lock().unwrap_or_else(PoisonError::into_inner).clone();
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
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some((version.clone(), Instant::now()));
        version
    }
}

async fn read(client: &Client, launch: &Launching) -> CloudResult<Version> {
    let mut version = Version { image: launch.image.clone(), ..Version::default() };
    let Some(template) = &launch.launch_template else { return Ok(version) };
    let is_id = template.starts_with("lt-");
    if let Some(number) = launch.template_version.filter(|_| is_id) {
        version.template = Some(Template { id: template.clone(), number, is_stated: true });
        return Ok(version);
    }
    let call = client.describe_launch_templates();
    let call = if is_id { call.launch_template_ids(template) } else { call.launch_template_names(template) };
    let found =
        call.recorded().send().await.map_err(|e| classify("launch template", e))?.launch_templates.unwrap_or_default();
    let found = found.into_iter().next().and_then(|t| Some((t.launch_template_id?, t.default_version_number?)));
    let (id, default) = found.ok_or_else(|| CloudError::NotFound(format!("launch template {template}")))?;
    let number = launch.template_version.unwrap_or(default.unsigned_abs());
    version.template = Some(Template { id, number, is_stated: launch.template_version.is_some() });
    Ok(version)
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::Tag;

    use super::*;

    fn instance(template: &str, version: &str, image: &str) -> Ec2Instance {
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
        let instance = Ec2Instance::builder().image_id(image);
        instance.tags(tag(TEMPLATE_TAG, template)).tags(tag(VERSION_TAG, version)).build()
    }

    fn version(is_stated: bool, replaces_later: bool) -> Version {
        Version { template: Some(Template { id: "lt-1".into(), number: 3, is_stated }), image: None, replaces_later }
    }

    #[test]
    fn an_instance_of_another_version_or_image_is_outdated() {
        for (replaces_later, is_stated) in [(false, false), (false, true), (true, false), (true, true)] {
            let current = version(is_stated, replaces_later);
            assert!(!current.is_outdated(&instance("lt-1", "3", "ami-1")));
            assert!(current.is_outdated(&instance("lt-1", "2", "ami-1")));
            assert!(!current.is_outdated(&instance("lt-2", "2", "ami-1")), "of another template");
            assert!(!current.is_outdated(&Ec2Instance::builder().image_id("ami-1").build()), "of none");
            let image = Version { image: Some("ami-2".into()), ..current };
            assert!(image.is_outdated(&instance("lt-1", "3", "ami-1")));
            assert!(!image.is_outdated(&instance("lt-1", "3", "ami-2")));
            let nothing = Version::default();
            assert!(!nothing.is_outdated(&instance("lt-1", "2", "ami-1")), "nothing could be read yet");
        }
    }

    #[test]
    fn an_instance_of_a_later_version_may_have_another_image() {
        let of_image = |replaces_later| Version { image: Some("ami-1".into()), ..version(true, replaces_later) };
        assert!(!of_image(false).is_outdated(&instance("lt-1", "4", "ami-2")));
        assert!(of_image(true).is_outdated(&instance("lt-1", "4", "ami-2")));
        assert!(of_image(false).is_outdated(&instance("lt-1", "2", "ami-1")), "the image is the same");
        for other in [instance("lt-1", "3", "ami-2"), instance("lt-2", "4", "ami-2"), instance("lt-1", "", "ami-2")] {
            assert!(of_image(false).is_outdated(&other), "which version is later is not known: {other:?}");
        }
    }

    #[test]
    fn an_instance_of_a_later_version_than_stated_is_outdated_when_no_controller_of_that_version_followed() {
        let later = instance("lt-1", "10", "ami-1");
        assert!(!version(true, false).is_outdated(&later));
        assert!(version(true, true).is_outdated(&later));
        assert!(version(false, false).is_outdated(&later), "a default version may be set back by hand");
    }
}
