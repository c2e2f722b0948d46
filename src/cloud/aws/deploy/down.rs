//! `rollcall aws down`: terminates the cluster's machines, deletes its stack, and reports the leftovers.

use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_cloudformation::types::ResourceStatus;
use aws_sdk_ec2::types::{Filter, Instance, InstanceStateName};
use tokio::time::{Instant, sleep};

use super::{
    super::{
        errors::{classify, code},
        tags::CLUSTER_TAG,
    },
    account::{Account, filter},
    builder,
    leftovers::{self, Leftovers, counted},
    log_group,
    stack::{Deletion, Outcome, Stack},
    wait,
};
use crate::cloud::CloudResult;
use crate::cloud::aws::call_sites::CallSite as _;

/// Logical id of the web nodes' instance profile in the template.
const WEB_PROFILE: &str = "WebProfile";
/// Time between two looks at the machines while a stack is deleted.
const LOOK: Duration = Duration::from_secs(3);
/// Queues in a page of a list: the most that SQS returns.
const QUEUES_PER_PAGE: i32 = 1_000;

/// What to delete in addition to machines and stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Delete the buckets with all data, and the logs.
    pub(crate) delete_data: bool,
    /// Delete images and their snapshots.
    pub(crate) delete_images: bool,
    /// Maximum time to wait for each step.
    pub(crate) timeout: Duration,
}

/// Takes the cluster down and returns what is left of it. Idempotent: it may be repeated after an error.
///
/// # Errors
/// A step failed or took too long; the message says what is left and what to do.
pub(crate) async fn down(account: &Account, options: Options) -> anyhow::Result<Leftovers> {
    let (stack, timeout) = (Stack::new(account), options.timeout);
    let state = stack.wait(timeout).await?;
    // The web nodes first: their controllers would replace the workers.
    let web = WebTier::of(account, &stack).await?;
    if state.permits_updates() {
        if web.has_group {
            eprintln!("terminating the web nodes and their load balancer");
            if let Some(why) = stack.remove_web_nodes(timeout).await? {
                eprintln!("the web nodes of the stack {} were not removed ({why}), so it is deleted first", stack.name);
                delete_stack(account, &stack, &web, timeout).await?;
            }
        }
    } else if let Outcome::Failed(state) = state {
        eprintln!("deleting the stack {}, which cannot be changed in the state {state}", stack.name);
        delete_stack(account, &stack, &web, timeout).await?;
    }
    web.terminate(account, timeout).await?;
    terminate_workers(account, timeout).await?;
    let builders: Vec<String> = builder::list(account).await?.into_iter().filter_map(|i| i.instance_id).collect();
    if !builders.is_empty() {
        eprintln!("terminating builders of an earlier bake: {}", builders.join(", "));
        builder::terminate(account, &builders).await?;
    }
    if stack.describe().await?.is_some() {
        eprintln!("deleting the stack {}", stack.name);
        delete_stack(account, &stack, &web, timeout).await?;
    }
    delete_reply_queues(account).await?;
    if options.delete_data {
        for bucket in account.buckets() {
            leftovers::delete_bucket(account, &bucket).await.context("not all data was deleted")?;
        }
        log_group::delete(account).await.context("the logs were not deleted")?;
    }
    if options.delete_images {
        for image in leftovers::images(account).await? {
            leftovers::delete_image(account, &image.id).await.context("not all images were deleted")?;
        }
    }
    Leftovers::of(account).await
}

/// The web nodes of a stack.
#[derive(Debug, Default)]
struct WebTier {
    /// Those that are resources of the stack.
    ids: Vec<String>,
    /// Name of the instance profile that only web nodes have. By it, those of a group are found, and those that a failed update
    /// has left.
    profile: Option<String>,
    /// Whether there is a group, which would replace instances that somebody else terminates.
    has_group: bool,
}

