//! The VPC endpoints that a network has already.
//!
//! EC2 refuses a second interface endpoint with the private names of a service in one VPC, and a second gateway endpoint of S3 in one
//! route table; CloudFormation finds that out only after minutes, and then removes what it has created. The endpoints of others serve
//! workers as well as those of the stack.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{AttributeBooleanValue, VpcAttributeName, VpcEndpoint, VpcEndpointType};

use super::{
    super::errors::classify,
    account::{Account, filter},
};
use crate::cloud::{CloudResult, aws::call_sites::CallSite as _};

/// The services that workers call, by the last part of the names of their endpoint services.
const SERVICES: [&str; 4] = ["ec2", "logs", "s3", "sqs"];

/// The endpoints in a VPC that serve machines without further ado.
#[derive(Debug, Default)]
pub(super) struct Present {
    /// Ids of interface endpoints whose service's public name leads to them in the VPC, by service.
    interfaces: BTreeMap<String, String>,
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
                present.interfaces.insert(service.to_owned(), id.to_owned());
            }
        }
        present
    }

    /// Returns the endpoint that serves machines of a route table, for each service that has one.
    fn serving<'a>(&'a self, table: &str) -> BTreeMap<&'a str, &'a str> {
        let gateway = self.gateways.get(table).map(|id| ("s3", id.as_str()));
        self.interfaces.iter().map(|(service, id)| (service.as_str(), id.as_str())).chain(gateway).collect()
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
    use aws_sdk_ec2::types::State;

    use super::*;

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
