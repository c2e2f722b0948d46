//! A probe: an instance with a role of the stack that makes the calls of [`attempts`](super::attempts), uploads what came of
//! them, and shuts down, which terminates it.

use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_ec2::types::{
    HttpTokensState, IamInstanceProfileSpecification, InstanceMetadataOptionsRequest,
    InstanceNetworkInterfaceSpecification, InstanceStateName, InstanceType, ResourceType, ShutdownBehavior,
    TagSpecification,
};
use aws_sdk_s3::presigning::PresigningConfig;
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    super::errors::{classify, code},
    account::{Account, tag},
    architecture,
    attempts::{Attempt, Attempted},
    builder,
    facts::InstanceFacts,
    instances, wait,
};
use crate::cloud::{CloudError, CloudResult, aws::call_sites::CallSite as _};

/// Tag on a probe: the cluster's name. It is not the cluster's tag, because a controller regards every instance with that as
/// a worker.
const PROBE_TAG: &str = "rollcall:verify";
/// What the keys of reports begin with.
pub(crate) const REPORTS: &str = "verify/";
const SCRIPT: &str = include_str!("../../../../deploy/probe.sh");
/// The line of the workers' user data after which a worker starts; what is before it writes the cluster's settings.
const START: &str = "systemctl enable --now rollcall-";
/// A machine that is still there after this time has failed: it shuts down.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// What to launch.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    /// Identifies the probe among all of the cluster.
    pub(crate) name: String,
    /// The bucket that its report is uploaded to.
    pub(crate) bucket: String,
    pub(crate) image: String,
    pub(crate) instance_type: String,
    /// Name of the instance profile.
    pub(crate) profile: String,
    pub(crate) subnet: String,
    pub(crate) group: String,
    /// The user data of workers.
    pub(crate) worker_script: String,
    pub(crate) attempts: Vec<Attempt>,
}

impl Probe {
    /// Returns the key of the report.
    pub(crate) fn key(&self) -> String {
        format!("{REPORTS}{}", self.name)
    }

    /// Returns the script of the machine's first boot, which uploads its report to `report`.
    fn user_data(&self, report: &str) -> anyhow::Result<String> {
        let (settings, _) = self.worker_script.split_once(START).with_context(|| {
            format!("the user data of the workers' launch template does not start them by `{START}`")
        })?;
        let settings = settings.strip_prefix("#!/bin/sh\n").unwrap_or(settings);
        let attempts = serde_json::to_string(&self.attempts)?;
        let minutes = LIFETIME.as_secs() / 60;
        // A presigned URL is percent-encoded, and the names in the attempts are those of AWS: neither contains a quote.
        Ok(format!("#!/bin/sh\nminutes={minutes}\nattempts='{attempts}'\nreport='{report}'\n{settings}{SCRIPT}"))
    }

    /// Launches the machine and returns its id.
    ///
    /// # Errors
    /// It was not launched.
    pub(crate) async fn launch(&self, account: &Account) -> anyhow::Result<String> {
        let expiry = PresigningConfig::expires_in(LIFETIME + Duration::from_secs(60))?;
        let report = account.s3.put_object().bucket(&self.bucket).key(self.key()).presigned(expiry).await;
        let report = report.map_err(|e| classify(&self.key(), e))?.uri().to_owned();
        let user_data = self.user_data(&report)?;
        self.run_instance(account, user_data).await.context("the probe was not launched")
    }

    /// Waits for the report of the machine `id`, and returns what came of each attempt, in order.
    ///
    /// # Errors
    /// It has not reported within `timeout`, or its report is not one.
    pub(crate) async fn report(
        &self,
        account: &Account,
        id: &str,
        timeout: Duration,
    ) -> anyhow::Result<Vec<Attempted>> {
        let key = self.key();
        let reported = wait::until(timeout, async || {
            let state = builder::state(account, id).await?;
            let ended = !matches!(state, None | Some(InstanceStateName::Pending | InstanceStateName::Running));
            // Read after the state, because a machine that has shut down has reported.
            let text = read(account, &self.bucket, &key).await?;
            Ok(if ended { Some(text) } else { text.map(Some) })
        });
        let text = match reported.await? {
            Some(Some(text)) => text,
            ended => {
                let how = if ended.is_some() { "has ended without a report" } else { "has not reported in time" };
                anyhow::bail!("the probe {id} {how}. {}", builder::console(account, id).await);
            }
        };
        let all: Option<Vec<Attempted>> = text.lines().next().and_then(|line| serde_json::from_str(line).ok());
        let all = all.filter(|all| all.len() == self.attempts.len());
        all.with_context(|| format!("the report of the probe {id} is none: {}", text.trim()))
    }