impl WebTier {
    /// Finds the web tier of the stack, as far as it is not deleted.
    async fn of(account: &Account, stack: &Stack<'_>) -> anyhow::Result<Self> {
        let mut found = Self::default();
        if stack.describe().await?.is_none() {
            return Ok(found);
        }
        let output = account.cloudformation.describe_stack_resources().stack_name(&stack.name).recorded().send().await;
        let resources = output.map_err(|e| classify(&stack.name, e))?.stack_resources.unwrap_or_default().into_iter();
        for resource in resources.filter(|r| r.resource_status() != Some(&ResourceStatus::DeleteComplete)) {
            match resource.resource_type.as_deref() {
                Some("AWS::EC2::Instance") => found.ids.extend(resource.physical_resource_id),
                Some("AWS::AutoScaling::AutoScalingGroup") => found.has_group = true,
                Some("AWS::IAM::InstanceProfile") if resource.logical_resource_id.as_deref() == Some(WEB_PROFILE) => {
                    found.profile = resource.physical_resource_id.filter(|name| !name.is_empty());
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Returns the ids of the web nodes that are not terminated.
    async fn alive(&self, account: &Account) -> CloudResult<Vec<String>> {
        let is_web = |instance: &Instance| {
            let profile = instance
                .iam_instance_profile()
                .and_then(|profile| profile.arn())
                .and_then(|arn| arn.rsplit('/').next());
            let id = instance.instance_id().unwrap_or_default();
            self.ids.iter().any(|known| known == id)
                || profile.is_some_and(|name| self.profile.as_deref() == Some(name))
        };
        if self.ids.is_empty() && self.profile.is_none() {
            return Ok(Vec::new());
        }
        alive(account, Vec::new(), is_web).await
    }

    /// Terminates the web nodes that there are still.
    async fn terminate(&self, account: &Account, timeout: Duration) -> anyhow::Result<()> {
        let nodes = self.alive(account).await?;
        if !nodes.is_empty() {
            eprintln!("terminating {}: {}", counted(nodes.len(), "web node"), nodes.join(", "));
            terminate(account, nodes, timeout).await?;
        }
        Ok(())
    }
}

/// Deletes the stack. Workers are terminated as soon as no web node is left that would launch others: security groups cannot be
/// deleted as long as machines use them.
///
/// # Errors
/// It cannot be deleted, although no machine of the cluster is left; or this takes too long.
async fn delete_stack(account: &Account, stack: &Stack<'_>, web: &WebTier, timeout: Duration) -> anyhow::Result<()> {
    let end_workers = async {
        loop {
            sleep(LOOK).await;
            if web.alive(account).await?.is_empty() {
                terminate_workers(account, timeout).await?;
            }
        }
    };
    let deletion = tokio::select! {
        deletion = stack.delete(timeout) => deletion?,
        ended = end_workers => return ended,
    };
    if deletion == Deletion::Done {
        return Ok(());
    }
    web.terminate(account, timeout).await?;
    terminate_workers(account, timeout).await?;
    eprintln!("deleting the stack {} again", stack.name);
    match stack.delete(timeout).await? {
        Deletion::Done => Ok(()),
        Deletion::Failed(why) => Err(stack.undeletable(&why)),
    }
}

/// Terminates the workers until there is none: a launch may have been in flight.
///
/// # Errors
/// There are workers after `timeout`, because something launches others.
async fn terminate_workers(account: &Account, timeout: Duration) -> anyhow::Result<()> {
    let started_at = Instant::now();
    loop {
        let workers = alive(account, vec![filter(format!("tag:{CLUSTER_TAG}"), &account.cluster)], |_| true).await?;
        if workers.is_empty() {
            return Ok(());
        }
        if started_at.elapsed() >= timeout {
            let named = format!("{}-web", account.cluster);
            let nodes = alive(account, vec![filter("tag:Name", &named)], |_| true).await?;
            anyhow::bail!(
                "{} launched again as soon as others are terminated: {}. A controller of the cluster {} still runs, outside of the \
                 stack{}. End it, and run the command again",
                if workers.len() == 1 { "a worker is" } else { "workers are" },
                workers.join(", "),
                account.cluster,
                if nodes.is_empty() { String::new() } else { format!(", maybe on {named} ({})", nodes.join(", ")) }
            );
        }
        eprintln!("terminating {}", counted(workers.len(), "worker"));
        terminate(account, workers, timeout).await?;
    }
}

/// Returns the ids of the instances that match and are not terminated.
async fn alive(
    account: &Account,
    filters: Vec<Filter>,
    matches: impl Fn(&Instance) -> bool,
) -> CloudResult<Vec<String>> {
    let filters = Some(filters).filter(|filters| !filters.is_empty());
    let mut pages = account.ec2.describe_instances().set_filters(filters).into_paginator().recorded().send();
    let mut ids = Vec::new();
    while let Some(page) = pages.next().await {
        let reservations = page.map_err(|e| classify("describe", e))?.reservations.unwrap_or_default();
        let found = reservations.into_iter().flat_map(|r| r.instances.unwrap_or_default());
        let alive = found.filter(|i| i.state().and_then(|s| s.name()) != Some(&InstanceStateName::Terminated));
        ids.extend(alive.filter(&matches).filter_map(|i| i.instance_id));
    }
    Ok(ids)
}

/// Terminates instances and waits until they are terminated: their security groups cannot be deleted earlier.
async fn terminate(account: &Account, ids: Vec<String>, timeout: Duration) -> anyhow::Result<()> {
    let all = ids.join(", ");
    let gone = "InvalidInstanceID.NotFound"; // EC2 forgets terminated instances
    match account.ec2.terminate_instances().set_instance_ids(Some(ids.clone())).recorded().send().await {
        Err(error) if code(&error) != gone => return Err(classify("terminate", error).into()),
        _ => {}
    }
    let terminated = wait::until(timeout, async || {
        match account.ec2.describe_instances().set_instance_ids(Some(ids.clone())).recorded().send().await {
            Err(error) if code(&error) == gone => Ok(Some(())),
            Err(error) => Err(classify("describe", error).into()),
            Ok(output) => {
                let mut states =
                    output.reservations().iter().flat_map(|r| r.instances()).filter_map(|i| i.state()?.name());
                Ok(states.all(|state| *state == InstanceStateName::Terminated).then_some(()))
            }
        }
    });
    terminated.await?.with_context(|| format!("not terminated in time, so run the command again: {all}"))
}

/// Deletes the reply queues of additional web nodes, which are not part of the stack. Their names begin with that of the stack's,
/// but so do those of a cluster with a longer name: the tag tells whose a queue is.
async fn delete_reply_queues(account: &Account) -> anyhow::Result<()> {
    let gone = |code: &str| code.ends_with("NonExistentQueue") || code.ends_with("DoesNotExist");
    let shared = format!("{}-speaker", account.cluster);
    let listed = account.sqs.list_queues().queue_name_prefix(&shared).max_results(QUEUES_PER_PAGE);
    let mut pages = listed.into_paginator().recorded().send();
    let mut urls = Vec::new();
    while let Some(page) = pages.next().await {
        urls.extend(page.map_err(|e| classify("queues", e))?.queue_urls.unwrap_or_default());
    }
    urls.retain(|url| url.rsplit('/').next() != Some(shared.as_str()));
    for url in urls {
        let tags = match account.sqs.list_queue_tags().queue_url(&url).recorded().send().await {
            Err(error) if gone(code(&error)) => continue,
            output => output.map_err(|e| classify(&url, e))?.tags.unwrap_or_default(),
        };
        if tags.get(CLUSTER_TAG) != Some(&account.cluster) {
            continue;
        }
        match account.sqs.delete_queue().queue_url(&url).recorded().send().await {
            Err(error) if !gone(code(&error)) => return Err(classify(&url, error).into()),
            _ => eprintln!("deleted the reply queue {url}"),
        }
    }
    Ok(())
}
