//! What AWS says of a cluster's resources now, as plain values: what `rollcall aws verify` compares with the template.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use aws_sdk_ec2::types::{Instance, InstanceStateName, IpPermission, ResponseLaunchTemplateData};
use aws_sdk_s3::types::{ExpirationStatus, LifecycleRule};
use aws_sdk_sqs::types::QueueAttributeName;
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    super::{
        errors::{classify, code},
        tags::CLUSTER_TAG,
    },
    account::{Account, filter},
    instances::{self, ALIVE},
    stack::Stack,
};
use crate::cloud::{CloudResult, aws::call_sites::CallSite as _};

/// Tags of EC2 on an instance that was launched from a template: the template's id, and the number of its version.
pub(super) const TEMPLATE_TAG: &str = "aws:ec2launchtemplate:id";
const VERSION_TAG: &str = "aws:ec2launchtemplate:version";

/// The stack's name of the launch template that web nodes, and no other machines, are launched from.
pub(super) const WEB_TEMPLATE: &str = "WebTemplate";

/// What precedes the number of the version in the user data of web nodes.
const STATED_VERSION: &str = "ROLLCALL__AWS__LAUNCH_TEMPLATE_VERSION=";

/// The cluster's stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StackFacts {
    /// Its status as CloudFormation names it.
    pub(crate) status: String,
    /// Names and values.
    pub(crate) outputs: BTreeMap<String, String>,
    /// Names and values.
    pub(crate) parameters: BTreeMap<String, String>,
    /// The ids of the resources, by their names in the template.
    pub(crate) resources: BTreeMap<String, String>,
}

/// A queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueFacts {
    /// The attributes by name, as SQS names them.
    pub(crate) attributes: BTreeMap<String, String>,
}

/// A rule that deletes objects of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// Of which keys; empty for all.
    pub(crate) prefix: String,
    /// Age in days.
    pub(crate) days: i32,
}

/// A bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BucketFacts {
    /// The four blocks of public access that are off, as S3 names them.
    pub(crate) open: Vec<&'static str>,
    /// The algorithm by which objects are encrypted that do not state another.
    pub(crate) encryption: Option<String>,
    /// The rules that are enabled, by prefix.
    pub(crate) expiry: Vec<Expiry>,
    /// The bucket's policy, as JSON.
    pub(crate) policy: Option<String>,
}

/// The workers' launch template in the version from which workers are launched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TemplateFacts {
    pub(crate) version: i64,
    pub(crate) image: Option<String>,
    /// Whether metadata need a token (IMDSv2): `required` or `optional`.
    pub(crate) http_tokens: Option<String>,
    /// Name or ARN of the instance profile.
    pub(crate) profile: Option<String>,
    /// `stop` or `terminate`.
    pub(crate) on_shutdown: Option<String>,
    pub(crate) groups: Vec<String>,
    /// The script of the first boot.
    pub(crate) user_data: String,
}

/// An instance that is not terminated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InstanceFacts {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The state as EC2 names it.
    pub(crate) state: String,
    /// The version of the launch template that it was launched from, if any.
    pub(crate) version: Option<i64>,
    pub(crate) image: Option<String>,
    /// The id of its subnet.
    pub(crate) subnet: Option<String>,
    /// When it was launched, or started again, in milliseconds since the Unix epoch.
    pub(crate) launched_ms: Option<u64>,
}

impl InstanceFacts {
    /// Returns whether its time is billed.
    pub(crate) fn is_billed(&self) -> bool {
        ["pending", "running", "stopping", "shutting-down"].contains(&self.state.as_str())
    }
}

