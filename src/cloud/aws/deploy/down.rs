//! `rollcall aws down`: terminates the cluster's machines, deletes its stack, and reports the leftovers.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context as _;
use aws_sdk_cloudformation::types::ResourceStatus;
use aws_sdk_ec2::types::Filter;
use tokio::time::{Instant, sleep};

use super::{
    super::{
        errors::{classify, code},
        tags::CLUSTER_TAG,
    },
    account::{Account, filter},
    builder,
    facts::{TEMPLATE_TAG, WEB_TEMPLATE},
    instances::{self, ALIVE},
    leftovers::{self, Leftovers, counted},
    log_group,
    stack::{Deletion, Outcome, Stack},
    wait,
};
use crate::cloud::CloudResult;
use crate::cloud::aws::call_sites::CallSite as _;

/// First and longest time between two looks at the machines while a stack is deleted. All calls of an account share one rate, and
/// the deletion of a load balancer takes minutes.
const LOOKS: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(15));
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
        instances::terminate(account, &builders).await?;
    }
    // Those of a `verify` that was killed shut down by themselves, but only after minutes.
    let probes: Vec<String> = account.probes().await?.into_iter().map(|probe| probe.id).collect();
    if !probes.is_empty() {
        eprintln!("terminating probes of an earlier verify: {}", probes.join(", "));
        instances::terminate(account, &probes).await?;
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
    /// Id of the launch template that only web nodes are launched from. By it, those of a group are found, and those that a failed
    /// update has left.
    template: Option<String>,
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
        for resource in output.map_err(|e| classify(&stack.name, e))?.stack_resources.unwrap_or_default() {
            let id = resource.physical_resource_id.filter(|id| !id.is_empty());
            // Instances keep the tag of a launch template that is deleted.
            if resource.logical_resource_id.as_deref() == Some(WEB_TEMPLATE) {
                found.template = id;
            } else if resource.resource_status != Some(ResourceStatus::DeleteComplete) {
                match resource.resource_type.as_deref() {
                    Some("AWS::EC2::Instance") => found.ids.extend(id),
                    Some("AWS::AutoScaling::AutoScalingGroup") => found.has_group = true,
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    /// Returns filters that select the web nodes. A filter has at most 200 values, and a stack has one instance.
    fn filters(&self) -> impl Iterator<Item = Filter> {
        let launched = self.template.iter().map(|template| filter(format!("tag:{TEMPLATE_TAG}"), template));
        launched.chain(self.ids.iter().map(|id| filter("instance-id", id)))
    }

    /// Returns the ids of the web nodes that are not terminated.
    async fn alive(&self, account: &Account) -> CloudResult<BTreeSet<String>> {
        let mut ids = BTreeSet::new();
        for which in self.filters() {
            ids.extend(alive(account, which).await?);
        }
        Ok(ids)
    }

    /// Terminates the web nodes that there are still.
    async fn terminate(&self, account: &Account, timeout: Duration) -> anyhow::Result<()> {
        let nodes = Vec::from_iter(self.alive(account).await?);
        if nodes.is_empty() {
            return Ok(());
        }
        eprintln!("terminating {}: {}", counted(nodes.len(), "web node"), nodes.join(", "));
        terminate(account, &nodes, timeout, async || self.alive(account).await).await
    }
}

/// Deletes the stack. Workers are terminated as soon as no web node is left that would launch others: security groups cannot be
/// deleted as long as machines use them.
///
/// # Errors
/// It cannot be deleted, although no machine of the cluster is left; or this takes too long.
async fn delete_stack(account: &Account, stack: &Stack<'_>, web: &WebTier, timeout: Duration) -> anyhow::Result<()> {
    let end_workers = async {
        let mut pause = LOOKS.0;
        loop {
            sleep(pause).await;
            pause = (pause * 5 / 4).min(LOOKS.1);
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
        let find = async || alive(account, filter(format!("tag:{CLUSTER_TAG}"), &account.cluster)).await;
        let workers = Vec::from_iter(find().await?);
        if workers.is_empty() {
            return Ok(());
        }
        if started_at.elapsed() >= timeout {
            let named = format!("{}-web", account.cluster);
            let nodes = Vec::from_iter(alive(account, filter("tag:Name", &named)).await?);
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
        terminate(account, &workers, timeout, find).await?;
    }
}

/// Returns the ids of the instances that match and are not terminated.
async fn alive(account: &Account, which: Filter) -> CloudResult<BTreeSet<String>> {
    Ok(instances::list(account, which, &ALIVE).await?.into_iter().filter_map(|i| i.instance_id).collect())
}

/// Terminates instances and waits until `find` lists none of them any more: their security groups cannot be deleted earlier.
async fn terminate(
    account: &Account,
    ids: &[String],
    timeout: Duration,
    find: impl AsyncFn() -> CloudResult<BTreeSet<String>>,
) -> anyhow::Result<()> {
    instances::terminate(account, ids).await?;
    let terminated = wait::until(timeout, async || {
        let left = find().await?;
        Ok((!ids.iter().any(|id| left.contains(id))).then_some(()))
    });
    terminated.await?.with_context(|| format!("not terminated in time, so run the command again: {}", ids.join(", ")))
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

#[cfg(test)]
mod tests;
