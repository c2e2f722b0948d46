//! `rollcall aws up`: creates or updates the cluster's stack.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use aws_sdk_cloudformation::{
    error::{ProvideErrorMetadata as _, SdkError},
    types::{Capability, Parameter, Stack as StackDescription},
};

use super::{
    super::errors::classify,
    account::{Account, BUCKETS, filter},
    architecture,
    disk_keys::disk_keys,
    endpoints, image_format, leftovers, log_group,
    network::{Network, check_web_subnet, described, has_endpoints},
    stack::{Deletion, Outcome, Stack, parameter},
    web_nodes::WebNodes,
};
use crate::cloud::aws::call_sites::CallSite as _;

/// Maximum length of the name of a bucket ("Bucket naming rules" in the user guide of S3).
const BUCKET_NAME: usize = 63;

const TEMPLATE: &str = include_str!("../../../../deploy/cloudformation.yaml");

/// Options of `rollcall aws up`. `None` keeps the value of an existing stack, and selects the template's default for a
/// new one, unless the field says otherwise.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Image of the instances; by default the cluster's newest, even for an existing stack.
    pub(crate) image: Option<String>,
    /// Image that the settings name for workers (`aws.image`), instead of that of the stack.
    pub(crate) worker_image: Option<String>,
    /// VPC of a new stack; by default the region's default VPC.
    pub(crate) vpc: Option<String>,
    /// Subnet of the web node, and of the workers if `vpc` is given and `worker_subnets` is not; for a new stack, by default the
    /// first default subnet of the VPC.
    pub(crate) subnet: Option<String>,
    /// Subnets of the workers, separated by commas.
    pub(crate) worker_subnets: Option<String>,
    /// Whether workers have no public address.
    pub(crate) private_workers: bool,
    /// Whether the stack has the VPC endpoints that private workers need.
    pub(crate) endpoints: bool,
    /// Address range (CIDR) from which uploads are accepted. Required for a new stack.
    pub(crate) allow_from: Option<String>,
    /// Key pair for SSH.
    pub(crate) key: Option<String>,
    /// Instance type of the web nodes.
    pub(crate) web_type: Option<String>,
    /// Their number, and what several need.
    pub(crate) web_nodes: WebNodes,
    /// Instance types of the workers in order of preference, separated by commas.
    pub(crate) worker_type: Option<String>,
    /// Number of days for which uploads are kept.
    pub(crate) retention_days: Option<u16>,
    /// Number of days for which entries of the audit log are kept.
    pub(crate) audit_days: Option<u16>,
    /// Number of days for which logs are kept.
    pub(crate) log_days: Option<u16>,
    /// Address that alarms are sent to; empty for none.
    pub(crate) alarm_email: Option<String>,
    /// Cost of the workers of a day above which there is an alarm, in US dollars; empty for none.
    pub(crate) daily_cost: Option<String>,
    /// ARN of the KMS key that encrypts objects; empty for S3's own keys.
    pub(crate) kms_key: Option<String>,
    /// Maximum time to wait for each change of the stack.
    pub(crate) timeout: Duration,
    /// Whether to ask on the terminal before a stack is created that costs money from then on, or is changed so that it costs more.
    pub(crate) ask: bool,
}

/// The result of [`up`].
pub(crate) struct Up {
    /// Whether the stack was changed.
    pub(crate) changed: bool,
    /// The stack's outputs: names and values.
    pub(crate) outputs: Vec<(String, String)>,
}

