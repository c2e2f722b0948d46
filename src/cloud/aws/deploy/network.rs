//! The network of the workers: whether their subnets lead to AWS, and where endpoints are added.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use aws_sdk_cloudformation::types::Stack as StackDescription;
use aws_sdk_ec2::types::{Route, RouteState, RouteTable, Subnet};

use super::{
    super::errors::classify,
    account::{Account, filter},
    endpoints::{self, Present},
    stack::parameter,
};
use crate::cloud::aws::call_sites::CallSite as _;

/// Beginnings of the names of regions in whose partitions the names of VPC endpoint services are not known here: they differ from
/// one service to another, as the AWS CDK lists them.
const UNKNOWN_NAMES: [&str; 3] = ["us-iso", "eu-iso", "eusc-"];

/// What the options and the defaults say of the workers' network; `None` and `false` keep what an existing stack has.
pub(super) struct Network<'a> {
    pub(super) vpc: Option<&'a str>,
    /// Separated by commas.
    pub(super) worker_subnets: Option<&'a str>,
    pub(super) private_workers: bool,
    pub(super) endpoints: bool,
}

impl Network<'_> {
    /// Checks that workers reach AWS from their subnets. Returns the parameters of the template about the VPC endpoints, if the stack
    /// has them. Workers may still be in subnets that the change leaves, so the endpoint of S3 keeps serving these.
    ///
    /// # Errors
    /// The subnets are not known or not in the VPC, or lead nowhere; or EC2 cannot be called.
    pub(super) async fn parameters(
        self,
        account: &Account,
        existing: Option<&StackDescription>,
    ) -> anyhow::Result<Vec<(String, String)>> {
        let current = |key: &str| existing.and_then(|stack| parameter(stack, key)).filter(|value| !value.is_empty());
        let endpoints = self.endpoints || has_endpoints(existing);
        let private = self.private_workers || current("PrivateWorkers") == Some("yes");
        anyhow::ensure!(
            !self.endpoints || !UNKNOWN_NAMES.iter().any(|beginning| account.region.starts_with(beginning)),
            "--endpoints: the names of VPC endpoint services in {} are not known here; use --worker-subnets with a NAT gateway",
            account.region
        );
        let subnets = self.worker_subnets.or_else(|| current("WorkerSubnets")).context(
            "--private-workers and --endpoints need a stack whose workers have subnets of their own: specify --worker-subnets",
        )?;
        let vpc = self.vpc.or_else(|| current("Vpc")).context("the stack has no VPC")?;
        let output = account.ec2.describe_route_tables().filters(filter("vpc-id", vpc)).recorded().send().await;
        let tables = output.map_err(|e| classify("route tables", e))?.route_tables.unwrap_or_default();
        // Those of the stack are not in its way.
        let had = has_endpoints(existing);
        let present = if had { Present::default() } else { Present::of(account, vpc).await? };
        let mut used = BTreeSet::new();
        let workers = described(account, vpc, subnets).await?;
        for subnet in &workers {
            let id = subnet.subnet_id().unwrap_or_default();
            let table = table_of(&tables, id).with_context(|| format!("{vpc} has no route table"))?;
            let table_id = table.route_table_id().unwrap_or_default();
            let has_address = !private && subnet.map_public_ip_on_launch() == Some(true);
            anyhow::ensure!(
                endpoints || leads_out(table, has_address) || present.serve(table_id),
                "the workers' subnet {id} leads nowhere for machines {}: its route table {table_id} has no active route 0.0.0.0/0 \
                 through {}. Add one, specify other subnets with --worker-subnets, or use --endpoints",
                if has_address { "with a public address" } else { "without a public address" },
                if has_address { "an internet, NAT or transit gateway" } else { "a NAT or transit gateway" },
            );
            used.insert(table_id);
        }
        if !endpoints {
            return Ok(Vec::new());
        }
        if !had {
            endpoints::check_names(account, vpc).await?;
            present.check_absent(vpc, used.iter().copied())?;
        }
        let left = current("WorkerSubnets").unwrap_or_default().split(',').map(str::to_owned);
        let left = left.chain(account.worker_facts().await?.into_iter().filter_map(|worker| worker.subnet));
        if left.filter(|id| !id.is_empty()).any(|id| !subnets.split(',').any(|subnet| subnet == id)) {
            used.extend(current("EndpointRouteTables").into_iter().flat_map(|tables| tables.split(',')));
        }
        let kept = match current("EndpointSubnets") {
            Some(ids) => described(account, vpc, ids).await?,
            None => Vec::new(),
        };
        Ok(vec![
            ("EndpointRouteTables".to_owned(), used.into_iter().collect::<Vec<_>>().join(",")),
            ("EndpointSubnets".to_owned(), one_of_each_zone(&kept, &workers).join(",")),
        ])
    }
}

