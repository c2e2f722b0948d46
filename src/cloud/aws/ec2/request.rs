//! The request that launches instances.

use std::time::Duration;

use aws_sdk_ec2::{
    Client,
    operation::run_instances::builders::RunInstancesFluentBuilder,
    types::{
        HttpTokensState, IamInstanceProfileSpecification, InstanceMarketOptionsRequest, InstanceMetadataOptionsRequest,
        InstanceNetworkInterfaceSpecification, InstanceType, LaunchTemplateSpecification, MarketType, ResourceType,
        ShutdownBehavior, Tag, TagSpecification,
    },
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};

use super::{
    super::tags::{CLUSTER_TAG, TOKEN_TAG},
    pools::Pool,
};
use crate::settings::Launching;

/// What to launch.
#[derive(Clone, Debug, Default)]
pub struct Ec2Options {
    /// Name of the cluster that the instances belong to.
    pub cluster: String,
    /// Names are this prefix followed by a number.
    pub name_prefix: String,
    /// Image, types, subnets and the like.
    pub launch: Launching,
    /// Script that an instance runs at its first boot, as plain text. At most 16 KiB.
    pub user_data: Option<String>,
    /// Longest time that EC2 takes to show what a call has done.
    pub describe_lag: Duration,
    /// How long a controller has acted when it replaces instances of later versions too: no controller of these has followed.
    pub replace_later_after: Duration,
}

/// One call of a launch.
pub(super) struct Request<'a> {
    /// Token of the whole launch.
    pub(super) token: &'a str,
    /// Index of the pool among all pools.
    pub(super) pool_index: usize,
    pub(super) pool: &'a Pool,
    /// Maximum number of instances to launch; EC2 may launch fewer.
    pub(super) count: usize,
    /// Name of the first instance.
    pub(super) name: String,
}

impl Request<'_> {
    /// Builds the call. Equal requests build equal calls, as the `ClientToken` requires.
    pub(super) fn build(self, client: &Client, options: &Ec2Options) -> RunInstancesFluentBuilder {
        let (launch, pool) = (&options.launch, self.pool);
        let tags = |kind| {
            let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
            TagSpecification::builder()
                .resource_type(kind)
                .tags(tag(CLUSTER_TAG, &options.cluster))
                .tags(tag(TOKEN_TAG, self.token))
                .tags(tag("Name", &self.name))
                .build()
        };
        let template = launch.launch_template.as_ref().map(|template| {
            let spec = LaunchTemplateSpecification::builder().version(launch.version_text());
            if template.starts_with("lt-") {
                spec.launch_template_id(template)
            } else {
                spec.launch_template_name(template)
            }
            .build()
        });
        let profile =
            launch.instance_profile.as_ref().map(|name| IamInstanceProfileSpecification::builder().name(name).build());
        let spot = InstanceMarketOptionsRequest::builder().market_type(MarketType::Spot).build();
        // A worker that shuts its machine down stops it. A one-time spot instance cannot be stopped.
        let shutdown = match (pool.spot, &template) {
            (true, _) => Some(ShutdownBehavior::Terminate),
            (false, None) => Some(ShutdownBehavior::Stop),
            (false, Some(_)) => None,
        };
        // EC2 takes the subnet and the groups either of the instance or of its interface, not of both.
        let groups = Some(launch.security_groups.clone()).filter(|groups| !groups.is_empty());
        let (subnet, groups, interface) = if launch.public_address {
            (pool.subnet.clone(), groups, None)
        } else {
            let interface = InstanceNetworkInterfaceSpecification::builder().device_index(0);
            let interface = interface.associate_public_ip_address(false).set_subnet_id(pool.subnet.clone());
            (None, None, Some(vec![interface.set_groups(groups).build()]))
        };
        // A template has its own.
        let metadata = InstanceMetadataOptionsRequest::builder().http_tokens(HttpTokensState::Required).build();
        client
            .run_instances()
            .client_token(client_token(&options.cluster, self.token, self.pool_index))
            .min_count(1)
            .max_count(self.count as i32)
            .set_metadata_options(template.is_none().then_some(metadata))
            .set_launch_template(template)
            .set_image_id(launch.image.clone())
            .set_instance_type(pool.instance_type.as_deref().map(InstanceType::from))
            .set_subnet_id(subnet)
            .set_security_group_ids(groups)
            .set_network_interfaces(interface)
            .set_iam_instance_profile(profile)
            .set_user_data(options.user_data.as_ref().map(|text| BASE64_STANDARD.encode(text)))
            .set_instance_market_options(pool.spot.then_some(spot))
            .set_instance_initiated_shutdown_behavior(shutdown)
            .tag_specifications(tags(ResourceType::Instance))
            .tag_specifications(tags(ResourceType::Volume))
    }
}

