//! `rollcall aws down`: terminates the cluster's machines, deletes its stack, and reports the leftovers.

use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_cloudformation::types::ResourceStatus;
use aws_sdk_ec2::types::InstanceStateName;

use super::{
    super::{
        errors::{classify, code},
        tags::CLUSTER_TAG,
    },
    account::{Account, filter},
    builder,
    leftovers::{self, Leftovers, counted},
    log_group,
    stack::Stack,
    wait,
};
use crate::cloud::CloudResult;
use crate::cloud::aws::call_sites::CallSite as _;

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
/// A step failed or took too long.
pub(crate) async fn down(account: &Account, options: Options) -> anyhow::Result<Leftovers> {
    let stack = Stack::new(account);
    // The web node first: its controller would replace the workers.
    match web(account, &stack).await? {
        Some(Web::Single(id)) => {
            eprintln!("terminating the web node {id}");
            terminate(account, vec![id], options.timeout).await?;
        }
        Some(Web::Group) => {
            eprintln!("terminating the web nodes and their load balancer");
            stack.remove_web_nodes(options.timeout).await?;
        }
        None => {}
    }
    // Repeated, because a launch may have been in flight.
    loop {
        let workers = workers(account).await?;
        if workers.is_empty() {
            break;
        }
        eprintln!("terminating {}", counted(workers.len(), "worker"));
        terminate(account, workers, options.timeout).await?;
    }
    let builders: Vec<String> = builder::list(account).await?.into_iter().filter_map(|i| i.instance_id).collect();
    if !builders.is_empty() {
        eprintln!("terminating builders of an earlier bake: {}", builders.join(", "));
        builder::terminate(account, &builders).await?;
    }
    if stack.describe().await?.is_some() {
        eprintln!("deleting the stack {}", stack.name);
        stack.delete(options.timeout).await?;
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
enum Web {
    /// One instance with this id.
    Single(String),
    /// A group, which would replace instances that somebody else terminates.
    Group,
}

/// Returns the web nodes of the stack, unless they are deleted.
async fn web(account: &Account, stack: &Stack<'_>) -> anyhow::Result<Option<Web>> {
    if stack.describe().await?.is_none() {
        return Ok(None);
    }
    let output = account.cloudformation.describe_stack_resources().stack_name(&stack.name).recorded().send().await;
    let resources = output.map_err(|e| classify(&stack.name, e))?.stack_resources.unwrap_or_default().into_iter();
    let mut there = resources.filter(|r| r.resource_status() != Some(&ResourceStatus::DeleteComplete));
    Ok(there.find_map(|r| match r.resource_type.as_deref()? {
        "AWS::EC2::Instance" => r.physical_resource_id.map(Web::Single),
        "AWS::AutoScaling::AutoScalingGroup" => Some(Web::Group),
        _ => None,
    }))
}

/// Returns the instances with the cluster's tag that are not terminated.
async fn workers(account: &Account) -> CloudResult<Vec<String>> {
    let ours = filter(format!("tag:{CLUSTER_TAG}"), &account.cluster);
    let mut pages = account.ec2.describe_instances().filters(ours).into_paginator().recorded().send();
    let mut ids = Vec::new();
    while let Some(page) = pages.next().await {
        let reservations = page.map_err(|e| classify("describe", e))?.reservations.unwrap_or_default();
        let found = reservations.into_iter().flat_map(|r| r.instances.unwrap_or_default());
        let alive = found.filter(|i| i.state().and_then(|s| s.name()) != Some(&InstanceStateName::Terminated));
        ids.extend(alive.filter_map(|i| i.instance_id));
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
    terminated.await?.with_context(|| format!("not terminated in time: {all}"))
}

/// Deletes the reply queues of additional web nodes, which are not part of the stack.
async fn delete_reply_queues(account: &Account) -> anyhow::Result<()> {
    let prefix = format!("{}-speaker-", account.cluster);
    let output = account.sqs.list_queues().queue_name_prefix(&prefix).recorded().send().await;
    for url in output.map_err(|e| classify("queues", e))?.queue_urls.unwrap_or_default() {
        match account.sqs.delete_queue().queue_url(&url).recorded().send().await {
            Err(error) if !code(&error).ends_with("NonExistentQueue") && !code(&error).ends_with("DoesNotExist") => {
                return Err(classify(&url, error).into());
            }
            _ => eprintln!("deleted the reply queue {url}"),
        }
    }
    Ok(())
}
