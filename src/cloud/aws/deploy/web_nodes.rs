//! The number of web nodes of a stack, and what several of them need: subnets in two zones and a certificate.

use std::collections::BTreeSet;

use anyhow::Context as _;
use aws_sdk_cloudformation::types::Stack as StackDescription;
use aws_sdk_ec2::types::Subnet;

use super::{
    super::errors::classify,
    account::{Account, filter},
    network::described,
    stack::parameter,
};
use crate::cloud::aws::call_sites::CallSite as _;

/// What a cluster with the defaults costs at rest: the totals of the tables in `docs/aws.md`, with its prices.
const COST_AT_REST: &str = "at rest, a cluster costs about 26.53 $ a month at the prices of us-east-1 in mid-2025, most of it \
     the web node (--web-type); docs/aws.md says how this is computed";
const COST_OF_SEVERAL: &str = "at rest, a cluster with two web nodes and their load balancer costs about 70.56 $ a month at \
     the prices of us-east-1 in mid-2025, and each further web node 20.06 $; docs/aws.md says how this is computed";

/// Options about web nodes; see [`super::up::Options`].
#[derive(Clone, Debug, Default)]
pub(crate) struct WebNodes {
    /// How many there are; by default one for a new stack.
    pub(crate) count: Option<u8>,
    /// Subnets of several web nodes, separated by commas; by default the default subnets of two zones.
    pub(crate) subnets: Option<String>,
    /// ARN of the certificate of the load balancer in front of several web nodes.
    pub(crate) certificate: Option<String>,
}

impl WebNodes {
    /// Returns whether several are asked for.
    pub(super) fn are_several(&self) -> bool {
        self.count.is_some_and(|count| count > 1)
    }

    /// Returns what the cluster costs at rest, unless it exists and costs as much already.
    pub(super) fn cost(&self, existing: Option<&StackDescription>) -> Option<&'static str> {
        let several = self.are_several();
        let had_several = !matches!(current(existing, "WebNodes"), None | Some("0" | "1"));
        match existing {
            None => Some(if several { COST_OF_SEVERAL } else { COST_AT_REST }),
            Some(_) => (several && !had_several).then_some(COST_OF_SEVERAL),
        }
    }

    /// Returns the parameters of the template. `vpc` is the network of the stack.
    ///
    /// # Errors
    /// Several nodes have no certificate, or their subnets are not in two zones.
    pub(super) async fn parameters(
        self,
        account: &Account,
        vpc: Option<&str>,
        existing: Option<&StackDescription>,
    ) -> anyhow::Result<Vec<(String, String)>> {
        let count = match (self.count, current(existing, "WebNodes")) {
            (Some(count), _) => count,
            (None, Some("0")) => anyhow::bail!(
                "`rollcall aws down` has begun to take this cluster down: finish it, or specify --web-nodes"
            ),
            (None, current) => current.and_then(|count| count.parse().ok()).unwrap_or(1),
        };
        let mut parameters = Vec::new();
        let mut give = |key: &str, value: Option<String>| parameters.extend(value.map(|value| (key.to_owned(), value)));
        give("WebNodes", self.count.map(|count| count.to_string()));
        if count == 1 {
            anyhow::ensure!(
                self.subnets.is_none() && self.certificate.is_none(),
                "--web-subnets and --certificate are for several web nodes: specify --web-nodes"
            );
            return Ok(parameters);
        }
        anyhow::ensure!(
            self.certificate.is_some() || current(existing, "Certificate").is_some(),
            "--certificate is missing: clients reach several web nodes by HTTPS, so specify the ARN of a certificate in ACM in \
             {}",
            account.region
        );
        give("Certificate", self.certificate);
        if self.subnets.is_some() || current(existing, "WebSubnets").is_none() {
            let vpc = vpc.or_else(|| current(existing, "Vpc")).context("the stack has no VPC")?;
            let subnets = match self.subnets {
                Some(ids) => given(account, vpc, &ids).await?,
                None => defaults(account, vpc).await?,
            };
            let ranges = subnets.iter().filter_map(Subnet::cidr_block).collect::<Vec<_>>().join(",");
            give("WebProxies", Some(ranges));
            give("WebSubnets", Some(subnets.iter().filter_map(Subnet::subnet_id).collect::<Vec<_>>().join(",")));
        }
        Ok(parameters)
    }
}

/// Returns the value of a parameter of the stack, unless it is empty.
fn current<'a>(existing: Option<&'a StackDescription>, key: &str) -> Option<&'a str> {
    existing.and_then(|stack| parameter(stack, key)).filter(|value| !value.is_empty())
}

/// Describes the subnets of a load balancer, which are given by their ids, separated by commas.
async fn given(account: &Account, vpc: &str, ids: &str) -> anyhow::Result<Vec<Subnet>> {
    let subnets = described(account, vpc, ids).await.context("--web-subnets")?;
    anyhow::ensure!(zones(&subnets) >= 2, "--web-subnets {ids}: a load balancer needs subnets in at least two zones");
    let mut seen = BTreeSet::new();
    let mut in_zones = subnets.iter().filter_map(Subnet::availability_zone);
    if let Some(zone) = in_zones.find(|zone| !seen.insert(*zone)) {
        anyhow::bail!("--web-subnets {ids}: two of them are in {zone}, and a load balancer has one in each zone");
    }
    Ok(subnets)
}

/// Returns the default subnets of the first two zones.
async fn defaults(account: &Account, vpc: &str) -> anyhow::Result<Vec<Subnet>> {
    let call = account.ec2.describe_subnets().filters(filter("vpc-id", vpc));
    let output = call.filters(filter("default-for-az", "true")).recorded().send().await;
    let mut subnets = output.map_err(|e| classify("subnets", e))?.subnets.unwrap_or_default();
    subnets.sort_by(|a, b| a.availability_zone().cmp(&b.availability_zone()));
    subnets.truncate(2);
    anyhow::ensure!(zones(&subnets) == 2, "{vpc} has no default subnets in two zones: specify them with --web-subnets");
    Ok(subnets)
}

/// Returns in how many zones the subnets are.
fn zones(subnets: &[Subnet]) -> usize {
    subnets.iter().filter_map(Subnet::availability_zone).collect::<BTreeSet<_>>().len()
}