/// Returns whether the stack has VPC endpoints.
pub(super) fn has_endpoints(existing: Option<&StackDescription>) -> bool {
    existing.and_then(|stack| parameter(stack, "EndpointRouteTables")).is_some_and(|tables| !tables.is_empty())
}

/// Returns the ids of the subnets of interface endpoints: one of each zone of the workers' subnets, since EC2 refuses two
/// (`DuplicateSubnetsInSameZone`). That is the one that is used already, which could not be exchanged in one change, or the first.
/// The endpoints serve the whole VPC.
fn one_of_each_zone<'a>(used: &'a [Subnet], workers: &'a [Subnet]) -> Vec<&'a str> {
    let zone = |subnet: &'a Subnet| subnet.availability_zone().unwrap_or_default();
    let zones: BTreeSet<&str> = workers.iter().map(zone).collect();
    let mut chosen = BTreeMap::new();
    for subnet in used.iter().filter(|subnet| zones.contains(zone(subnet))).chain(workers) {
        chosen.entry(zone(subnet)).or_insert_with(|| subnet.subnet_id().unwrap_or_default());
    }
    chosen.into_values().collect()
}

/// Describes the subnets with these ids, separated by commas, in this order.
///
/// # Errors
/// One of them does not exist, or is in another VPC, where the security groups of the stack do not exist.
pub(super) async fn described(account: &Account, vpc: &str, ids: &str) -> anyhow::Result<Vec<Subnet>> {
    let call = account.ec2.describe_subnets().set_subnet_ids(Some(ids.split(',').map(str::to_owned).collect()));
    let output = call.recorded().send().await.map_err(|e| classify("subnets", e))?;
    let mut subnets = output.subnets.unwrap_or_default();
    subnets.sort_by_key(|subnet| ids.split(',').position(|id| Some(id) == subnet.subnet_id()));
    for subnet in &subnets {
        let of = subnet.vpc_id().unwrap_or_default();
        let id = subnet.subnet_id().unwrap_or_default();
        anyhow::ensure!(of == vpc, "the subnet {id} is in {of}, but the stack is in {vpc}");
    }
    Ok(subnets)
}

/// Checks that a single web node can be in a subnet: in this VPC, and with a route to the internet for its public address.
///
/// # Errors
/// It cannot, or EC2 cannot be called.
pub(super) async fn check_web_subnet(account: &Account, vpc: &str, subnet: &str) -> anyhow::Result<()> {
    described(account, vpc, subnet).await.context("--subnet")?;
    let output = account.ec2.describe_route_tables().filters(filter("vpc-id", vpc)).recorded().send().await;
    let tables = output.map_err(|e| classify("route tables", e))?.route_tables.unwrap_or_default();
    let table = table_of(&tables, subnet).with_context(|| format!("{vpc} has no route table"))?;
    anyhow::ensure!(
        leads_out(table, true),
        "--subnet: the web node's subnet {subnet} has no route to the internet: its route table {} has no active route 0.0.0.0/0 \
         through an internet gateway. Add one, or specify another subnet",
        table.route_table_id().unwrap_or_default()
    );
    Ok(())
}

