//! The VPC endpoints that a network has already.
//!
//! EC2 refuses a second interface endpoint with the private names of a service in one VPC, and a second gateway endpoint of S3 in one
//! route table; CloudFormation finds that out only after minutes, and then removes what it has created. The endpoints of others serve
//! workers as well as those of the stack, if their security groups admit them. If not, a service is reached in no other way, because
//! its name leads to the endpoint.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{
    AttributeBooleanValue, IpPermission, SecurityGroup, Subnet, VpcAttributeName, VpcEndpoint, VpcEndpointType,
};
use ipnet::IpNet;

use super::{
    super::errors::classify,
    account::{Account, filter},
};
use crate::cloud::{CloudResult, aws::call_sites::CallSite as _};

/// The services that workers call, by the last part of the names of their endpoint services.
const SERVICES: [&str; 4] = ["ec2", "logs", "s3", "sqs"];

/// The port of HTTPS.
const HTTPS: i32 = 443;

/// An interface endpoint whose service's public name leads to it in the whole VPC.
#[derive(Debug)]
struct Interface {
    id: String,
    /// Ids of its security groups.
    groups: Vec<String>,
}

/// The endpoints in a VPC that serve machines.
#[derive(Debug, Default)]
pub(super) struct Present {
    /// By service.
    interfaces: BTreeMap<String, Interface>,
    /// The ids of gateway endpoints of S3, by route table.
    gateways: BTreeMap<String, String>,
}

impl Present {
    /// Lists the endpoints of a VPC.
    ///
    /// # Errors
    /// EC2 cannot be called.
    pub(super) async fn of(account: &Account, vpc: &str) -> CloudResult<Self> {
        let call = account.ec2.describe_vpc_endpoints().filters(filter("vpc-id", vpc)).into_paginator().items();
        let mut pages = call.recorded().send();
        let mut all = Vec::new();
        while let Some(endpoint) = pages.next().await {
            all.push(endpoint.map_err(|e| classify("VPC endpoints", e))?);
        }
        Ok(Self::among(&all))
    }

    fn among(endpoints: &[VpcEndpoint]) -> Self {
        let mut present = Self::default();
        for endpoint in endpoints {
            let service = endpoint.service_name().and_then(|name| name.rsplit('.').next()).unwrap_or_default();
            let id = endpoint.vpc_endpoint_id().unwrap_or_default();
            // EC2 writes states in lower case, the API reference and the SDK with capitals.
            let state = endpoint.state().map_or("", |state| state.as_str());
            let serves = ["available", "pending"].iter().any(|serving| state.eq_ignore_ascii_case(serving));
            if !serves || !SERVICES.contains(&service) {
                continue;
            }
            if endpoint.vpc_endpoint_type() == Some(&VpcEndpointType::Gateway) {
                present.gateways.extend(endpoint.route_table_ids().iter().map(|table| (table.clone(), id.to_owned())));
            } else if endpoint.private_dns_enabled() == Some(true) {
                let groups = endpoint.groups().iter().filter_map(|group| group.group_id()).map(str::to_owned).collect();
                present.interfaces.insert(service.to_owned(), Interface { id: id.to_owned(), groups });
            }
        }
        present
    }