/// Returns the `ClientToken` of a launch in one pool: 64 characters, the most that EC2 accepts.
///
/// EC2 rejects a token that is reused with other parameters, so each pool has its own.
fn client_token(cluster: &str, token: &str, pool_index: usize) -> String {
    let digest = Sha256::digest(format!("{cluster}\0{token}\0{pool_index}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn client() -> Client {
        let config = aws_sdk_ec2::Config::builder().behavior_version(aws_config::BehaviorVersion::latest());
        Client::from_conf(config.build())
    }

    fn build(options: &Ec2Options, spot: bool) -> RunInstancesFluentBuilder {
        let pool = Pool { spot, instance_type: Some("c7i.large".into()), subnet: Some("subnet-1".into()) };
        let request = Request { token: "t", pool_index: 0, pool: &pool, count: 3, name: "worker-7".into() };
        request.build(&client(), options)
    }

    #[test]
    fn an_instance_without_a_public_address_has_its_subnet_and_groups_at_its_interface() {
        let launch = Launching { security_groups: vec!["sg-1".into()], public_address: false, ..Launching::default() };
        let call = build(&Ec2Options { launch: launch.clone(), ..Ec2Options::default() }, false);
        assert_eq!((call.get_subnet_id(), call.get_security_group_ids()), (&None, &None));
        let interfaces = call.get_network_interfaces().as_deref().unwrap_or_default();
        assert_eq!(interfaces[0].associate_public_ip_address(), Some(false));
        assert_eq!((interfaces[0].subnet_id(), interfaces[0].groups()), (Some("subnet-1"), &["sg-1".to_owned()][..]));

        let launch = Launching { public_address: true, ..launch };
        let call = build(&Ec2Options { launch, ..Ec2Options::default() }, false);
        assert_eq!(call.get_subnet_id().as_deref(), Some("subnet-1"));
        assert!(call.get_network_interfaces().is_none());
    }

    #[test]
    fn client_tokens_are_stable_and_differ_by_cluster_launch_and_pool() {
        let tokens = [("a", "b", 0), ("a", "b", 1), ("a", "c", 0), ("b", "b", 0), ("ab", "", 0), ("a", "b0", 0)];
        let tokens: Vec<String> =
            tokens.into_iter().map(|(cluster, token, pool)| client_token(cluster, token, pool)).collect();
        assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), tokens.len());
        assert!(tokens.iter().all(|token| token.len() == 64));
        assert_eq!(client_token("a", "b", 0), tokens[0]);
    }

    #[test]
    fn a_request_launches_up_to_count_tagged_instances_in_its_pool() {
        let options = Ec2Options { cluster: "c".into(), user_data: Some("#!/bin/sh".into()), ..Ec2Options::default() };
        let call = build(&options, false);
        let input = call.as_input();
        assert_eq!((*input.get_min_count(), *input.get_max_count()), (Some(1), Some(3)));
        assert_eq!(input.get_instance_type(), &Some(InstanceType::from("c7i.large")));
        assert_eq!(input.get_subnet_id().as_deref(), Some("subnet-1"));
        assert_eq!(input.get_user_data().as_deref(), Some("IyEvYmluL3No"));
        let specifications = input.get_tag_specifications().as_ref().unwrap();
        for (specification, kind) in specifications.iter().zip([ResourceType::Instance, ResourceType::Volume]) {
            let tags: Vec<_> = specification.tags().iter().map(|t| (t.key().unwrap(), t.value().unwrap())).collect();
            assert_eq!(specification.resource_type(), Some(&kind));
            assert_eq!(tags, [("rollcall:cluster", "c"), ("rollcall:token", "t"), ("Name", "worker-7")]);
        }
    }

    #[test]
    fn a_template_is_given_by_id_or_name_and_sets_the_shutdown_behaviour() {
        let with = |template: Option<&str>| {
            let launch = Launching { launch_template: template.map(str::to_owned), ..Launching::default() };
            build(&Ec2Options { launch, ..Ec2Options::default() }, false)
        };
        let by_id = with(Some("lt-1"));
        let spec = by_id.get_launch_template().as_ref().unwrap();
        assert_eq!((spec.launch_template_id(), spec.launch_template_name()), (Some("lt-1"), None));
        assert_eq!(spec.version(), Some("$Default"));
        let numbered =
            Launching { launch_template: Some("lt-1".into()), template_version: Some(7), ..Launching::default() };
        let numbered = build(&Ec2Options { launch: numbered, ..Ec2Options::default() }, false);
        assert_eq!(numbered.get_launch_template().as_ref().and_then(|spec| spec.version()), Some("7"));
        assert_eq!(by_id.get_instance_initiated_shutdown_behavior(), &None);
        assert!(by_id.get_metadata_options().is_none(), "the template's own are not overridden");
        let tokens = with(None).get_metadata_options().as_ref().and_then(|options| options.http_tokens().cloned());
        assert_eq!(tokens, Some(HttpTokensState::Required));
        let by_name = with(Some("workers"));
        let spec = by_name.get_launch_template().as_ref().unwrap();
        assert_eq!((spec.launch_template_id(), spec.launch_template_name()), (None, Some("workers")));
        assert_eq!(with(None).get_instance_initiated_shutdown_behavior(), &Some(ShutdownBehavior::Stop));
    }

    #[test]
    fn a_spot_instance_terminates_on_shutdown() {
        let call = build(&Ec2Options::default(), true);
        assert_eq!(call.get_instance_initiated_shutdown_behavior(), &Some(ShutdownBehavior::Terminate));
        assert!(call.get_instance_market_options().is_some());
        assert!(build(&Ec2Options::default(), false).get_instance_market_options().is_none());
    }
}