/// Returns the route table of a subnet: its own, or the main one of the VPC.
fn table_of<'a>(tables: &'a [RouteTable], subnet: &str) -> Option<&'a RouteTable> {
    let own = |table: &&RouteTable| table.associations().iter().any(|a| a.subnet_id() == Some(subnet));
    let main = |table: &&RouteTable| table.associations().iter().any(|a| a.main() == Some(true));
    tables.iter().find(own).or_else(|| tables.iter().find(main))
}

/// Returns whether machines reach AWS's public endpoints by a route table. `has_address` is whether they have a public address.
fn leads_out(table: &RouteTable, has_address: bool) -> bool {
    let leads_out = |route: &Route| {
        let other = [
            route.nat_gateway_id(),
            route.transit_gateway_id(),
            route.network_interface_id(),
            route.core_network_arn(),
        ];
        // Routes to internet gateways, VPN gateways and endpoints of load balancers have the same field. A peered VPC forwards
        // nothing to the internet.
        let gateway = route.gateway_id().unwrap_or_default();
        let by_gateway = ["vgw-", "vpce-"].iter().any(|kind| gateway.starts_with(kind));
        let by_address = has_address && gateway.starts_with("igw-");
        let all = route.destination_cidr_block() == Some("0.0.0.0/0") && route.state() == Some(&RouteState::Active);
        all && (other.iter().any(Option::is_some) || by_gateway || by_address)
    };
    table.routes().iter().any(leads_out)
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{RouteTableAssociation, builders::RouteBuilder};

    use super::*;

    fn table(route: impl FnOnce(RouteBuilder) -> RouteBuilder) -> RouteTable {
        let route = route(Route::builder().destination_cidr_block("0.0.0.0/0").state(RouteState::Active));
        let local =
            Route::builder().destination_cidr_block("10.0.0.0/16").gateway_id("local").state(RouteState::Active);
        RouteTable::builder().routes(local.build()).routes(route.build()).build()
    }

    #[test]
    fn an_internet_gateway_needs_public_addresses_and_a_nat_gateway_needs_none() {
        for (route, with, without) in [
            (table(|route| route.gateway_id("igw-1")), true, false),
            (table(|route| route.nat_gateway_id("nat-1")), true, true),
            (table(|route| route.transit_gateway_id("tgw-1")), true, true),
            (table(|route| route.network_interface_id("eni-1")), true, true),
            (table(|route| route.gateway_id("vgw-1")), true, true),
            (table(|route| route.vpc_peering_connection_id("pcx-1")), false, false),
            (table(|route| route.gateway_id("local")), false, false),
            (table(|route| route.nat_gateway_id("nat-1").state(RouteState::Blackhole)), false, false),
            (table(|route| route.nat_gateway_id("nat-1").destination_cidr_block("10.1.0.0/16")), false, false),
        ] {
            assert_eq!((leads_out(&route, true), leads_out(&route, false)), (with, without), "{route:?}");
        }
    }

    #[test]
    fn an_endpoint_has_one_subnet_of_each_zone_and_keeps_it() {
        let subnet = |id: &str, zone: &str| Subnet::builder().subnet_id(id).availability_zone(zone).build();
        let workers = [subnet("b", "2"), subnet("a", "1"), subnet("c", "2")];
        assert_eq!(one_of_each_zone(&[], &workers), ["a", "b"], "the first");
        assert_eq!(
            one_of_each_zone(&[subnet("x", "2"), subnet("y", "3")], &workers),
            ["a", "x"],
            "the one that is used"
        );
    }

    #[test]
    fn a_subnet_has_its_own_route_table_or_the_main_one() {
        let of = |id: &str, association: RouteTableAssociation| {
            RouteTable::builder().route_table_id(id).associations(association).build()
        };
        let tables = [
            of("rtb-main", RouteTableAssociation::builder().main(true).build()),
            of("rtb-own", RouteTableAssociation::builder().subnet_id("subnet-1").main(false).build()),
        ];
        let found =
            ["subnet-1", "subnet-2"].map(|subnet| table_of(&tables, subnet).and_then(RouteTable::route_table_id));
        assert_eq!(found, [Some("rtb-own"), Some("rtb-main")]);
    }
}