impl Account {
    /// Reads the stack; `None` if it does not exist.
    pub(crate) async fn stack_facts(&self) -> anyhow::Result<Option<StackFacts>> {
        let Some(stack) = Stack::new(self).describe().await? else { return Ok(None) };
        let described =
            self.cloudformation.describe_stack_resources().stack_name(&self.cluster).recorded().send().await;
        let described = described.map_err(|e| classify(&self.cluster, e))?.stack_resources.unwrap_or_default();
        let resources = described.into_iter().filter_map(|r| Some((r.logical_resource_id?, r.physical_resource_id?)));
        let parameters = stack.parameters().iter().filter_map(|p| Some((p.parameter_key()?, p.parameter_value()?)));
        let outputs = stack.outputs().iter().filter_map(|o| Some((o.output_key()?, o.output_value()?)));
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        Ok(Some(StackFacts {
            status: stack.stack_status().map_or_else(String::new, |status| status.as_str().to_owned()),
            outputs: outputs.map(owned).collect(),
            parameters: parameters.map(owned).collect(),
            resources: resources.collect(),
        }))
    }

    /// Reads a queue.
    pub(crate) async fn queue_facts(&self, name: &str) -> CloudResult<QueueFacts> {
        let what = format!("queue {name}");
        let found =
            self.sqs.get_queue_url().queue_name(name).recorded().send().await.map_err(|e| classify(&what, e))?;
        let call = self.sqs.get_queue_attributes().set_queue_url(found.queue_url);
        let output =
            call.attribute_names(QueueAttributeName::All).recorded().send().await.map_err(|e| classify(&what, e))?;
        let attributes = output.attributes.unwrap_or_default().into_iter();
        Ok(QueueFacts { attributes: attributes.map(|(name, value)| (name.as_str().to_owned(), value)).collect() })
    }

    /// Reads a bucket.
    pub(crate) async fn bucket_facts(&self, name: &str) -> CloudResult<BucketFacts> {
        let open = match self.s3.get_public_access_block().bucket(name).recorded().send().await {
            Err(error) if code(&error) == "NoSuchPublicAccessBlockConfiguration" => None,
            output => output.map_err(|e| classify(name, e))?.public_access_block_configuration,
        };
        let blocks = open.as_ref();
        let open = [
            ("BlockPublicAcls", blocks.and_then(|blocks| blocks.block_public_acls)),
            ("BlockPublicPolicy", blocks.and_then(|blocks| blocks.block_public_policy)),
            ("IgnorePublicAcls", blocks.and_then(|blocks| blocks.ignore_public_acls)),
            ("RestrictPublicBuckets", blocks.and_then(|blocks| blocks.restrict_public_buckets)),
        ];
        let encryption = match self.s3.get_bucket_encryption().bucket(name).recorded().send().await {
            Err(error) if code(&error) == "ServerSideEncryptionConfigurationNotFoundError" => None,
            output => output.map_err(|e| classify(name, e))?.server_side_encryption_configuration,
        };
        let encryption = encryption.into_iter().flat_map(|configuration| configuration.rules);
        let mut encryption = encryption.filter_map(|rule| rule.apply_server_side_encryption_by_default);
        let rules = match self.s3.get_bucket_lifecycle_configuration().bucket(name).recorded().send().await {
            Err(error) if code(&error) == "NoSuchLifecycleConfiguration" => Vec::new(),
            output => output.map_err(|e| classify(name, e))?.rules.unwrap_or_default(),
        };
        let mut expiry: Vec<Expiry> = rules.iter().filter_map(expiry).collect();
        expiry.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        let policy = match self.s3.get_bucket_policy().bucket(name).recorded().send().await {
            Err(error) if code(&error) == "NoSuchBucketPolicy" => None,
            output => output.map_err(|e| classify(name, e))?.policy,
        };
        Ok(BucketFacts {
            open: open.into_iter().filter(|(_, on)| *on != Some(true)).map(|(name, _)| name).collect(),
            encryption: encryption.next().map(|default| default.sse_algorithm.as_str().to_owned()),
            expiry,
            policy,
        })
    }