/// Creates or updates the stack and waits for the change to complete. First deletes a stack whose creation failed.
///
/// # Errors
/// [`image_format::UnfitImage`], before anything is changed; or a required option is missing, the stack is in a state that cannot
/// be updated, a call to AWS failed, or the change failed or took too long.
pub(crate) async fn up(account: &Account, mut options: Options) -> anyhow::Result<Up> {
    let stack = Stack::new(account);
    options.image = choose_image(account, &stack, options.image).await?;
    for image in options.image.iter().chain(&options.worker_image) {
        image_format::check(account, image).await?;
    }
    let (timeout, ask) = (options.timeout, options.ask);
    let failed_creation = ["CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "REVIEW_IN_PROGRESS"];
    let existing = match stack.wait(timeout).await? {
        outcome if outcome.permits_updates() => stack.describe().await?,
        Outcome::Deleted | Outcome::Complete => None,
        Outcome::Failed(state) if failed_creation.contains(&state.as_str()) => {
            eprintln!("deleting the stack {}, whose creation failed earlier ({state})", stack.name);
            if let Deletion::Failed(why) = stack.delete(timeout).await? {
                return Err(stack.undeletable(&why));
            }
            None
        }
        Outcome::Failed(state) => anyhow::bail!(
            "the stack {} cannot be changed in the state {state}: fix it in the CloudFormation console, or take it \
             down with `rollcall aws down` (data and images stay)",
            stack.name
        ),
    };
    let log_days = options.log_days;
    check_key(options.kms_key.as_deref(), existing.as_ref())?;
    check_network(account, options.vpc.as_deref(), options.subnet.as_deref(), existing.as_ref()).await?;
    let cost = options.web_nodes.cost(existing.as_ref());
    let parameters = parameters(account, options, existing.as_ref()).await?;
    #[expect(clippy::disallowed_methods, reason = "compared with the times of the stack's events")]
    let started_at = SystemTime::now();
    let verb = if existing.is_some() { "updating" } else { "creating" };
    eprintln!("{verb} the stack {}", stack.name);
    if let Some(cost) = cost {
        eprintln!("{cost}");
        anyhow::ensure!(!ask || go_on()?, "nothing was {}", if existing.is_some() { "changed" } else { "created" });
    }
    let changed = match existing {
        None => {
            create(account, &stack, parameters).await?;
            true
        }
        Some(_) => update(account, &stack, parameters).await?,
    };
    match stack.wait(timeout).await? {
        Outcome::Complete => {}
        Outcome::Failed(state) => {
            anyhow::bail!("{verb} the stack {} failed ({state}):\n{}", stack.name, stack.failures(started_at).await)
        }
        Outcome::Deleted => anyhow::bail!("the stack {} was deleted in the meantime", stack.name),
    }
    // A log group that is left over from an earlier stack is not one of its resources.
    if let Some(days) = log_days {
        log_group::retain(account, days).await?;
    }
    let described = stack.describe().await?.with_context(|| format!("the stack {} is gone", stack.name))?;
    let outputs = described.outputs.unwrap_or_default().into_iter();
    let outputs: Vec<(String, String)> = outputs.filter_map(|o| Some((o.output_key?, o.output_value?))).collect();
    Ok(Up { changed, outputs })
}

/// Returns the image of the stack after the change: the one that was asked for, or else the cluster's newest that is available, or
/// else the one that the stack has.
async fn choose_image(account: &Account, stack: &Stack<'_>, asked: Option<String>) -> anyhow::Result<Option<String>> {
    if asked.is_some() {
        return Ok(asked);
    }
    let mut images = leftovers::images(account).await?;
    while let Some(image) = images.pop_if(|image| image.state != image_format::AVAILABLE) {
        eprintln!("the image {} is not used: it is {}", image.id, image.state);
    }
    Ok(match images.pop() {
        Some(newest) => Some(newest.id),
        None => stack.describe().await?.and_then(|stack| parameter(&stack, "Image").map(str::to_owned)),
    })
}

/// Asks whether to go on.
fn go_on() -> std::io::Result<bool> {
    eprint!("go on? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Starts creating the stack.
async fn create(account: &Account, stack: &Stack<'_>, parameters: Vec<Parameter>) -> anyhow::Result<()> {
    // The stack must not carry the cluster tag: CloudFormation would propagate it to the web node, and the controller
    // would take that for a worker.
    let call = account.cloudformation.create_stack().stack_name(&stack.name).template_body(TEMPLATE);
    let call = call.set_parameters(Some(parameters)).capabilities(Capability::CapabilityIam);
    call.recorded().send().await.map_err(|e| classify(&format!("stack {}", stack.name), e))?;
    Ok(())
}

/// Starts updating the stack. Returns `false` if there is nothing to update.
async fn update(account: &Account, stack: &Stack<'_>, parameters: Vec<Parameter>) -> anyhow::Result<bool> {
    let call = account.cloudformation.update_stack().stack_name(&stack.name).template_body(TEMPLATE);
    let call = call.set_parameters(Some(parameters)).capabilities(Capability::CapabilityIam);
    match call.recorded().send().await {
        Ok(_) => Ok(true),
        Err(SdkError::ServiceError(e)) if e.err().message().is_some_and(|m| m.contains("No updates")) => Ok(false),
        Err(error) => Err(classify(&format!("stack {}", stack.name), error).into()),
    }
}

/// Refuses another key than that of an existing stack: nobody could read any more what is encrypted with it.
fn check_key(wanted: Option<&str>, existing: Option<&StackDescription>) -> anyhow::Result<()> {
    let current = existing.and_then(|stack| parameter(stack, "KmsKey")).filter(|key| !key.is_empty());
    if let Some((wanted, current)) = wanted.zip(current).filter(|(wanted, current)| wanted != current) {
        anyhow::bail!(
            "--kms-key {wanted:?}: objects of this cluster are encrypted with {current}, and the roles could not read them any \
             more: take the cluster down with --delete-data first, or keep the key"
        );
    }
    Ok(())
}

/// Refuses another network than that of an existing stack, whose security groups cannot leave it.
async fn check_network(
    account: &Account,
    vpc: Option<&str>,
    subnet: Option<&str>,
    existing: Option<&StackDescription>,
) -> anyhow::Result<()> {
    let Some(current) = existing.and_then(|stack| parameter(stack, "Vpc")) else { return Ok(()) };
    if let Some(vpc) = vpc.filter(|vpc| *vpc != current) {
        anyhow::bail!(
            "--vpc {vpc}: the stack {} is in {current}, and its security groups cannot leave that: take the cluster down with \
             `rollcall aws down` first (data and images stay), or leave --vpc out",
            account.cluster
        );
    }
    if let Some(subnet) = subnet {
        described(account, current, subnet).await?;
    }
    Ok(())
}

async fn parameters(
    account: &Account,
    options: Options,
    existing: Option<&StackDescription>,
) -> anyhow::Result<Vec<Parameter>> {
    let mut given: Vec<(String, String)> = vec![("Cluster".into(), account.cluster.clone())];
    let granted = existing.and_then(|stack| parameter(stack, "DiskKeys"));
    let disk_keys = disk_keys(account, options.image.as_deref(), granted).await?;
    given.push(("DiskKeys".to_owned(), disk_keys.into_iter().collect::<Vec<_>>().join(",")));
    let image = options.image;
    let (web_type, worker_type) =
        types(account, image.as_deref(), options.web_type, options.worker_type, existing).await?;
    let (mut vpc, mut subnet) = (options.vpc, options.subnet);
    // Without a subnet, EC2 chooses one of the default VPC, where the workers' security group does not exist.
    let mut worker_subnets = options.worker_subnets.or(if vpc.is_some() { subnet.clone() } else { None });
    if existing.is_none() {
        let advice = "create one with `rollcall aws bake`, or specify one with --image";
        anyhow::ensure!(image.is_some(), "the cluster {} has no image: {advice}", account.cluster);
        anyhow::ensure!(
            options.allow_from.is_some(),
            "--allow-from is missing: tokens travel unencrypted, so specify the address range that can reach the web node, \
             for example 203.0.113.0/24"
        );
        if vpc.is_none() {
            vpc = Some(default_vpc(account).await?);
        }
        let network = vpc.as_deref().unwrap_or_default();
        match &subnet {
            None => subnet = Some(default_subnet(account, network).await?),
            Some(subnet) if options.web_nodes.are_several() => drop(described(account, network, subnet).await?),
            Some(subnet) => check_web_subnet(account, network, subnet).await?,
        }
        given.extend(buckets(account).await?);
        if options.private_workers || options.endpoints {
            worker_subnets = worker_subnets.or(subnet.clone());
        }
        let kept = log_group::stored(account).await?.is_some();
        given.push(("MakeLogs".into(), if kept { "no" } else { "yes" }.to_owned()));
    }
    let (private_workers, endpoints) = (options.private_workers, options.endpoints);
    let network =
        Network { vpc: vpc.as_deref(), worker_subnets: worker_subnets.as_deref(), private_workers, endpoints };
    if private_workers || endpoints || worker_subnets.is_some() || has_endpoints(existing) {
        given.extend(network.parameters(account, existing).await?);
    }
    let machines: BTreeSet<&str> = worker_subnets.iter().chain(&subnet).flat_map(|ids| ids.split(',')).collect();
    let network = vpc.as_deref().or_else(|| existing.and_then(|stack| parameter(stack, "Vpc")));
    if let Some(vpc) = network.filter(|_| !machines.is_empty()) {
        let machines = described(account, vpc, &machines.into_iter().collect::<Vec<_>>().join(",")).await?;
        endpoints::check_admission(account, vpc, &machines, existing.is_some()).await?;
    }
    for (key, value) in [
        ("Image", image),
        ("Vpc", vpc),
        ("Subnet", subnet),
        ("AllowFrom", options.allow_from),
        ("Key", options.key),
        ("WebType", web_type),
        ("WorkerType", worker_type),
        ("WorkerSubnets", worker_subnets),
        ("PrivateWorkers", private_workers.then(|| "yes".to_owned())),
        ("RetentionDays", options.retention_days.map(|days| days.to_string())),
        ("AuditDays", options.audit_days.map(|days| days.to_string())),
        ("LogDays", options.log_days.map(|days| days.to_string())),
        ("AlarmEmail", options.alarm_email),
        ("DailyCost", options.daily_cost),
        ("KmsKey", options.kms_key),
    ] {
        given.extend(value.map(|value| (key.to_owned(), value)));
    }
    let vpc = given.iter().find(|(key, _)| key == "Vpc").map(|(_, id)| id.clone());
    given.extend(options.web_nodes.parameters(account, vpc.as_deref(), existing).await?);
    let kept = existing.map_or(&[][..], |stack| stack.parameters()).iter().filter_map(|p| p.parameter_key());
    let kept = kept.filter(|key| !given.iter().any(|(name, _)| name == key) && has_parameter(key));
    let kept: Vec<Parameter> =
        kept.map(|key| Parameter::builder().parameter_key(key).use_previous_value(true).build()).collect();
    let given = given.iter().map(|(key, value)| Parameter::builder().parameter_key(key).parameter_value(value).build());
    Ok(given.chain(kept).collect())
}

/// Returns whether the template has this parameter. The stack of a later release may have others, which CloudFormation would refuse.
fn has_parameter(key: &str) -> bool {
    let (_, section) = TEMPLATE.split_once("\nParameters:\n").unwrap_or_default();
    let mut section = section.lines().take_while(|line| line.starts_with(' '));
    section.any(|line| line.strip_prefix("  ").and_then(|line| line.strip_suffix(':')) == Some(key))
}

/// Returns the parameters about the buckets of a new stack: those that an earlier stack has left are used again with their
/// data.
///
/// # Errors
/// The names would be too long, or belong to somebody else.
async fn buckets(account: &Account) -> anyhow::Result<Vec<(String, String)>> {
    let longest = BUCKETS.map(|purpose| account.bucket(purpose).len()).into_iter().max().unwrap_or_default();
    anyhow::ensure!(
        longest <= BUCKET_NAME,
        "the cluster's name {} is {} characters too long: S3 permits {BUCKET_NAME} in the names of buckets, which also contain the \
         account and the region {} (cloud.cluster)",
        account.cluster,
        longest - BUCKET_NAME,
        account.region
    );
    let mut of_earlier_release = false;
    for purpose in BUCKETS {
        of_earlier_release |= leftovers::exists(account, &account.bucket_without_region(purpose)).await?;
    }
    let suffix = if of_earlier_release { String::new() } else { account.bucket_suffix() };
    let mut given = vec![("BucketSuffix".to_owned(), suffix)];
    for purpose in BUCKETS {
        let bucket = if of_earlier_release { account.bucket_without_region(purpose) } else { account.bucket(purpose) };
        let exists = leftovers::exists(account, &bucket).await?;
        let name = format!("Make{}{}", purpose[..1].to_uppercase(), &purpose[1..]);
        given.push((name, if exists { "no" } else { "yes" }.to_owned()));
    }
    Ok(given)
}

/// Returns the types of the web node and of the workers to set: what the options say, or what the image needs.
///
/// # Errors
/// Machines of these types, or of those of the existing stack, cannot run the image.
async fn types(
    account: &Account,
    image: Option<&str>,
    mut web: Option<String>,
    mut workers: Option<String>,
    existing: Option<&StackDescription>,
) -> anyhow::Result<(Option<String>, Option<String>)> {
    let current = |key: &str| existing.and_then(|stack| parameter(stack, key)).map(str::to_owned);
    let Some(image) = image else { return Ok((web, workers)) };
    let of_image = architecture::of_image(account, image).await?;
    if existing.is_none()
        && (web.is_none() || workers.is_none())
        && let Some(default) = architecture::default_types(account, &of_image).await?
    {
        web.get_or_insert(default.web);
        workers.get_or_insert(default.workers);
    }
    let used = [web.clone().or_else(|| current("WebType")), workers.clone().or_else(|| current("WorkerType"))];
    let used: Vec<String> = used.into_iter().flatten().collect();
    architecture::check(account, image, &of_image, &used).await?;
    Ok((web, workers))
}

async fn default_vpc(account: &Account) -> anyhow::Result<String> {
    let output = account.ec2.describe_vpcs().filters(filter("is-default", "true")).recorded().send().await;
    let vpcs = output.map_err(|e| classify("VPCs", e))?.vpcs.unwrap_or_default();
    let id = vpcs.into_iter().find_map(|vpc| vpc.vpc_id);
    id.with_context(|| format!("{} has no default VPC: specify one with --vpc and --subnet", account.region))
}

async fn default_subnet(account: &Account, vpc: &str) -> anyhow::Result<String> {
    let call = account.ec2.describe_subnets().filters(filter("vpc-id", vpc));
    let output = call.filters(filter("default-for-az", "true")).recorded().send().await;
    let subnets = output.map_err(|e| classify("subnets", e))?.subnets.unwrap_or_default();
    let mut subnets: Vec<_> = subnets.into_iter().filter_map(|s| Some((s.availability_zone, s.subnet_id?))).collect();
    subnets.sort();
    let first = subnets.into_iter().next();
    Ok(first.with_context(|| format!("{vpc} has no default subnet: specify one with --subnet"))?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest template that a call contains (`TemplateBody` in the API reference of `CreateStack`); a larger one would need
    /// a bucket.
    const MAX_TEMPLATE: usize = 51_200;

    #[test]
    fn the_template_fits_into_a_call() {
        assert!(TEMPLATE.len() <= MAX_TEMPLATE, "{} bytes", TEMPLATE.len());
    }
}