    async fn run_instance(&self, account: &Account, user_data: String) -> anyhow::Result<String> {
        let tags = |kind| {
            let tags = TagSpecification::builder().resource_type(kind).tags(tag(PROBE_TAG, &account.cluster));
            tags.tags(tag("Name", &format!("{}-verify-{}", account.cluster, self.name))).build()
        };
        let network = InstanceNetworkInterfaceSpecification::builder().device_index(0).groups(&self.group);
        let network = network.associate_public_ip_address(true).subnet_id(&self.subnet).build();
        let output = account.ec2.run_instances().client_token(format!("verify-{}", self.name));
        let output = output
            .min_count(1)
            .max_count(1)
            .image_id(&self.image)
            .instance_type(InstanceType::from(self.instance_type.as_str()))
            .network_interfaces(network)
            .iam_instance_profile(IamInstanceProfileSpecification::builder().name(&self.profile).build())
            .user_data(BASE64_STANDARD.encode(user_data))
            .instance_initiated_shutdown_behavior(ShutdownBehavior::Terminate)
            .metadata_options(InstanceMetadataOptionsRequest::builder().http_tokens(HttpTokensState::Required).build())
            .tag_specifications(tags(ResourceType::Instance))
            .tag_specifications(tags(ResourceType::Volume))
            .recorded()
            .send()
            .await
            .map_err(|e| classify("launch", e))?;
        let id = output.instances.unwrap_or_default().into_iter().find_map(|instance| instance.instance_id);
        id.context("no instance in the response")
    }
}

async fn read(account: &Account, bucket: &str, key: &str) -> CloudResult<Option<String>> {
    match account.s3.get_object().bucket(bucket).key(key).recorded().send().await {
        Ok(output) => {
            let body = output.body.collect().await.map_err(|e| CloudError::Unavailable(format!("{key}: {e}")))?;
            Ok(Some(String::from_utf8_lossy(&body.into_bytes()).into_owned()))
        }
        Err(error) if code(&error) == "NoSuchKey" => Ok(None),
        Err(error) => Err(classify(key, error)),
    }
}

impl Account {
    /// Returns a cheap type that can run an image.
    pub(crate) async fn small_type(&self, image: &str) -> anyhow::Result<&'static str> {
        let architecture = architecture::of_image(self, image).await?;
        Ok(if architecture == "arm64" { "t4g.small" } else { "t3.small" })
    }

    /// Returns the cluster's probes that are not terminated.
    pub(crate) async fn probes(&self) -> CloudResult<Vec<InstanceFacts>> {
        self.instance_facts(PROBE_TAG).await
    }

    /// Terminates instances.
    pub(crate) async fn terminate(&self, ids: &[String]) -> CloudResult<()> {
        instances::terminate(self, ids).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(worker_script: &str) -> Probe {
        Probe {
            name: "n-worker".into(),
            bucket: "state".into(),
            image: "ami-1".into(),
            instance_type: "t3.small".into(),
            profile: "p".into(),
            subnet: "subnet-1".into(),
            group: "sg-1".into(),
            worker_script: worker_script.into(),
            attempts: vec![Attempt::List { bucket: "b".into() }],
        }
    }

    #[test]
    fn a_probe_gets_the_settings_of_a_worker_and_starts_none() {
        let script = "#!/bin/sh\ncat > /etc/rollcall/cluster.env <<END\nA=1\nEND\nsystemctl enable --now rollcall-logs\nsystemctl enable --now rollcall-worker\n";
        let text = probe(script).user_data("https://report").expect("a script");
        assert!(text.starts_with("#!/bin/sh\nminutes=15\nattempts='[{\"list\":{\"bucket\":\"b\"}}]'\n"), "{text}");
        assert!(text.contains("\nreport='https://report'\ncat > /etc/rollcall/cluster.env"), "{text}");
        assert!(!text.contains("systemctl") && text.ends_with("\nshutdown -P now\n"), "{text}");
        assert!(text.len() < 16 << 10);
        assert!(probe("#!/bin/sh\n").user_data("https://report").is_err(), "workers are started differently");
    }
}