    /// Reads the launch template of the workers, in the latest version that a web node states or, if those of earlier releases
    /// state none, in the default version. `web` is the launch template of the web nodes.
    pub(crate) async fn template_facts(&self, workers: &str, web: &str) -> anyhow::Result<TemplateFacts> {
        let mut stated = None;
        for version in self.web_versions(web).await? {
            let (_, data) = self.template_version(web, &version).await?;
            stated = stated.max(stated_version(&script(&data)));
        }
        let stated = stated.map_or_else(|| "$Default".to_owned(), |number| number.to_string());
        let (version, data) = self.template_version(workers, &stated).await?;
        let user_data = script(&data);
        let tokens = data.metadata_options.and_then(|options| options.http_tokens);
        Ok(TemplateFacts {
            version,
            image: data.image_id,
            http_tokens: tokens.map(|tokens| tokens.as_str().to_owned()),
            profile: data.iam_instance_profile.and_then(|profile| profile.name.or(profile.arn)),
            on_shutdown: data.instance_initiated_shutdown_behavior.map(|what| what.as_str().to_owned()),
            groups: data.security_group_ids.unwrap_or_default(),
            user_data,
        })
    }

    /// Returns the versions of the web nodes' launch template that running nodes were launched from; the latest one if none runs.
    ///
    /// The latest one may be of no node: a rollback makes further versions.
    async fn web_versions(&self, template: &str) -> CloudResult<BTreeSet<String>> {
        let nodes = instances::list(self, filter(format!("tag:{TEMPLATE_TAG}"), template), &["running"]).await?;
        let versions = nodes.iter().filter_map(|node| instance(node)?.version).map(|version| version.to_string());
        let mut versions: BTreeSet<String> = versions.collect();
        if versions.is_empty() {
            versions.insert("$Latest".to_owned());
        }
        Ok(versions)
    }

    /// Returns a version of a launch template and its number.
    async fn template_version(&self, id: &str, version: &str) -> anyhow::Result<(i64, ResponseLaunchTemplateData)> {
        let call = self.ec2.describe_launch_template_versions().launch_template_id(id).versions(version);
        let output = call.recorded().send().await.map_err(|e| classify(id, e))?;
        let found = output.launch_template_versions.unwrap_or_default().pop();
        let found = found.and_then(|found| Some((found.version_number?, found.launch_template_data?)));
        found.with_context(|| format!("{id}: version {version} does not exist"))
    }

    /// Returns the cluster's workers that are not terminated.
    pub(crate) async fn worker_facts(&self) -> CloudResult<Vec<InstanceFacts>> {
        self.instance_facts(CLUSTER_TAG).await
    }

    /// Returns the instances that are not terminated and whose tag `key` is the cluster's name.
    pub(super) async fn instance_facts(&self, key: &str) -> CloudResult<Vec<InstanceFacts>> {
        let all = instances::list(self, filter(format!("tag:{key}"), &self.cluster), &ALIVE).await?;
        Ok(all.iter().filter_map(instance).collect())
    }

    /// Returns what may reach the instances of a security group: one line of text per source.
    pub(crate) async fn inbound(&self, group: &str) -> anyhow::Result<Vec<String>> {
        let output = self.ec2.describe_security_groups().group_ids(group).recorded().send().await;
        let found = output.map_err(|e| classify(group, e))?.security_groups.unwrap_or_default().pop();
        let found = found.with_context(|| format!("the security group {group} does not exist"))?;
        Ok(found.ip_permissions().iter().flat_map(sources).collect())
    }
}

/// Returns the version of the workers' launch template that the script of a web node states.
fn stated_version(script: &str) -> Option<u64> {
    script.lines().find_map(|line| line.strip_prefix(STATED_VERSION)?.parse().ok())
}