    /// Returns the endpoint that serves machines of a route table, for each service that has one.
    fn serving<'a>(&'a self, table: &str) -> BTreeMap<&'a str, &'a str> {
        let gateway = self.gateways.get(table).map(|id| ("s3", id.as_str()));
        let interfaces = self.interfaces.iter().map(|(service, interface)| (service.as_str(), interface.id.as_str()));
        interfaces.chain(gateway).collect()
    }

    /// Returns whether machines of a route table reach every service by these endpoints.
    pub(super) fn serve(&self, table: &str) -> bool {
        let serving = self.serving(table);
        SERVICES.iter().all(|service| serving.contains_key(service))
    }

    /// Checks that a stack can have endpoints of its own beside these ones.
    ///
    /// # Errors
    /// One of the tables has endpoints already.
    pub(super) fn check_absent<'a>(&self, vpc: &str, tables: impl IntoIterator<Item = &'a str>) -> anyhow::Result<()> {
        for table in tables {
            let serving = self.serving(table);
            // The stack's endpoint of S3 is a gateway, which may be beside an interface.
            let in_the_way = |service: &str| service != "s3" || self.gateways.contains_key(table);
            let Some((service, id)) = serving.iter().find(|(service, _)| in_the_way(service)) else { continue };
            let missing: Vec<&str> = SERVICES.into_iter().filter(|service| !serving.contains_key(service)).collect();
            if missing.is_empty() {
                let ids: Vec<&str> = serving.values().copied().collect();
                anyhow::bail!(
                    "--endpoints: {vpc} has VPC endpoints for all services that workers call ({}), and EC2 refuses a second one: \
                     leave --endpoints out, and workers use these. If they are those of another cluster, its removal ends them",
                    ids.join(", ")
                );
            }
            anyhow::bail!(
                "--endpoints: {vpc} has a VPC endpoint for {service} already ({id}), and EC2 refuses a second one: add those for {} \
                 (for S3, a gateway in the route table {table}) and leave --endpoints out, or delete it",
                missing.join(", ")
            );
        }
        Ok(())
    }
}

/// Checks that the interface endpoints in a VPC admit machines of these subnets. A stack that `exists` may have security groups that
/// they admit.
///
/// # Errors
/// One does not, or EC2 cannot be called.
pub(super) async fn check_admission(
    account: &Account,
    vpc: &str,
    subnets: &[Subnet],
    exists: bool,
) -> anyhow::Result<()> {
    for (service, Interface { id, groups }) in Present::of(account, vpc).await?.interfaces {
        let call = account.ec2.describe_security_groups().set_group_ids(Some(groups.clone()));
        let described = call.recorded().send().await.map_err(|e| classify(&id, e))?.security_groups.unwrap_or_default();
        for subnet in subnets {
            let Some(range) = subnet.cidr_block().and_then(|range| range.parse::<IpNet>().ok()) else { continue };
            anyhow::ensure!(
                described.iter().flat_map(SecurityGroup::ip_permissions).any(|rule| admits(rule, range, exists)),
                "{vpc} has a VPC endpoint for {service} ({id}), to which its name leads, and whose security groups ({}) do not admit \
                 the subnet {} ({range}): add a rule for TCP {HTTPS} from there",
                groups.join(", "),
                subnet.subnet_id().unwrap_or_default()
            );
        }
    }
    Ok(())
}

/// Returns whether a rule admits HTTPS from a range of addresses. Of prefix lists and, if `groups` may be the stack's, of security groups,
/// it is not known whether they contain it.
fn admits(rule: &IpPermission, range: IpNet, groups: bool) -> bool {
    let is_any = rule.ip_protocol() == Some("-1");
    let is_https =
        is_any || rule.from_port().zip(rule.to_port()).is_some_and(|(from, to)| (from..=to).contains(&HTTPS));
    let mut ranges = rule.ip_ranges().iter().filter_map(|source| source.cidr_ip()?.parse::<IpNet>().ok());
    let is_unknown = !rule.prefix_list_ids().is_empty() || (groups && !rule.user_id_group_pairs().is_empty());
    is_https && (is_unknown || ranges.any(|source| source.contains(&range)))
}

/// Checks that the names of AWS's services can lead to endpoints in a VPC.
///
/// # Errors
/// They cannot, or EC2 cannot be called.
pub(super) async fn check_names(account: &Account, vpc: &str) -> anyhow::Result<()> {
    let attribute = async |name: VpcAttributeName| {
        let call = account.ec2.describe_vpc_attribute().vpc_id(vpc).attribute(name);
        call.recorded().send().await.map_err(|e| classify(vpc, e))
    };
    let is_on = |value: Option<&AttributeBooleanValue>| value.and_then(|value| value.value()) == Some(true);
    let advice = "which the private names of VPC endpoints need: set it for the VPC, or use a NAT gateway";
    let support = attribute(VpcAttributeName::EnableDnsSupport).await?;
    anyhow::ensure!(
        is_on(support.enable_dns_support()),
        "--endpoints: {vpc} does not resolve DNS names (enableDnsSupport), {advice}"
    );
    let names = attribute(VpcAttributeName::EnableDnsHostnames).await?;
    anyhow::ensure!(
        is_on(names.enable_dns_hostnames()),
        "--endpoints: {vpc} does not resolve host names (enableDnsHostnames), {advice}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{IpRange, PrefixListId, State, UserIdGroupPair};

    use super::*;

    #[test]
    fn a_rule_admits_https_from_ranges_that_contain_the_subnet() {
        let range: IpNet = "10.9.1.0/24".parse().expect("a range");
        let from = |source: &str| IpRange::builder().cidr_ip(source).build();
        let tcp = |first, last| IpPermission::builder().ip_protocol("tcp").from_port(first).to_port(last);
        for (rule, expected) in [
            (tcp(443, 443).ip_ranges(from("10.9.0.0/16")), true),
            (tcp(0, 65535).ip_ranges(from("0.0.0.0/0")), true),
            (IpPermission::builder().ip_protocol("-1").ip_ranges(from("10.9.1.0/24")), true),
            (tcp(443, 443).ip_ranges(from("10.9.1.0/25")), false),
            (tcp(443, 443).ip_ranges(from("10.8.0.0/16")), false),
            (tcp(22, 80).ip_ranges(from("0.0.0.0/0")), false),
            (tcp(443, 443).prefix_list_ids(PrefixListId::builder().prefix_list_id("pl-1").build()), true),
        ] {
            assert_eq!(admits(&rule.clone().build(), range, false), expected, "{rule:?}");
        }
        let pair = UserIdGroupPair::builder().group_id("sg-1").build();
        let by_group = tcp(443, 443).user_id_group_pairs(pair).build();
        assert_eq!([true, false].map(|exists| admits(&by_group, range, exists)), [true, false]);
    }

    #[test]
    fn an_endpoint_serves_if_its_names_and_its_routes_do() {
        let interface = |service: &str, names: bool, state: &str| {
            VpcEndpoint::builder()
                .vpc_endpoint_id(format!("vpce-{service}"))
                .service_name(format!("cn.com.amazonaws.cn-north-1.{service}"))
                .vpc_endpoint_type(VpcEndpointType::Interface)
                .private_dns_enabled(names)
                .state(State::from(state))
                .build()
        };
        let gateway = VpcEndpoint::builder()
            .vpc_endpoint_id("vpce-s3")
            .service_name("com.amazonaws.cn-north-1.s3")
            .vpc_endpoint_type(VpcEndpointType::Gateway)
            .route_table_ids("rtb-1")
            .state(State::Available)
            .build();
        let with = |sqs: VpcEndpoint| {
            let others = ["ec2", "logs", "kms"].map(|service| interface(service, true, "available"));
            Present::among(&[&others[..], &[gateway.clone(), sqs]].concat())
        };
        let all = with(interface("sqs", true, "pending"));
        assert_eq!((all.serve("rtb-1"), all.serve("rtb-2")), (true, false));
        for sqs in [interface("sqs", false, "available"), interface("sqs", true, "deleting")] {
            let present = with(sqs);
            assert!(!present.serve("rtb-1"), "{present:?}");
            assert!(present.check_absent("vpc-1", ["rtb-2"]).is_err(), "the others are in the way: {present:?}");
        }
        let of_s3 = Present::among(&[interface("s3", true, "available")]);
        assert!(of_s3.check_absent("vpc-1", ["rtb-1"]).is_ok(), "a gateway may be beside an interface");
        let elsewhere = Present::among(&[gateway]);
        assert!(elsewhere.check_absent("vpc-1", ["rtb-2"]).is_ok(), "a gateway is in the way in its own tables only");
        assert!(elsewhere.check_absent("vpc-1", ["rtb-1"]).is_err());
    }
}