/// Returns the script of the first boot.
fn script(data: &ResponseLaunchTemplateData) -> String {
    let bytes = BASE64_STANDARD.decode(data.user_data.as_deref().unwrap_or_default()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns what an enabled rule of a bucket deletes; `None` if it deletes nothing by age.
fn expiry(rule: &LifecycleRule) -> Option<Expiry> {
    #[expect(deprecated, reason = "rules that an earlier release of CloudFormation made have their prefix here")]
    let plain = rule.prefix();
    let prefix = rule.filter().and_then(|filter| filter.prefix()).or(plain).unwrap_or_default().to_owned();
    let days = rule.expiration().and_then(|expiration| expiration.days())?;
    (*rule.status() == ExpirationStatus::Enabled).then_some(Expiry { prefix, days })
}

fn instance(instance: &Instance) -> Option<InstanceFacts> {
    let state = instance.state().and_then(|state| state.name())?;
    let tag = |key: &str| instance.tags().iter().find(|tag| tag.key() == Some(key)).and_then(|tag| tag.value());
    (*state != InstanceStateName::Terminated).then(|| InstanceFacts {
        id: instance.instance_id().unwrap_or_default().to_owned(),
        name: tag("Name").unwrap_or_default().to_owned(),
        state: state.as_str().to_owned(),
        version: tag(VERSION_TAG).and_then(|version| version.parse().ok()),
        image: instance.image_id().map(str::to_owned),
        subnet: instance.subnet_id().map(str::to_owned),
        launched_ms: instance.launch_time().and_then(|time| time.to_millis().ok()?.try_into().ok()),
    })
}

fn sources(permission: &IpPermission) -> Vec<String> {
    let protocol = match permission.ip_protocol() {
        Some("-1") | None => "everything".to_owned(),
        Some(protocol) => protocol.to_owned(),
    };
    let ports = match (permission.from_port(), permission.to_port()) {
        (Some(from), Some(to)) if from == to => format!(" {from}"),
        (Some(from), Some(to)) => format!(" {from}-{to}"),
        _ => String::new(),
    };
    let v4 = permission.ip_ranges().iter().filter_map(|range| range.cidr_ip());
    let v6 = permission.ipv6_ranges().iter().filter_map(|range| range.cidr_ipv6());
    let groups = permission.user_id_group_pairs().iter().filter_map(|pair| pair.group_id());
    let lists = permission.prefix_list_ids().iter().filter_map(|list| list.prefix_list_id());
    v4.chain(v6).chain(groups).chain(lists).map(|source| format!("{protocol}{ports} from {source}")).collect()
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{IpRange, Ipv6Range, PrefixListId, UserIdGroupPair};
    use aws_sdk_s3::types::{LifecycleExpiration, LifecycleRuleFilter};

    use super::*;

    #[test]
    fn a_rule_expires_objects_if_it_is_enabled() {
        let rule = |status| {
            let filter = LifecycleRuleFilter::builder().prefix("audit/").build();
            let rule = LifecycleRule::builder().status(status).filter(filter);
            rule.expiration(LifecycleExpiration::builder().days(7).build()).build().expect("a rule")
        };
        assert_eq!(expiry(&rule(ExpirationStatus::Enabled)), Some(Expiry { prefix: "audit/".into(), days: 7 }));
        assert_eq!(expiry(&rule(ExpirationStatus::Disabled)), None);
    }

    #[test]
    fn each_source_of_a_permission_is_a_line() {
        let range = |cidr: &str| IpRange::builder().cidr_ip(cidr).build();
        let ssh = IpPermission::builder().ip_protocol("tcp").from_port(22).to_port(22);
        let ssh = ssh.ip_ranges(range("10.0.0.0/8")).ip_ranges(range("0.0.0.0/0")).build();
        assert_eq!(sources(&ssh), ["tcp 22 from 10.0.0.0/8", "tcp 22 from 0.0.0.0/0"]);
        let group = UserIdGroupPair::builder().group_id("sg-1").build();
        let all = IpPermission::builder().ip_protocol("-1").ip_ranges(range("0.0.0.0/0")).user_id_group_pairs(group);
        let all = all.ipv6_ranges(Ipv6Range::builder().cidr_ipv6("::/0").build());
        let all = all.prefix_list_ids(PrefixListId::builder().prefix_list_id("pl-1").build()).build();
        assert_eq!(
            sources(&all),
            ["0.0.0.0/0", "::/0", "sg-1", "pl-1"].map(|source| format!("everything from {source}"))
        );
    }
}
